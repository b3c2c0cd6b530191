//! Progress that must not stop: work is queued, so within a limit something has to happen.
//!
//! The watched side stores a few numbers and never waits; whoever asks compares them with the time. So
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
    /// Nanoseconds on the clock: when the last stall ended, or the watch began.
    well_since: AtomicU64,
    /// Nanoseconds that the last stall had lasted when it ended; [`NEVER`] before the first.
    last_stall: AtomicU64,
}

const NEVER: u64 = u64::MAX;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

impl ProgressWatch {
    pub(super) fn new(clock: Clock, stall_max: Duration) -> Self {
        let now = nanos(clock());
        Self(Arc::new(Inner {
            clock,
            stall_max,
            queued: AtomicU64::new(0),
            last_progress: AtomicU64::new(now),
            took: AtomicU64::new(NEVER),
            well_since: AtomicU64::new(now),
            last_stall: AtomicU64::new(NEVER),
        }))
    }

    /// Something was finished, given up or withdrawn.
    pub fn progress(&self) {
        self.moved(self.queued());
    }

    /// Progress of what had `waited`: with nothing waiting, silence was no stall.
    fn moved(&self, waited: u64) {
        let now = nanos((self.0.clock)());
        let silent = now.saturating_sub(self.0.last_progress.swap(now, Relaxed));
        if waited > 0 && Duration::from_nanos(silent) >= self.0.stall_max {
            self.0.last_stall.store(silent, Relaxed);
            self.0.well_since.store(now, Relaxed);
        }
    }

    /// [`Self::progress`] of something that took this long.
    pub fn progress_after(&self, took: Duration) {
        self.0.took.store(nanos(took), Relaxed);
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
            self.moved(before);
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

    /// How long it has been stalled, or not stalled.
    #[must_use]
    pub fn in_state_for(&self) -> Duration {
        match self.stalled_for() {
            Some(silent) => silent.saturating_sub(self.0.stall_max),
            None => {
                let since = Duration::from_nanos(self.0.well_since.load(Relaxed));
                (self.0.clock)().saturating_sub(since)
            }
        }
    }

    /// How long the last stall was that has ended, and how long ago that was.
    #[must_use]
    pub fn last_stall(&self) -> Option<(Duration, Duration)> {
        let silent = self.0.last_stall.load(Relaxed);
        let ended = Duration::from_nanos(self.0.well_since.load(Relaxed));
        (silent != NEVER).then(|| {
            (
                Duration::from_nanos(silent),
                (self.0.clock)().saturating_sub(ended),
            )
        })
    }
}
