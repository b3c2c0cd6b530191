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
/// How many windows repeats wait for a next line to tell of them, where others need the room.
const WINDOWS_TOLD: u32 = 6;
/// Looking for room costs a walk over all keys: not for every name of a flood.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
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
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    entries: HashMap<Key, Entry>,
    swept_at: Option<Instant>,
}

impl Seen {
    /// What has nothing to tell any more, or had to wait too long for telling it, makes room.
    fn sweep(&mut self, now: Instant, window: Duration) {
        let recent = self
            .swept_at
            .is_some_and(|at| now.saturating_duration_since(at) < SWEEP_INTERVAL);
        if recent {
            return;
        }
        self.swept_at = Some(now);
        self.entries.retain(|_, entry| {
            let windows = if entry.suppressed > 0 { WINDOWS_TOLD } else { 1 };
            now.saturating_duration_since(entry.logged_at) < window * windows
        });
    }
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
            seen: Mutex::default(),
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
        if seen.entries.len() >= self.keys_max && !seen.entries.contains_key(&key) {
            seen.sweep(now, self.window);
            if seen.entries.len() >= self.keys_max {
                key = (place, OVERFLOW.to_owned(), OVERFLOW.to_owned());
            }
        }
        let Some(entry) = seen.entries.get_mut(&key) else {
            seen.entries.insert(
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
        assert!(gate.seen.lock().entries.len() <= 3);
        let later = now + WINDOW;
        assert_eq!(gate.admit_at(later, "p", "e", "new"), Some(0));
    }
    #[test]
    fn names_that_come_no_more_make_room_although_nobody_was_told_of_their_repeats() {
        let gate = RepeatGate::new(WINDOW, 2);
        let now = Instant::now();
        for name in ["a", "b", "a", "b"] {
            let _ = gate.admit_at(now, "p", "e", name);
        }
        let own_line = |at, name: &str| {
            let admitted = gate.admit_at(at, "p", "e", name).is_some();
            let key = ("p", "e".to_owned(), name.to_owned());
            admitted && gate.seen.lock().entries.contains_key(&key)
        };
        assert!(!own_line(now + WINDOW, "c"), "they may still come and tell");
        assert!(own_line(now + WINDOW * WINDOWS_TOLD, "d"));
    }
}
