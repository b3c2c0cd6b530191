//! Deadlines, retries and their counts, against a store that misbehaves on plan.

// clippy.toml allows it in test functions; here the functions beside them are tests as well.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutPayload};
use parking_lot::Mutex;
use streamhouse_observability::families::{Operation, StoreErrorType};
use streamhouse_observability::{Metrics, MetricsOptions};
use streamhouse_storage::stores::fault::{Stalled, find};
use streamhouse_storage::stores::faulty::{Call, Faulty, Plan};
use streamhouse_storage::stores::metered::Metered;
use streamhouse_storage::stores::retrying::{
    AttemptObserver, Jitter, ObservedAttempt, RetryPolicy, Retrying,
};
use tokio::time::Instant;

/// What an observer saw: one letter an attempt, `+` answered, `-` failed.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<String>>);

impl AttemptObserver for Seen {
    fn begun(&self, _: Operation) -> Box<dyn ObservedAttempt> {
        Box::new(self.clone())
    }
}

impl ObservedAttempt for Seen {
    fn succeeded(self: Box<Self>) {
        self.0.lock().push('+');
    }

    fn failed(self: Box<Self>, _: &Error) {
        self.0.lock().push('-');
    }
}

struct House {
    inner: Arc<InMemory>,
    faulty: Faulty,
    store: Retrying,
    metrics: Arc<Metrics>,
    seen: Arc<Seen>,
}

fn house() -> House {
    let metrics = Metrics::new(MetricsOptions::default());
    let inner = Arc::new(InMemory::new());
    let faulty = Faulty::new(Arc::clone(&inner) as Arc<dyn ObjectStore>);
    let metered = Metered::new(Arc::new(faulty.clone()), Arc::clone(&metrics));
    let seen = Arc::new(Seen::default());
    let store = Retrying::new(
        Arc::new(metered),
        RetryPolicy::default(),
        Arc::clone(&metrics),
        Arc::clone(&seen) as Arc<dyn AttemptObserver>,
        Jitter::seeded(1),
    );
    House {
        inner,
        faulty,
        store,
        metrics,
        seen,
    }
}

impl House {
    /// Requests, retries, failures of an operation so far.
    fn counts(&self, operation: Operation) -> (u64, u64, u64) {
        let store = &self.metrics.object_store;
        (
            store.requests(operation).value(),
            store.errors(operation, StoreErrorType::Retry).value(),
            store.errors(operation, StoreErrorType::Failed).value(),
        )
    }

    fn seen(&self) -> String {
        self.seen.0.lock().clone()
    }
}

fn key() -> Path {
    Path::from("objects/a")
}

fn payload() -> PutPayload {
    PutPayload::from_static(b"twelve bytes")
}

#[tokio::test(start_paused = true)]
async fn a_throttled_put_is_tried_again_and_each_attempt_counts() {
    let house = house();
    for status in [503, 429, 500] {
        house.faulty.plan(Call::Put, Plan::RefuseBefore(status));
    }
    house.store.put(&key(), payload()).await.unwrap();
    assert_eq!(house.counts(Operation::Put), (4, 3, 0));
    assert_eq!(house.metrics.object_store.latency(Operation::Put).count(), 4);
    assert_eq!(house.seen(), "---+");
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_reply_was_lost_does_not_fail_on_its_own_copy() {
    let house = house();
    house.faulty.plan(Call::Put, Plan::LoseReply);
    house.store.put(&key(), payload()).await.unwrap();
    assert_eq!(house.counts(Operation::Put), (2, 1, 0));
    let stored = house.inner.get(&key()).await.unwrap().bytes().await.unwrap();
    assert_eq!(stored, Bytes::from_static(b"twelve bytes"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_go_better_fails_at_once() {
    let house = house();
    house.faulty.plan(Call::Put, Plan::RefuseBefore(403));
    let start = Instant::now();
    house.store.put(&key(), payload()).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(house.counts(Operation::Put), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_is_an_answer_and_no_error() {
    let house = house();
    assert!(matches!(
        house.store.get(&key()).await,
        Err(Error::NotFound { .. })
    ));
    assert_eq!(house.counts(Operation::Get), (1, 0, 0));
    assert_eq!(house.seen(), "+");
}

/// The first attempt hangs to its limit, the second gets what is left of the deadline.
#[tokio::test(start_paused = true)]
async fn a_hung_put_ends_with_its_deadline_and_counts_one_failure() {
    let house = house();
    house.faulty.close_gate(Call::Put);
    let start = Instant::now();
    let error = house.store.put(&key(), payload()).await.unwrap_err();
    assert!(find::<Stalled>(&error).is_some(), "{error}");
    let policy = RetryPolicy::default();
    assert!(start.elapsed() <= policy.put.deadline && start.elapsed() > policy.put.attempt);
    let (requests, retries, failures) = house.counts(Operation::Put);
    assert_eq!((retries, failures), (requests - 1, 1));
    assert_eq!(
        house.metrics.object_store.latency(Operation::Put).count(),
        requests
    );
}

#[tokio::test(start_paused = true)]
async fn one_stalled_attempt_does_not_use_up_the_deadline() {
    let house = house();
    house.faulty.plan(Call::Put, Plan::Hang);
    house.store.put(&key(), payload()).await.unwrap();
    assert_eq!(house.counts(Operation::Put), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_given_up_within_the_deadline() {
    let house = house();
    for _ in 0..1_000 {
        house.faulty.plan(Call::Get, Plan::RefuseBefore(503));
    }
    let start = Instant::now();
    house.store.get(&key()).await.unwrap_err();
    assert!(start.elapsed() <= RetryPolicy::default().get.deadline);
    let (requests, retries, failures) = house.counts(Operation::Get);
    assert_eq!((retries, failures), (requests - 1, 1));
    assert!(
        (4..=20).contains(&requests),
        "{requests} attempts: pauses neither fixed nor gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_answer_is_noticed_and_asked_for_again() {
    let house = house();
    house.inner.put(&key(), payload()).await.unwrap();
    house.faulty.plan(Call::Get, Plan::Truncate(3));
    let bytes = house.store.get_range(&key(), 0..12).await.unwrap();
    assert_eq!(bytes, Bytes::from_static(b"twelve bytes"));
    assert_eq!(house.counts(Operation::Get), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_delete_whose_reply_was_lost_succeeds() {
    let house = house();
    house.inner.put(&key(), payload()).await.unwrap();
    house.faulty.plan(Call::Delete, Plan::LoseReply);
    house.store.delete(&key()).await.unwrap();
    assert_eq!(house.counts(Operation::Delete), (2, 1, 0));
    assert!(house.inner.head(&key()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_broke_off_is_begun_again_and_names_each_key_once() {
    let house = house();
    for name in ["a", "b", "c"] {
        house
            .inner
            .put(&Path::from(format!("objects/{name}")), payload())
            .await
            .unwrap();
    }
    house.faulty.plan(Call::List, Plan::LoseReply);
    let listing = house.store.list(Some(&Path::from("objects")));
    let keys: Vec<_> = listing
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(keys, ["objects/a", "objects/b", "objects/c"]);
    assert_eq!(house.counts(Operation::List), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_still_counts_its_attempt_and_its_time() {
    let house = house();
    house.faulty.plan(Call::Put, Plan::Hang);
    let limit = Duration::from_millis(300);
    tokio::time::timeout(limit, house.store.put(&key(), payload()))
        .await
        .unwrap_err();
    assert_eq!(house.counts(Operation::Put), (1, 0, 0));
    assert_eq!(house.metrics.object_store.latency(Operation::Put).count(), 1);
}

/// The object of the first line of level WARN.
#[derive(Clone, Default)]
struct Warned(Arc<Mutex<Option<String>>>);

impl tracing::field::Visit for Warned {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "object_id" {
            self.0.lock().get_or_insert_with(|| format!("{value:?}"));
        }
    }
}

impl tracing::Subscriber for Warned {
    // As at the usual level of the log: no span is there to name the object.
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

#[tokio::test(start_paused = true)]
async fn the_line_about_an_attempt_that_failed_names_its_object() {
    let house = house();
    house.inner.put(&key(), payload()).await.unwrap();
    let warned = Warned::default();
    let _logged = tracing::subscriber::set_default(warned.clone());
    // With a single one alive, a line that another test's thread meets first would be off for good.
    let _second = tracing::Dispatch::new(Warned::default());
    // A look: of each operation one line is written in ten seconds, and no other test here has it fail.
    house.faulty.plan(Call::Get, Plan::RefuseBefore(503));
    house.store.head(&key()).await.unwrap();
    assert_eq!(warned.0.lock().as_deref(), Some("objects/a"));
}
