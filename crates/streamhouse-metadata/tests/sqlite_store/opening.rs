//! Who may open the files, and what becomes of a store whose files are gone, foreign or from before.

use std::sync::Arc;

use streamhouse_metadata::conformance::bench::{
    Agent, Bench as _, batch, partition_of, settle, stamped, topic, whole_log,
};
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::group::{CommittedOffset, GroupKind, GroupState, GroupSummary, GroupWrite};
use streamhouse_metadata::model::retention::DeleteUpTo;
use streamhouse_metadata::model::transaction::{MarkerObject, Markers, TransactionResult};
use streamhouse_metadata::sqlite::{OpenError, SqliteStore};
use streamhouse_metadata::store::transactions::{EncodeMarkers, EndTransaction, InitTransaction};
use streamhouse_metadata::store::{MetadataStore, StoreError};

use crate::files::Files;

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
