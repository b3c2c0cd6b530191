//! A disk that refuses a write: the store must not go on as if nothing had happened.
//!
//! The kernel is told to refuse every write of this process beyond one byte of a file, which SQLite
//! sees as it would see a failed write or fsync of the device. The limit concerns the whole process, so this
//! test has a binary of its own. That a failed fsync is mapped like a failed write is tested beside the mapping.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use streamhouse_metadata::conformance::bench::LIMITS;
use streamhouse_metadata::ids::{StoreTime, TopicPartition};
use streamhouse_metadata::model::commit::{BatchEntry, CommitObject, CommitRequest};
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::{CommitError, MetadataStore, StoreError};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// What the kernel sends beside the refusal; its default is to end the process.
const SIGXFSZ: i32 = 25;

#[tokio::test]
async fn trace_26_after_a_failed_write_nothing_is_accepted_and_what_was_acknowledged_is_there() {
    let _caught = signal(SignalKind::from_raw(SIGXFSZ)).unwrap();
    let directory = TempDir::new().unwrap();
    let open =
        || SqliteStore::open(SqliteOptions::new(Location::File(directory.path().join("m.db")))).unwrap();
    let store = open();
    let new = NewTopic {
        name: "orders".to_owned(),
        partitions: 1,
        config: TopicConfig::default(),
    };
    let partition = TopicPartition {
        topic: store.create_topic(new, LIMITS).await.unwrap().id,
        partition: 0,
    };
    let incarnation = store.register("localhost:9092").await.unwrap().incarnation;
    let commit = async |number: u64| {
        let batch = BatchEntry {
            index: 0,
            partition,
            position: 0,
            length_bytes: 100,
            record_count: 5,
            max_timestamp: 0,
            producer: None,
            transaction: None,
        };
        let object = CommitObject {
            counter: number,
            length_bytes: 100,
            payload: None,
            batches: vec![batch],
        };
        let request = CommitRequest {
            incarnation,
            number,
            valid_until: StoreTime(i64::MAX),
            objects: vec![object],
            lowest_undecided: number,
        };
        store.commit(request).await
    };
    commit(1).await.unwrap();

    let before = getrlimit(Resource::Fsize);
    let one_byte = Rlimit {
        current: Some(1),
        ..before
    };
    setrlimit(Resource::Fsize, one_byte).unwrap();
    let refused = commit(2).await;
    setrlimit(Resource::Fsize, before).unwrap();
    let damaged = |answer| matches!(answer, Err(CommitError::Store(StoreError::Damaged(_))));
    assert!(damaged(refused.clone()), "{refused:?}");
    // The disk would take it now; but what became of the write before is not known.
    assert!(damaged(commit(2).await));
    let _ = store.close().await;
    drop(store);

    let snapshots = open().snapshots(&[partition]).await.unwrap();
    assert_eq!(snapshots[0].as_ref().unwrap().high_watermark, 5);
}
