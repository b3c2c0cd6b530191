//! How a SQLite store is opened, and why it may be refused.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamhouse_observability::health::RoomHandle;
use streamhouse_observability::{HealthHandle, Histogram};

use crate::clock::{AnchoredClock, Clock};

/// Where the database lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file; `-wal`, `-shm` and `.lock` lie beside it. Missing directories are made.
    File(PathBuf),
    /// Gone when the store is dropped: a named exception to "acknowledged means stored".
    Memory,
}

/// The bounds and the clock of a store. `Default` except for the location.
#[derive(Clone)]
pub struct SqliteOptions {
    pub location: Location,
    /// How long a sequence gap is answered with a retriable refusal (TRACES 7): longer than a batch may
    /// live (29 s and 5 s of grace) and an agent's lease, shorter than a client's patience (120 s).
    pub gap_timeout: Duration,
    /// Bytes that may lie inline in all (TRACES 31).
    pub inline_total_max: u64,
    /// Segment rows that may wait to be merged into the ordered table before commits help merging.
    pub unmerged_rows_max: usize,
    /// Commits that may wait likewise.
    pub unmerged_commits_max: u64,
    /// Segment rows and producers merged in one transaction: what a commit may have to wait for.
    pub settle_rows_max: usize,
    /// Producer states kept in memory although they are stored.
    pub cached_producers_max: usize,
    /// The database may not grow beyond this; `None`: as long as the disk has room.
    pub size_max_bytes: Option<u64>,
    pub clock: Arc<dyn Clock>,
    /// How long jobs wait for the thread that has the connection.
    pub waits: Option<Histogram>,
    /// Told how the database answers.
    pub watched: Option<Watched>,
}

/// Whom the store tells how it is. A full disk is the disk's fault, not the database's.
#[derive(Clone)]
pub struct Watched {
    pub store: HealthHandle,
    /// Where the database is a file.
    pub room: Option<RoomHandle>,
}

impl SqliteOptions {
    #[must_use]
    pub fn new(location: Location) -> Self {
        Self {
            location,
            gap_timeout: Duration::from_secs(60),
            inline_total_max: 256 << 20,
            unmerged_rows_max: 65_536,
            unmerged_commits_max: 4_096,
            settle_rows_max: 4_096,
            cached_producers_max: 50_000,
            size_max_bytes: None,
            clock: Arc::new(AnchoredClock::new()),
            waits: None,
            watched: None,
        }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another process (its lock is held)")]
    Locked { path: PathBuf },
    #[error("the metadata has schema {found}, this version knows up to {known}: use a newer StreamHouse")]
    NewerSchema { found: i64, known: i64 },
    #[error("{path} is a SQLite database, but not one of StreamHouse")]
    Foreign { path: PathBuf },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the metadata cannot be trusted: {0}")]
    Corrupt(String),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}
