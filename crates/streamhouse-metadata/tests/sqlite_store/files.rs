//! A store in files of its own, which a test restarts, crashes and ages.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamhouse_metadata::conformance::bench::Bench;
use streamhouse_metadata::ids::StoreTime;
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::testing::ManualClock;
use tempfile::TempDir;

pub(crate) struct Files {
    pub(crate) directory: TempDir,
    pub(crate) store: Option<Arc<SqliteStore>>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) tight: bool,
}

impl Files {
    pub(crate) fn new(tight: bool) -> Self {
        let clock = Arc::new(ManualClock::at(StoreTime(1_700_000_000_000)));
        let mut files = Self {
            directory: TempDir::new().unwrap(),
            store: None,
            clock,
            tight,
        };
        files.store = Some(Arc::new(SqliteStore::open(files.options("metadata.db")).unwrap()));
        files
    }

    pub(crate) fn options(&self, name: &str) -> SqliteOptions {
        let mut options = SqliteOptions::new(Location::File(self.directory.path().join(name)));
        options.clock = self.clock.clone();
        if self.tight {
            options.unmerged_rows_max = 10;
            options.settle_rows_max = 3;
            options.cached_producers_max = 2;
        }
        options
    }

    /// What `kill -9` leaves: the files as they are now, with whatever stands in the log only.
    pub(crate) fn crash(&mut self, generation: usize) {
        let (from, to) = (
            self.directory.path().join("metadata.db"),
            format!("crash-{generation}.db"),
        );
        let to = self.directory.path().join(to);
        for suffix in ["", "-wal"] {
            std::fs::copy(with(&from, suffix), with(&to, suffix)).unwrap();
        }
        self.store = None;
        for suffix in ["", "-wal"] {
            std::fs::rename(with(&to, suffix), with(&from, suffix)).unwrap();
        }
        let _ = std::fs::remove_file(with(&from, "-shm"));
        self.store = Some(Arc::new(SqliteStore::open(self.options("metadata.db")).unwrap()));
    }
}

pub(crate) fn with(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[async_trait::async_trait]
impl Bench for Files {
    fn store(&self) -> Arc<dyn MetadataStore> {
        self.store.clone().unwrap()
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn restart(&mut self) {
        self.store = None;
        self.store = Some(Arc::new(SqliteStore::open(self.options("metadata.db")).unwrap()));
    }

    fn gap_timeout(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn inline_total_max(&self) -> u64 {
        256 << 20
    }
}
