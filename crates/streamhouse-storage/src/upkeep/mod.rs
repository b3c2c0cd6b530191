//! Upkeep: what moves, frees and collects behind the write path.
//!
//! Each task is a struct with `run_once`, which does a bounded piece of work and says when there may be
//! more; [`scheduler`] decides when to call it. Invariants: whatever step a task dies at, nothing
//! acknowledged is lost; a task deletes a key only after nothing can name it any more; and where there
//! is nothing to do, neither store is asked.
//!
//! Not here: the rules of what may be swapped, purged or expired; those are the metadata store's.

pub mod abandoned;
pub mod compaction;
pub mod deleting;
pub mod expiry;
pub mod orphans;
pub mod retention;
pub mod scheduler;
pub mod verify;

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use streamhouse_metadata::ids::{IncarnationId, StoreTime};
use streamhouse_metadata::store::{MetadataStore, StoreError, SwapError};
use tokio::sync::watch;

use crate::reader::Tail;
use crate::writer::Identity;

/// What every task stands on.
#[derive(Clone)]
pub struct UpkeepParts {
    pub objects: Arc<dyn ObjectStore>,
    pub metadata: Arc<dyn MetadataStore>,
    /// Under which incarnation this agent writes now.
    pub identity: watch::Receiver<Identity>,
    /// Told of logs that begin later.
    pub tail: Arc<Tail>,
}

/// How upkeep behaves. Durations are of the metadata store's time where rows carry it.
#[derive(Clone, Debug)]
pub struct UpkeepOptions {
    /// Inline objects are moved into a stored one once they hold this many bytes …
    pub compact_bytes: u64,
    /// … or once the oldest of them is this old.
    pub compact_age: Duration,
    /// Bytes of inline objects that go into one stored object.
    pub compact_object_bytes: u64,
    /// How long after a PUT was given up, or its agent fenced, its object may still appear. Not less
    /// than the retry policy's PUT deadline.
    pub put_deadline: Duration,
    /// How long an object that nothing names is kept for readers that looked it up before.
    pub deleting_grace: Duration,
    /// Producer states idle for longer are forgotten. At least [`PRODUCER_EXPIRY_MIN`] (TRACES 19).
    pub producer_expiry: Duration,
    /// How long after a commit its consequences are looked for; many commits share one look.
    pub settle_after: Duration,
    /// How often retention is looked at while there is something to look at.
    pub retention_check_interval: Duration,
    /// Bytes of stored objects that are read back and checked in a second; 0: none.
    pub verify_bytes_per_second: u64,
}

/// Far beyond an agent's lease and a batch's deadline, so that no zombie's batch outlives its state.
pub const PRODUCER_EXPIRY_MIN: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self {
            compact_bytes: 8 * 1024 * 1024,
            compact_age: Duration::from_secs(10 * 60),
            compact_object_bytes: 8 * 1024 * 1024,
            put_deadline: Duration::from_secs(30),
            deleting_grace: Duration::from_secs(60),
            producer_expiry: Duration::from_secs(7 * 24 * 60 * 60),
            settle_after: Duration::from_secs(5),
            retention_check_interval: Duration::from_secs(5 * 60),
            verify_bytes_per_second: 0,
        }
    }
}

/// Settings under which upkeep would delete what is needed, or turn in circles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpkeepOptionsError {
    #[error("producers must be remembered for {PRODUCER_EXPIRY_MIN:?} at least, not {0:?}")]
    ProducerExpiryTooShort(Duration),
    #[error("a compacted object needs room for at least one byte")]
    NoObjectBytes,
}

impl UpkeepOptions {
    /// Refuses what the rules of TRACES 19 and common sense forbid.
    pub fn validate(&self) -> Result<(), UpkeepOptionsError> {
        if self.producer_expiry < PRODUCER_EXPIRY_MIN {
            return Err(UpkeepOptionsError::ProducerExpiryTooShort(self.producer_expiry));
        }
        if self.compact_object_bytes == 0 {
            return Err(UpkeepOptionsError::NoObjectBytes);
        }
        Ok(())
    }
}

/// Why a run ended early. What it had done stands; another run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    #[error(transparent)]
    Metadata(#[from] StoreError),
    #[error(transparent)]
    Objects(#[from] object_store::Error),
    /// This agent was fenced; the writer starts a new incarnation.
    #[error("incarnation {0} is fenced")]
    Fenced(IncarnationId),
}

impl UpkeepError {
    /// As the log calls it.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Metadata(error) => error.error_type(),
            Self::Objects(_) => "object_store",
            Self::Fenced(_) => "fenced",
        }
    }
}

impl From<SwapError> for UpkeepError {
    fn from(error: SwapError) -> Self {
        match error {
            SwapError::Fenced(incarnation) => Self::Fenced(incarnation),
            SwapError::Store(error) => Self::Metadata(error),
        }
    }
}

/// When a task wants to run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// Not before somebody says that there is work.
    #[default]
    Idle,
    /// There is more to do.
    Now,
    /// Something becomes due in this time.
    In(Duration),
}

/// The time from `now` until `since` is `age` old; zero when it is.
fn until(now: StoreTime, since: StoreTime, age: Duration) -> Duration {
    let due = since.0.saturating_add(millis(age));
    Duration::from_millis(u64::try_from(due.saturating_sub(now.0)).unwrap_or(0))
}

/// The moment `age` before `now`.
fn before(now: StoreTime, age: Duration) -> StoreTime {
    StoreTime(now.0.saturating_sub(millis(age)))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_reached_exactly_when_nothing_is_left_of_it() {
        let age = Duration::from_millis(100);
        assert_eq!(until(StoreTime(50), StoreTime(0), age), Duration::from_millis(50));
        assert_eq!(until(StoreTime(100), StoreTime(0), age), Duration::ZERO);
        assert_eq!(until(StoreTime(900), StoreTime(0), age), Duration::ZERO);
        assert_eq!(before(StoreTime(900), age), StoreTime(800));
    }

    #[test]
    fn trace_19_producers_are_never_forgotten_within_a_day() {
        let short = UpkeepOptions {
            producer_expiry: Duration::from_secs(3_600),
            ..UpkeepOptions::default()
        };
        assert!(matches!(
            short.validate(),
            Err(UpkeepOptionsError::ProducerExpiryTooShort(_))
        ));
        assert_eq!(UpkeepOptions::default().validate(), Ok(()));
    }
}
