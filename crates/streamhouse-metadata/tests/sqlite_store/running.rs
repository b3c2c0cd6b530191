//! A full disk, clocks, and what happens beside each other.

use std::sync::Arc;
use std::time::Duration;

use streamhouse_metadata::clock::Clock as _;
use streamhouse_metadata::conformance::bench::{
    Agent, Bench as _, batch, inline, partition_of, stamped, topic, whole_log,
};
use streamhouse_metadata::ids::StoreTime;
use streamhouse_metadata::sqlite::{SqliteStore, Watched};
use streamhouse_metadata::store::{CommitError, StoreError};
use streamhouse_metadata::testing::ManualClock;
use streamhouse_observability::Health;
use streamhouse_observability::health::ComponentState;

use crate::files::Files;

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

/// One run under a clock that is a week ahead puts the store's time there for good; records keep their producers'.
#[tokio::test]
async fn retention_goes_by_the_clocks_of_producers_where_the_stores_is_ahead() {
    let mut files = Files::new(false);
    let p = partition_of(&topic(&files, "t", 1).await, 0);
    let right = files.clock.now();
    files.advance(Duration::from_secs(8 * 24 * 60 * 60));
    files.restart().await;
    files.store().register("localhost:9092").await.unwrap();
    files.clock = Arc::new(ManualClock::at(right));
    files.restart().await;
    assert!(files.store().now().await.unwrap().0 > right.0 + 7 * 24 * 60 * 60 * 1_000);
    let mut agent = Agent::start(&files).await;
    agent.put(&files, &[batch(p, 1, right.0)]).await;
    let kept = files.store().enforce_retention(&[p]).await.unwrap();
    assert_eq!(kept.raised, [], "a record of just now is not a week old");
    files.advance(Duration::from_secs(8 * 24 * 60 * 60));
    let gone = files.store().enforce_retention(&[p]).await.unwrap();
    assert_eq!(gone.raised, [(p, 1)]);
}

/// Producers without a pause: there is always one commit more.
#[tokio::test]
async fn settling_comes_to_its_end_and_trims_the_log_while_commits_go_on() {
    let files = Files::new(false);
    let p = partition_of(&topic(&files, "t", 1).await, 0);
    let mut agent = Agent::start(&files).await;
    for _ in 0..20 {
        agent.put(&files, &[batch(p, 1, 0)]).await;
    }
    files.advance(Duration::from_secs(61));
    let mut rounds = 0;
    while {
        agent.put(&files, &[batch(p, 1, 0)]).await;
        !files.store().settle().await.unwrap()
    } {
        rounds += 1;
        assert!(rounds < 5, "it runs after what comes");
    }
    let conn = rusqlite::Connection::open(files.directory.path().join("metadata.db")).unwrap();
    let commits: i64 = conn
        .query_row("SELECT count(*) FROM commits", [], |row| row.get(0))
        .unwrap();
    assert!(
        commits <= rounds + 2,
        "{commits} commits are kept, of which 20 are old"
    );
}

/// Each commit leaves more rows than a slice takes: who wanted all of them would never be done.
#[tokio::test]
async fn settling_wants_no_more_than_was_there_when_it_began() {
    let mut files = Files::new(false);
    files.store = None;
    let mut options = files.options("metadata.db");
    options.settle_rows_max = 3;
    files.store = Some(Arc::new(SqliteStore::open(options).unwrap()));
    let topic = topic(&files, "t", 8).await;
    let batches: Vec<_> = (0..8).map(|i| batch(partition_of(&topic, i), 1, 0)).collect();
    let mut agent = Agent::start(&files).await;
    agent.put(&files, &batches).await;
    let mut slices = 1;
    while !files.store().settle().await.unwrap() {
        agent.put(&files, &batches).await;
        slices += 1;
        assert!(slices < 10, "it runs after what comes");
    }
    assert!(slices >= 3, "{slices} slices of three rows for eight rows");
}
