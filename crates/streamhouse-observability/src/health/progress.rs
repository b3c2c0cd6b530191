//! Progress that must not stop: work is queued, so within a limit something has to happen.
//!
//! The watched side stores two numbers and never waits; whoever asks compares them with the time. So
//! the answer needs nothing from the side that may hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Clock;

/// A handle for the watched side. Cloning shares it.
#[derive(Clone)]
pub struct ProgressWatch(Arc<Inner>);

struct Inner {
    clock: Clock,
    stall_max: Duration,
    queued: AtomicU64,
    /// Nanoseconds on the clock.
    last_progress: AtomicU64,
}

impl ProgressWatch {
    pub(super) fn new(clock: Clock, stall_max: Duration) -> Self {
        let watch = Self(Arc::new(Inner {
            clock,
            stall_max,
            queued: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
        }));
        watch.progress();
        watch
    }

    /// Something was finished, given up or withdrawn.
    pub fn progress(&self) {
        let now = (self.0.clock)();
        self.0
            .last_progress
            .store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How much work waits. Less than before is progress; the first work after none starts the time.
    pub fn set_queued(&self, queued: u64) {
        let before = self.0.queued.swap(queued, Relaxed);
        if queued < before || before == 0 {
            self.progress();
        }
    }

    /// How long queued work has seen no progress, once that is too long.
    #[must_use]
    pub fn stalled_for(&self) -> Option<Duration> {
        if self.0.queued.load(Relaxed) == 0 {
            return None;
        }
        let last = Duration::from_nanos(self.0.last_progress.load(Relaxed));
        let silent = (self.0.clock)().saturating_sub(last);
        (silent >= self.0.stall_max).then_some(silent)
    }
}
