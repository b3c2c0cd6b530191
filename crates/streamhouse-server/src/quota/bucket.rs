//! What a rate allows: a bucket of ten seconds' worth that is filled all the time and may be overdrawn.
//!
//! Kafka averages over about ten seconds, so a burst of that size is free and what goes beyond is waited
//! for. Pure: the caller brings the time.

use std::time::Duration;

use tokio::time::Instant;

/// How many seconds of the rate may be spent at once.
const BURST_SECONDS: f64 = 10.0;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// What may be spent; below 0 what is owed.
    bytes: f64,
    rate: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(rate: f64, now: Instant) -> Self {
        Self {
            bytes: rate * BURST_SECONDS,
            rate,
            at: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.bytes = (self.bytes + seconds * self.rate).min(self.rate * BURST_SECONDS);
        self.at = now;
    }

    /// Takes `bytes`; how long until nothing is owed.
    pub(super) fn spend(&mut self, rate: f64, bytes: usize, now: Instant) -> Duration {
        self.fill(now);
        // A new rate counts from here on.
        self.rate = rate;
        self.bytes = self.bytes.min(rate * BURST_SECONDS) - bytes as f64;
        if self.bytes >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.bytes / rate).unwrap_or(Duration::MAX)
    }

    pub(super) fn owes(&self, now: Instant) -> bool {
        let mut then = *self;
        then.fill(now);
        then.bytes < 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_what_goes_beyond_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::full(1_000.0, start);
        assert_eq!(bucket.spend(1_000.0, 10_000, start), Duration::ZERO);
        assert_eq!(bucket.spend(1_000.0, 500, start), Duration::from_millis(500));
        assert!(bucket.owes(start));
        let later = start + Duration::from_millis(500);
        assert!(!bucket.owes(later));
        assert_eq!(bucket.spend(1_000.0, 1_000, later), Duration::from_secs(1));
        let rested = later + Duration::from_secs(60);
        assert_eq!(bucket.spend(1_000.0, 10_000, rested), Duration::ZERO);
        // Another rate: less room, and a debt weighs more.
        assert_eq!(bucket.spend(100.0, 100, rested), Duration::from_secs(1));
    }
}
