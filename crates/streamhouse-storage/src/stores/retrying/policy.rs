//! How long a call may take and how its attempts are spaced.

use std::time::Duration;

/// Limits of one kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// The whole call, all attempts and pauses together.
    pub deadline: Duration,
    /// One attempt, to its last byte.
    pub attempt: Duration,
}

/// The limits of every kind of call. A PUT's deadline is also how long after giving a key up its
/// object may still appear, and so how long its deletion waits (TRACES 11, 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// At most 30 s: a hung upload holds its successors back no longer.
    pub put: Patience,
    /// GET and HEAD; at most 10 s.
    pub get: Patience,
    /// One whole listing.
    pub list: Patience,
    /// One key.
    pub delete: Patience,
    /// The first pause; each following one is twice as long.
    pub backoff_first: Duration,
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let patience = |deadline, attempt| Patience {
            deadline: Duration::from_secs(deadline),
            attempt: Duration::from_secs(attempt),
        };
        Self {
            put: patience(25, 12),
            get: patience(10, 5),
            list: patience(120, 60),
            delete: patience(20, 10),
            backoff_first: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
        }
    }
}
