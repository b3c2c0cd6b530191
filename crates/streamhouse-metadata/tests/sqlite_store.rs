//! What only the SQLite store promises: its lock, its bounds, its schema, and that a crash at any moment
//! loses nothing that was answered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use streamhouse_metadata::clock::Clock;
use streamhouse_metadata::conformance::bench::{
    Agent, Bench, LIMITS, batch, inline, object, partition_of, settle, stamped, topic, whole_log,
};
use streamhouse_metadata::ids::{StoreTime, TopicPartition};
use streamhouse_metadata::model::group::{CommittedOffset, GroupKind, GroupState, GroupSummary, GroupWrite};
use streamhouse_metadata::model::retention::DeleteUpTo;
use streamhouse_metadata::model::segment::LocatedSegment;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig};
use streamhouse_metadata::model::transaction::{MarkerObject, Markers, TransactionResult};
use streamhouse_metadata::sqlite::{Location, OpenError, SqliteOptions, SqliteStore, Watched};
use streamhouse_metadata::store::transactions::{EncodeMarkers, EndTransaction, InitTransaction};
use streamhouse_metadata::store::{CommitError, MetadataStore, StoreError};
use streamhouse_metadata::testing::ManualClock;
use streamhouse_observability::Health;
use streamhouse_observability::health::ComponentState;
use tempfile::TempDir;

struct Files {
    directory: TempDir,
    store: Option<Arc<SqliteStore>>,
    clock: Arc<ManualClock>,
    tight: bool,
}

impl Files {
    fn new(tight: bool) -> Self {
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

    fn options(&self, name: &str) -> SqliteOptions {
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
    fn crash(&mut self, generation: usize) {
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

fn with(path: &Path, suffix: &str) -> std::path::PathBuf {
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

#[tokio::test]
async fn trace_27_a_second_opener_is_refused_until_the_first_is_gone() {
    let mut files = Files::new(false);
    let path = files.directory.path().join("metadata.db");
    let second = SqliteStore::open(files.options("metadata.db"));
    assert!(matches!(second.err(), Some(OpenError::Locked { path: locked }) if locked == path));
    // Refused without having touched anything: the first goes on.
    topic(&files, "t", 1).await;
    files.store = None;
    SqliteStore::open(files.options("metadata.db")).unwrap();
}

#[tokio::test]
async fn a_closed_store_answers_nothing_and_releases_its_threads() {
    let files = Files::new(false);
    topic(&files, "t", 1).await;
    files.store().close().await.unwrap();
    let refused = files.store().register("a:1").await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_database_that_was_removed_takes_nothing_until_it_is_back() {
    let files = Files::new(false);
    let p = partition_of(&topic(&files, "t", 1).await, 0);
    let mut agent = Agent::start(&files).await;
    agent.put(&files, &[stamped(p, 7, 0, 0, 1)]).await;
    for name in ["metadata.db", "metadata.db-wal"] {
        let path = files.directory.path().join(name);
        let away = files.directory.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        let refused = files.store().register("a:1").await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        // Another file under its name is not it.
        std::fs::write(&path, b"").unwrap();
        let refused = files.store().probe(true).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        std::fs::rename(&away, &path).unwrap();
        files.store().probe(true).await.unwrap();
    }
    agent.put(&files, &[stamped(p, 7, 0, 1, 1)]).await;
    assert_eq!(whole_log(&files, p).await.len(), 2);
}

/// What health says of a store, in the words of its report.
fn seen(health: &Health) -> Vec<(&'static str, bool, Option<String>)> {
    let components = health.ready().components.into_iter();
    components
        .map(|each| (each.component, each.state == ComponentState::Ok, each.last_error))
        .collect()
}

#[tokio::test]
async fn health_hears_of_writes_that_fail_and_whose_fault_it_is() {
    let mut files = Files::new(false);
    files.store = None;
    let health = Health::new();
    let disk = health.disk();
    let mut options = files.options("watched.db");
    options.size_max_bytes = Some(400 << 10);
    let watched = Watched {
        store: health.component("metadata"),
        room: Some(disk.user(files.directory.path().to_path_buf(), 1)),
    };
    options.watched = Some(watched);
    files.store = Some(Arc::new(SqliteStore::open(options).unwrap()));
    let p = partition_of(&topic(&files, "t", 1).await, 0);
    let mut agent = Agent::start(&files).await;
    agent.put(&files, &[stamped(p, 7, 0, 0, 1)]).await;
    assert!(seen(&health).iter().all(|(_, ok, error)| *ok && error.is_none()));
    let report = health.ready();
    let metadata = report.components.iter().find(|each| each.component == "metadata");
    assert!(metadata.unwrap().latency_seconds.unwrap() > 0.0);

    let mut large = inline(2, &[stamped(p, 7, 0, 1, 1)]);
    large.payload = Some(vec![1; 600 << 10].into());
    assert!(agent.commit(&files, vec![large]).await.is_err());
    // What is read, or answered from memory, does not excuse it.
    files.store().probe(false).await.unwrap();
    files.store().topics().await.unwrap();
    let [(_, disk_ok, Some(error)), (_, metadata_ok, None)] = &seen(&health)[..] else {
        panic!("{:?}", seen(&health));
    };
    assert!(!disk_ok && *metadata_ok && error.contains("full"), "{error}");
    files.store().probe(true).await.unwrap();
    assert!(seen(&health).iter().all(|(_, ok, _)| *ok));

    let path = files.directory.path().join("watched.db");
    std::fs::remove_file(&path).unwrap();
    for _ in 0..3 {
        assert!(files.store().probe(true).await.is_err());
        files.store().probe(false).await.unwrap();
    }
    let [(_, disk_ok, _), (_, metadata_ok, Some(error))] = &seen(&health)[..] else {
        panic!("{:?}", seen(&health));
    };
    assert!(*disk_ok && !metadata_ok && error.contains("removed"), "{error}");
}

#[test]
fn a_newer_schema_and_a_foreign_file_are_refused_by_name() {
    let files = Files::new(false);
    let newer = files.directory.path().join("newer.db");
    drop(SqliteStore::open(files.options("newer.db")).unwrap());
    let conn = rusqlite::Connection::open(&newer).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let refused = SqliteStore::open(files.options("newer.db")).err();
    assert!(
        matches!(refused, Some(OpenError::NewerSchema { found: 99, .. })),
        "{refused:?}"
    );

    let foreign = files.directory.path().join("foreign.db");
    let conn = rusqlite::Connection::open(&foreign).unwrap();
    conn.execute_batch("CREATE TABLE mine (x)").unwrap();
    drop(conn);
    let before = std::fs::read(&foreign).unwrap();
    let refused = SqliteStore::open(files.options("foreign.db")).err();
    assert!(matches!(refused, Some(OpenError::Foreign { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&foreign).unwrap(), before, "not touched");

    std::fs::write(files.directory.path().join("noise.db"), [7_u8; 8192]).unwrap();
    assert!(SqliteStore::open(files.options("noise.db")).is_err());
}

#[tokio::test]
async fn a_database_of_before_records_end_learns_where_its_records_end() {
    let mut files = Files::new(false);
    let topic = topic(&files, "t", 4).await;
    let [written, joined, emptied, plain] = [0, 1, 2, 3].map(|at| partition_of(&topic, at));
    let mut agent = Agent::start(&files).await;
    agent
        .put(
            &files,
            &[batch(written, 3, 0), batch(emptied, 5, 0), batch(plain, 2, 0)],
        )
        .await;
    let store = files.store();
    commit_markers(&*store, &[written, joined]).await;
    settle(&files).await;
    let deleted = store
        .delete_records(&[(emptied, DeleteUpTo::HighWatermark)])
        .await;
    deleted.unwrap();
    while !store.trim_logs(10).await.unwrap() {}
    // The last ones are not merged.
    commit_markers(&*store, &[written]).await;
    let group = GroupWrite {
        group: "g".to_owned(),
        coordinator_epoch: None,
        summary: GroupSummary {
            kind: GroupKind::Classic,
            state: GroupState::Empty,
            protocol_type: String::new(),
            members: 0,
        },
        payload: Vec::new().into(),
        members: Vec::new(),
    };
    let epoch = store.write_group(group, 1).await.unwrap();
    let offset = CommittedOffset {
        offset: 0,
        leader_epoch: -1,
        metadata: String::new(),
    };
    let offsets = [written, joined, emptied, plain].map(|partition| (partition, offset.clone()));
    store.commit_offsets("g", epoch, offsets.into()).await.unwrap();
    drop(store);
    files.store = None;
    let conn = rusqlite::Connection::open(files.directory.path().join("metadata.db")).unwrap();
    conn.execute_batch("ALTER TABLE partitions DROP COLUMN records_end; PRAGMA user_version = 5")
        .unwrap();
    drop(conn);
    files.restart().await;
    let snapshots = files.store().group_snapshots().await.unwrap();
    let ends = snapshots[0].lags.iter();
    let ends: Vec<_> = ends.map(|lag| (lag.records_end, lag.high_watermark)).collect();
    assert_eq!(ends, [(3, 5), (0, 1), (5, 5), (2, 2)]);
}

/// Markers in these partitions, of a transaction that wrote nothing.
async fn commit_markers(store: &dyn MetadataStore, partitions: &[TopicPartition]) {
    let encode: EncodeMarkers = Arc::new(|markers: &Markers<'_>| MarkerObject {
        payload: vec![7; markers.partitions.len()].into(),
        batches: (0..).take(markers.partitions.len()).map(|at| (at, 1)).collect(),
    });
    let init = InitTransaction {
        transactional_id: "id".to_owned(),
        timeout_ms: 60_000,
        recovering: None,
        transactional_ids_max: 1,
        encode: encode.clone(),
    };
    let producer = store.init_transaction(init).await.unwrap().producer;
    store.add_partitions("id", producer, partitions).await.unwrap();
    let end = EndTransaction {
        transactional_id: "id".to_owned(),
        producer,
        result: TransactionResult::Commit,
        bump_epoch: false,
        encode,
    };
    let ended = store.end_transaction(end).await.unwrap();
    assert_eq!(ended.markers.len(), partitions.len());
}

#[tokio::test]
async fn a_full_disk_refuses_the_commit_and_changes_nothing() {
    let mut files = Files::new(false);
    files.store = None;
    let mut options = files.options("small.db");
    options.size_max_bytes = Some(400 << 10);
    files.store = Some(Arc::new(SqliteStore::open(options).unwrap()));
    let p = partition_of(&topic(&files, "t", 1).await, 0);
    let mut agent = Agent::start(&files).await;
    agent.put(&files, &[stamped(p, 7, 0, 0, 1)]).await;
    let mut large = inline(2, &[stamped(p, 7, 0, 1, 1)]);
    large.payload = Some(vec![1; 600 << 10].into());
    let full = agent.commit(&files, vec![large]).await;
    assert!(
        matches!(full, Err(CommitError::Store(StoreError::Full(_)))),
        "{full:?}"
    );
    assert_eq!(whole_log(&files, p).await.len(), 1);
    assert_eq!(files.store().inline_backlog().await.unwrap().objects, 0);
    // The number is free, the sequence as well, and the store goes on.
    agent.counter = 2;
    let next = agent.put(&files, &[stamped(p, 7, 0, 1, 1)]).await;
    assert_eq!(next, [streamhouse_metadata::conformance::bench::appended(1)]);
}

#[tokio::test]
async fn time_goes_on_from_what_was_stored_when_the_clock_was_set_back() {
    let mut files = Files::new(false);
    topic(&files, "t", 1).await;
    let before = files.store().now().await.unwrap();
    files.clock = Arc::new(ManualClock::at(StoreTime(before.0 - 3_600_000)));
    files.restart().await;
    let after = files.store().now().await.unwrap();
    assert!(after >= before, "{after:?} is before {before:?}");
    files.advance(Duration::from_secs(5));
    assert_eq!(
        files.store().now().await.unwrap().0,
        after.0 + 5_000,
        "and it moves"
    );
    let machine = streamhouse_metadata::clock::AnchoredClock::new();
    assert!(machine.now() >= machine.now().min(StoreTime(1_600_000_000_000)));
}

#[tokio::test]
async fn reads_go_on_while_rows_move_from_memory_to_the_table() {
    let files = Arc::new(Files::new(true));
    let p = partition_of(&topic(&*files, "t", 1).await, 0);
    let reading = tokio::spawn({
        let files = Arc::clone(&files);
        async move {
            let mut seen = 0;
            while seen < 300 {
                let log = whole_log(&*files, p).await;
                assert!(log.len() >= seen, "a look-up lost {} segments", seen - log.len());
                seen = log.len();
                tokio::task::yield_now().await;
            }
        }
    });
    let mut agent = Agent::start(&*files).await;
    for _ in 0..300 {
        agent.put(&*files, &[batch(p, 1, 0)]).await;
    }
    reading.await.unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Commit {
        partitions: Vec<(usize, u32)>,
        inline: bool,
        idempotent: bool,
    },
    Settle,
    Restart,
    Crash,
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let partitions = proptest::collection::vec((0..4_usize, 1..5_u32), 1..5);
    prop_oneof![
        12 => (partitions, any::<bool>(), any::<bool>())
            .prop_map(|(partitions, inline, idempotent)| Step::Commit { partitions, inline, idempotent }),
        3 => Just(Step::Settle),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
        1 => (0..90_000_u32).prop_map(Step::Pass),
    ]
}

/// What has to be the same after a crash: every segment with its object, and the duplicates' answers.
async fn logs(files: &Files, partitions: &[TopicPartition]) -> Vec<Vec<LocatedSegment>> {
    let mut logs = Vec::new();
    for partition in partitions {
        logs.push(whole_log(files, *partition).await);
    }
    logs
}

#[test]
fn a_crash_at_any_point_of_settling_keeps_every_answered_commit() {
    let mut runner = TestRunner::new(Config {
        cases: 24,
        ..Config::default()
    });
    let steps = proptest::collection::vec(step(), 1..40);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let run = |steps: Vec<Step>| {
        runtime.block_on(play(steps));
        Ok(())
    };
    runner.run(&steps, run).unwrap();
}

async fn play(steps: Vec<Step>) {
    let mut files = Files::new(true);
    let new = NewTopic {
        name: "t".to_owned(),
        partitions: 4,
        config: TopicConfig::default(),
    };
    let topic = files.store().create_topic(new, LIMITS).await.unwrap();
    let partitions: Vec<_> = (0..4).map(|i| partition_of(&topic, i)).collect();
    let mut agent = Agent::start(&files).await;
    let mut records = [0_i64; 4];
    let mut sequences = [0_i32; 4];
    for (place, step) in steps.into_iter().enumerate() {
        match step {
            Step::Commit {
                partitions: written,
                inline: in_row,
                idempotent,
            } => {
                let mut batches = Vec::new();
                for (i, count) in written {
                    let plain = batch(partitions[i], count, i64::try_from(place).unwrap());
                    if idempotent {
                        batches.push(stamped(partitions[i], 7, 0, sequences[i], count));
                        sequences[i] += i32::try_from(count).unwrap();
                    } else {
                        batches.push(plain);
                    }
                    records[i] += i64::from(count);
                }
                agent.counter += 1;
                let make = if in_row { inline } else { object };
                let request = agent.request(&files, vec![make(agent.counter, &batches)]).await;
                let answer = files.store().commit(request.clone()).await.unwrap();
                agent.number += 1;
                assert_eq!(files.store().commit(request).await.unwrap(), answer, "a repeat");
            }
            Step::Settle => {
                files.store().settle().await.unwrap();
            }
            Step::Restart | Step::Crash => {
                let before = logs(&files, &partitions).await;
                let backlog = files.store().inline_backlog().await.unwrap();
                if matches!(step, Step::Crash) {
                    files.crash(place);
                } else {
                    files.restart().await;
                }
                let after = logs(&files, &partitions).await;
                assert_eq!(format!("{after:?}"), format!("{before:?}"));
                assert_eq!(files.store().inline_backlog().await.unwrap(), backlog);
                agent = Agent {
                    counter: 0,
                    ..Agent::start(&files).await
                };
            }
            Step::Pass(by) => files.advance(Duration::from_millis(u64::from(by))),
        }
    }
    let snapshots = files.store().snapshots(&partitions).await.unwrap();
    let ends: Vec<_> = snapshots.into_iter().map(|s| s.unwrap().high_watermark).collect();
    assert_eq!(ends, records, "every record once");
    // Every inline object still has its bytes and, settled, its segments.
    let chosen = files.store().inline_batch(u64::MAX).await.unwrap();
    assert_eq!(
        chosen.objects.len() as u64,
        files.store().inline_backlog().await.unwrap().objects
    );
    for object in &chosen.objects {
        let payload = files.store().inline_payload(object.id).await.unwrap().unwrap();
        assert_eq!(payload.len() as u64, object.length_bytes);
    }
}
