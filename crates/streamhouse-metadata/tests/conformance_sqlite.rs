//! Runs the conformance suite on the SQLite store: in a file, in memory, and in a file with bounds so
//! small that every commit merges and every slice ends in the middle.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use streamhouse_metadata::conformance::Bench;
use streamhouse_metadata::ids::StoreTime;
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::testing::ManualClock;
use tempfile::TempDir;

const GAP_TIMEOUT: Duration = Duration::from_secs(120);
const INLINE_TOTAL_MAX: u64 = 5_000;

struct SqliteBench {
    store: Option<Arc<SqliteStore>>,
    directory: Option<TempDir>,
    clock: Arc<ManualClock>,
    tight: bool,
}

impl SqliteBench {
    fn open(&mut self) {
        let location = match &self.directory {
            Some(directory) => Location::File(path(directory)),
            None => Location::Memory,
        };
        let mut options = SqliteOptions::new(location);
        options.gap_timeout = GAP_TIMEOUT;
        options.inline_total_max = INLINE_TOTAL_MAX;
        options.clock = self.clock.clone();
        if self.tight {
            options.unmerged_rows_max = 3;
            options.unmerged_commits_max = 2;
            options.settle_rows_max = 2;
            options.cached_producers_max = 1;
        }
        self.store = Some(Arc::new(SqliteStore::open(options).expect("opened")));
    }
}

fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("new").join("metadata.db")
}

async fn bench(in_file: bool, tight: bool) -> SqliteBench {
    let directory = in_file.then(|| TempDir::new().expect("a directory"));
    let clock = Arc::new(ManualClock::at(StoreTime(1_700_000_000_000)));
    let mut bench = SqliteBench {
        store: None,
        directory,
        clock,
        tight,
    };
    bench.open();
    bench
}

#[async_trait]
impl Bench for SqliteBench {
    fn store(&self) -> Arc<dyn MetadataStore> {
        self.store.clone().expect("open")
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn restart(&mut self) {
        // A store in memory would lose everything: it goes on.
        if self.directory.is_some() {
            self.store = None;
            self.open();
        }
    }

    fn gap_timeout(&self) -> Duration {
        GAP_TIMEOUT
    }

    fn inline_total_max(&self) -> u64 {
        INLINE_TOTAL_MAX
    }
}

mod file {
    streamhouse_metadata::conformance_tests!(super::bench(true, false));
}

mod memory {
    streamhouse_metadata::conformance_tests!(super::bench(false, false));
}

mod file_with_tight_bounds {
    streamhouse_metadata::conformance_tests!(super::bench(true, true));
}
