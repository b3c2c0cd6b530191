//! Cases of administration: configurations, quotas, logs that begin later, and what retention removes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bench::{
    Agent, BATCH_BYTES, Bench, appended, batch, look_up, partition_of, settle, topic, whole_log,
};
use crate::ids::{StoreTime, TopicId, TopicPartition};
use crate::model::client_metrics::ClientMetricsError;
use crate::model::commit::BatchOutcome;
use crate::model::quota::{QuotaChange, QuotaEntity, QuotaKey, QuotaName};
use crate::model::retention::DeleteUpTo;
use crate::model::segment::TimestampQuery;
use crate::model::topic::TopicConfigError;
use crate::model::topic_config::{ConfigChange, ConfigOp};
use crate::store::admin::{AlterClientMetricsError, AlterConfigError, DeleteRecordsError, QuotaError};

fn set(entries: &[(&str, &str)]) -> ConfigChange {
    let op = |(name, value): &(&str, &str)| ((*name).to_owned(), ConfigOp::Set((*value).to_owned()));
    ConfigChange {
        replace: false,
        ops: entries.iter().map(op).collect(),
    }
}

async fn configure(bench: &dyn Bench, topic: TopicId, entries: &[(&str, &str)]) {
    bench
        .store()
        .alter_topic_config(topic, set(entries))
        .await
        .expect("altered");
}

async fn delete(bench: &dyn Bench, p: TopicPartition, offset: i64) -> Result<i64, DeleteRecordsError> {
    let up_to = [(p, DeleteUpTo::Offset(offset))];
    let mut answers = bench.store().delete_records(&up_to).await.expect("answered");
    answers.pop().expect("one answer")
}

async fn trim(bench: &dyn Bench) {
    while !bench.store().trim_logs(3).await.expect("trimmed") {}
}

async fn start_of(bench: &dyn Bench, p: TopicPartition) -> i64 {
    let snapshots = bench.store().snapshots(&[p]).await.expect("snapshots");
    snapshots[0].as_ref().expect("a known partition").log_start_offset
}

async fn size_of(bench: &dyn Bench, p: TopicPartition) -> u64 {
    bench.store().partition_sizes(&[p]).await.expect("sizes")[0].expect("a known partition")
}

async fn deleting(bench: &dyn Bench) -> usize {
    let all = bench
        .store()
        .deleting_objects(StoreTime(i64::MAX), 1_000)
        .await
        .expect("listed");
    all.len()
}

pub async fn configurations_change_whole_and_survive_a_restart(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    configure(
        bench,
        topic.id,
        &[("retention.ms", "5"), ("retention.bytes", "6")],
    )
    .await;
    let refused = bench
        .store()
        .alter_topic_config(topic.id, set(&[("retention.ms", "7"), ("no.such", "1")]))
        .await;
    assert!(
        matches!(
            refused,
            Err(AlterConfigError::Config(TopicConfigError::Unknown(_)))
        ),
        "{refused:?}"
    );
    let reset = ConfigChange {
        replace: false,
        ops: vec![("retention.bytes".to_owned(), ConfigOp::Delete)],
    };
    let altered = bench
        .store()
        .alter_topic_config(topic.id, reset)
        .await
        .expect("altered");
    bench.restart().await;
    let found = bench.store().topics_by_id(&[topic.id]).await.expect("topics");
    assert_eq!(found, [Some(altered.clone())]);
    let entries: Vec<_> = altered.config.entries.into_iter().collect();
    assert_eq!(entries, [("retention.ms".to_owned(), "5".to_owned())]);
    bench.store().delete_topic(topic.id).await.expect("deleted");
    let unknown = bench.store().alter_topic_config(topic.id, set(&[])).await;
    assert!(matches!(unknown, Err(AlterConfigError::Unknown)), "{unknown:?}");
}

pub async fn quotas_change_together_are_bounded_and_survive_a_restart(bench: &mut dyn Bench) {
    let entity = |client: QuotaName| QuotaEntity {
        user: None,
        client_id: Some(client),
    };
    let change = |entity: &QuotaEntity, rate| QuotaChange {
        entity: entity.clone(),
        ops: vec![(QuotaKey::ProducerByteRate, rate)],
    };
    let (a, b) = (
        entity(QuotaName::Named("a".to_owned())),
        entity(QuotaName::Default),
    );
    let changes = [change(&a, Some(1024.5)), change(&b, Some(2.0))];
    let store = bench.store();
    store.alter_client_quotas(&changes, 2).await.expect("altered");
    let third = change(&entity(QuotaName::Named("c".to_owned())), Some(1.0));
    let refused = store.alter_client_quotas(&[third], 2).await;
    assert!(
        matches!(refused, Err(QuotaError::TooMany { limit: 2 })),
        "{refused:?}"
    );
    store
        .alter_client_quotas(&[change(&b, None)], 2)
        .await
        .expect("altered");
    drop(store);
    bench.restart().await;
    let rates = BTreeMap::from([(QuotaKey::ProducerByteRate, 1024.5)]);
    let quotas = bench.store().client_quotas().await.expect("quotas");
    assert_eq!(quotas, BTreeMap::from([(a, rates)]));
}

/// DeleteRecords: the log begins where it was told to, at once, for every question, and for good.
pub async fn client_metrics_subscriptions_are_bounded_and_survive_a_restart(bench: &mut dyn Bench) {
    let store = bench.store();
    for name in ["a", "b"] {
        let altered = store
            .alter_client_metrics(name, set(&[("metrics", "*")]), 2)
            .await;
        altered.expect("altered");
    }
    let refused = store.alter_client_metrics("c", set(&[("metrics", "*")]), 2).await;
    assert!(
        matches!(refused, Err(AlterClientMetricsError::TooMany { limit: 2 })),
        "{refused:?}"
    );
    // One that exists may still change; a change is taken whole or not at all.
    let wrong = set(&[("metrics", "x"), ("interval.ms", "1")]);
    let refused = store.alter_client_metrics("a", wrong, 2).await;
    let interval = AlterClientMetricsError::Config(ClientMetricsError::Interval("1".to_owned()));
    assert_eq!(refused.expect_err("too short").to_string(), interval.to_string());
    let changed = store
        .alter_client_metrics("a", set(&[("interval.ms", "1000")]), 2)
        .await;
    changed.expect("altered");
    let gone = ConfigChange {
        replace: true,
        ops: Vec::new(),
    };
    store
        .alter_client_metrics("b", gone.clone(), 2)
        .await
        .expect("removed");
    store
        .alter_client_metrics("nowhere", gone, 2)
        .await
        .expect("nothing to remove");
    drop(store);
    bench.restart().await;
    let found = bench.store().client_metrics().await.expect("subscriptions");
    let entries = [("interval.ms", "1000"), ("metrics", "*")];
    let entries = entries.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(found, BTreeMap::from([("a".to_owned(), BTreeMap::from(entries))]));
}

pub async fn trace_02_a_raised_log_start_holds_for_every_read_and_over_a_restart(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    for round in 0..4 {
        agent.put(bench, &[batch(p, 10, 100 * (round + 1))]).await;
        if round == 1 {
            settle(bench).await;
        }
    }
    assert_eq!(delete(bench, p, 25).await, Ok(25));
    assert_eq!(delete(bench, p, 5).await, Ok(25), "a log never begins earlier");
    assert_eq!(
        delete(bench, p, 41).await,
        Err(DeleteRecordsError::OutOfRange {
            offset: 41,
            high_watermark: 40
        })
    );
    let unknown = partition_of(&topic, 2);
    assert_eq!(
        delete(bench, unknown, 0).await,
        Err(DeleteRecordsError::UnknownPartition)
    );
    for restart in [false, true] {
        if restart {
            bench.restart().await;
            agent = Agent::start(bench).await;
        }
        assert_eq!(start_of(bench, p).await, 25);
        assert!(look_up(bench, p, 24, 1_000).await.is_empty());
        let log = whole_log(bench, p).await;
        let bases: Vec<_> = log.iter().map(|l| l.segment.base_offset).collect();
        assert_eq!(bases, [20, 30], "a segment partly below the start stays");
        let at_least = |timestamp| TimestampQuery::AtLeast(timestamp);
        let from = TimestampQuery::AtLeastFrom {
            timestamp: 1,
            offset: 30,
        };
        for (query, base) in [
            (at_least(1), 20),
            (at_least(301), 30),
            (from, 30),
            (TimestampQuery::Max, 30),
        ] {
            let found = bench.store().search_timestamp(p, query).await.expect("searched");
            let found = found.expect("a known partition").expect("found");
            assert_eq!(found.segment.base_offset, base, "{query:?}");
        }
    }
    let started = BatchOutcome::Appended {
        base_offset: 40,
        log_start_offset: 25,
    };
    assert_eq!(agent.put(bench, &[batch(p, 1, 0)]).await, [started]);
    let all = [(p, DeleteUpTo::HighWatermark)];
    assert_eq!(
        bench.store().delete_records(&all).await.expect("answered"),
        [Ok(41)]
    );
    let empty = bench.store().search_timestamp(p, TimestampQuery::Max).await;
    assert!(matches!(empty, Ok(Ok(None))), "{empty:?}");
}

pub async fn a_log_that_lost_its_largest_timestamp_has_another(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    for timestamp in [500, 100, 200] {
        agent.put(bench, &[batch(p, 10, timestamp)]).await;
    }
    assert_eq!(delete(bench, p, 10).await, Ok(10));
    for _ in 0..2 {
        let found = bench.store().search_timestamp(p, TimestampQuery::Max).await;
        let found = found.expect("searched").expect("known").expect("found");
        assert_eq!(found.segment.base_offset, 20);
        trim(bench).await;
    }
}

pub async fn what_lies_below_the_log_start_is_trimmed_and_its_objects_die(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let (p, q) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let mut agent = Agent::start(bench).await;
    // Two objects of both partitions, two of one.
    for _ in 0..2 {
        agent.put(bench, &[batch(p, 10, 1), batch(q, 10, 1)]).await;
    }
    agent.put_inline(bench, &[batch(p, 10, 1)]).await;
    agent.put(bench, &[batch(p, 10, 1)]).await;
    let bytes = u64::from(BATCH_BYTES);
    assert_eq!(
        (size_of(bench, p).await, size_of(bench, q).await),
        (4 * bytes, 2 * bytes)
    );
    assert_eq!(delete(bench, p, 35).await, Ok(35));
    // A crash between the raising and the trimming forgets nothing.
    bench.restart().await;
    trim(bench).await;
    assert_eq!(
        (size_of(bench, p).await, size_of(bench, q).await),
        (bytes, 2 * bytes)
    );
    assert_eq!(deleting(bench).await, 0, "the other partition still names them");
    assert_eq!(bench.store().inline_backlog().await.expect("backlog").objects, 0);
    assert_eq!(delete(bench, q, 20).await, Ok(20));
    trim(bench).await;
    assert_eq!(deleting(bench).await, 2);
    bench.restart().await;
    trim(bench).await;
    assert_eq!((size_of(bench, p).await, size_of(bench, q).await), (bytes, 0));
    let bases: Vec<_> = whole_log(bench, p)
        .await
        .iter()
        .map(|l| l.segment.base_offset)
        .collect();
    assert_eq!(bases, [30]);
}

pub async fn retention_removes_what_is_too_old_and_says_when_it_is_due_again(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    configure(bench, topic.id, &[("retention.ms", "10000")]).await;
    let mut agent = Agent::start(bench).await;
    let began = bench.store().now().await.expect("the time").0;
    for age in [0, 1_000, 2_000] {
        assert_eq!(agent.put(bench, &[batch(p, 10, began + age)]).await.len(), 1);
    }
    let round = bench.store().enforce_retention(&[p]).await.expect("a round");
    assert_eq!(
        (round.raised, round.due),
        (vec![], Some(StoreTime(began + 10_001)))
    );
    bench.advance(Duration::from_millis(11_001));
    let round = bench.store().enforce_retention(&[p]).await.expect("a round");
    assert_eq!(
        (round.raised, round.due),
        (vec![(p, 20)], Some(StoreTime(began + 12_001)))
    );
    trim(bench).await;
    assert_eq!(deleting(bench).await, 2);
    let again = bench.store().enforce_retention(&[p]).await.expect("a round");
    assert_eq!(
        (again.raised, again.due),
        (vec![], Some(StoreTime(began + 12_001)))
    );
    bench.advance(Duration::from_secs(3600));
    bench.store().enforce_retention(&[p]).await.expect("a round");
    trim(bench).await;
    let empty = bench.store().enforce_retention(&[p]).await.expect("a round");
    assert_eq!((empty.raised, empty.due, empty.more), (vec![], None, false));
    let next = agent.put(bench, &[batch(p, 1, began)]).await;
    assert!(
        matches!(
            next[..],
            [BatchOutcome::Appended {
                base_offset: 30,
                log_start_offset: 30
            }]
        ),
        "offsets go on: {next:?}"
    );
}

pub async fn retention_by_bytes_keeps_the_limit(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    configure(
        bench,
        topic.id,
        &[("retention.ms", "-1"), ("retention.bytes", "250")],
    )
    .await;
    let mut agent = Agent::start(bench).await;
    for round in 0..6 {
        assert_eq!(agent.put(bench, &[batch(p, 1, 1)]).await, [appended(round)]);
    }
    let round = bench.store().enforce_retention(&[p]).await.expect("a round");
    assert_eq!((round.raised, round.due), (vec![(p, 3)], None));
    trim(bench).await;
    assert_eq!(size_of(bench, p).await, 300);
    let again = bench.store().enforce_retention(&[p]).await.expect("a round");
    assert!(again.raised.is_empty() && !again.more, "{again:?}");
}
