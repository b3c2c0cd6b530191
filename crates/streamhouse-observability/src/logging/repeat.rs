//! Repeats in the log: one line per place, error type and topic in ten seconds; the next line says
//! how many were left out.
//!
//! The gate holds a bounded number of keys. Beyond it, a place's further keys share one entry, so a
//! flood of names cannot become a flood of lines or of memory.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a line stands for its repeats.
pub const REPEAT_WINDOW: Duration = Duration::from_secs(10);
const KEYS_MAX: usize = 4_096;
const OVERFLOW: &str = "~other";

type Key = (&'static str, String, String);

struct Entry {
    logged_at: Instant,
    suppressed: u64,
}

/// Decides whether a line is written. Shared by reference; one per process is enough.
pub struct RepeatGate {
    window: Duration,
    keys_max: usize,
    seen: Mutex<HashMap<Key, Entry>>,
}

impl Default for RepeatGate {
    fn default() -> Self {
        Self::new(REPEAT_WINDOW, KEYS_MAX)
    }
}

impl RepeatGate {
    #[must_use]
    pub fn new(window: Duration, keys_max: usize) -> Self {
        Self {
            window,
            keys_max,
            seen: Mutex::new(HashMap::new()),
        }
    }

    /// `Some(n)`: write the line, with `suppressed = n` for those left out since the last one.
    /// `None`: leave it out. `place` names the code that logs; `topic` may be empty.
    #[must_use]
    pub fn admit(&self, place: &'static str, error_type: &str, topic: &str) -> Option<u64> {
        self.admit_at(Instant::now(), place, error_type, topic)
    }

    /// [`Self::admit`] at a given time.
    #[must_use]
    pub fn admit_at(&self, now: Instant, place: &'static str, error_type: &str, topic: &str) -> Option<u64> {
        let mut seen = self.seen.lock();
        let mut key = (place, error_type.to_owned(), topic.to_owned());
        if seen.len() >= self.keys_max && !seen.contains_key(&key) {
            // What has nothing to tell any more makes room first.
            seen.retain(|_, entry| {
                entry.suppressed > 0 || now.saturating_duration_since(entry.logged_at) < self.window
            });
            if seen.len() >= self.keys_max {
                key = (place, OVERFLOW.to_owned(), OVERFLOW.to_owned());
            }
        }
        let Some(entry) = seen.get_mut(&key) else {
            seen.insert(
                key,
                Entry {
                    logged_at: now,
                    suppressed: 0,
                },
            );
            return Some(0);
        };
        if now.saturating_duration_since(entry.logged_at) < self.window {
            entry.suppressed += 1;
            return None;
        }
        entry.logged_at = now;
        Some(std::mem::take(&mut entry.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn repeats_within_the_window_are_left_out_and_counted_on_the_next_line() {
        let gate = RepeatGate::new(WINDOW, 8);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(gate.admit_at(at(0), "upload", "retry", "a"), Some(0));
        assert_eq!(gate.admit_at(at(1), "upload", "retry", "a"), None);
        assert_eq!(gate.admit_at(at(9), "upload", "retry", "a"), None);
        assert_eq!(gate.admit_at(at(10), "upload", "retry", "a"), Some(2));
        assert_eq!(gate.admit_at(at(20), "upload", "retry", "a"), Some(0));
    }

    #[test]
    fn place_error_type_and_topic_each_make_another_line() {
        let gate = RepeatGate::new(WINDOW, 8);
        let now = Instant::now();
        for (place, error_type, topic) in [
            ("upload", "retry", "a"),
            ("commit", "retry", "a"),
            ("upload", "failed", "a"),
            ("upload", "retry", "b"),
        ] {
            assert_eq!(gate.admit_at(now, place, error_type, topic), Some(0));
        }
        // Pieces that read the same when put together are still different keys.
        assert_eq!(gate.admit_at(now, "upload", "retrya", ""), Some(0));
    }

    #[test]
    fn keys_beyond_the_bound_share_one_entry_per_place() {
        let gate = RepeatGate::new(WINDOW, 2);
        let now = Instant::now();
        let admitted = (0..100)
            .filter(|n| gate.admit_at(now, "p", "e", &n.to_string()).is_some())
            .count();
        assert_eq!(admitted, 3);
        assert!(gate.seen.lock().len() <= 3);
        let later = now + WINDOW;
        assert_eq!(gate.admit_at(later, "p", "e", "new"), Some(0));
    }
}
