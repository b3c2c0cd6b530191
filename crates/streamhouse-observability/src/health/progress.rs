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
    /// Nanoseconds that it took; [`NEVER`] before the first.
    took: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl ProgressWatch {
    pub(super) fn new(clock: Clock, stall_max: Duration) -> Self {
        let watch = Self(Arc::new(Inner {
            clock,
            stall_max,
            queued: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
            took: AtomicU64::new(NEVER),
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

    /// [`Self::progress`] of something that took this long.
    pub fn progress_after(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(NEVER);
        self.0.took.store(nanos, Relaxed);
        self.progress();
    }

    /// How long what was finished last had taken.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        let nanos = self.0.took.load(Relaxed);
        (nanos != NEVER).then(|| Duration::from_nanos(nanos))
    }

    /// How long ago the last progress was.
    #[must_use]
    pub fn since_progress(&self) -> Duration {
        let last = Duration::from_nanos(self.0.last_progress.load(Relaxed));
        (self.0.clock)().saturating_sub(last)
    }

    /// How much work waits. Less than before is progress; the first work after none starts the time.
    pub fn set_queued(&self, queued: u64) {
        let before = self.0.queued.swap(queued, Relaxed);
        if queued < before || before == 0 {
            self.progress();
        }
    }

    /// What was said last.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.0.queued.load(Relaxed)
    }

    /// How long queued work has seen no progress, once that is too long.
    #[must_use]
    pub fn stalled_for(&self) -> Option<Duration> {
        if self.0.queued.load(Relaxed) == 0 {
            return None;
        }
        let silent = self.since_progress();
        (silent >= self.0.stall_max).then_some(silent)
    }
}
