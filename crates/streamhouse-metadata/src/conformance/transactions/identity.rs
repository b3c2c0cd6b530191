//! Identities: who gets one, whom that fences, and how long they last.

use std::time::Duration;

use super::super::bench::{Agent, Bench, duplicate, partition_of, stamped, topic};
use super::{ID, committed_from, encoder, ends, implicit, init, try_init};
use crate::ids::StoreTime;
use crate::store::transactions::{InitTransaction, TransactionError};

pub async fn trace_21_asking_for_an_identity_aborts_what_is_open(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    agent.put(bench, &[implicit(p, producer, 0)]).await;
    let ended = try_init(bench, None).await.expect("an identity");
    assert_eq!(ended.producer.epoch, producer.epoch + 1);
    assert_eq!(ended.producer.producer_id, producer.producer_id);
    assert_eq!(ended.markers.len(), 1);
    assert_eq!(committed_from(bench, p, 0).await.aborted.len(), 1);
    assert_eq!(ends(bench, p).await, (2, 2));
}

pub async fn trace_22_a_retry_of_init_gets_the_same_identity(bench: &mut dyn Bench) {
    let first = init(bench).await;
    let second = try_init(bench, Some(first)).await.expect("bumped").producer;
    assert_eq!(second.epoch, first.epoch + 1);
    let again = try_init(bench, Some(first)).await.expect("a repeat").producer;
    assert_eq!(again, second);
    let third = init(bench).await;
    assert_eq!(third.epoch, second.epoch + 1);
    let fenced = try_init(bench, Some(first)).await;
    assert!(matches!(fenced, Err(TransactionError::Fenced { .. })));
}

pub async fn trace_22_a_start_without_an_identity_is_never_repeated_for_the_producer_that_it_replaced(
    bench: &mut dyn Bench,
) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let first = init(bench).await;
    let second = init(bench).await;
    agent.put(bench, &[implicit(p, second, 0)]).await;
    let aborted_for = init(bench).await;
    let third = init(bench).await;
    // Two producers with one identity would write into one transaction.
    for _ in 0..2 {
        for replaced in [first, second, aborted_for] {
            let fenced = try_init(bench, Some(replaced)).await;
            let is_fenced = matches!(fenced, Err(TransactionError::Fenced { .. }));
            assert!(is_fenced, "{replaced:?}: {fenced:?}");
        }
        bench.restart().await;
    }
    // Nor after a retry of the one that took over, which is no start of another.
    let fourth = try_init(bench, Some(third)).await.expect("bumped").producer;
    let again = try_init(bench, Some(third)).await.expect("a repeat").producer;
    assert_eq!(again, fourth);
}

pub async fn transactional_ids_are_bounded_and_expire_when_idle(bench: &mut dyn Bench) {
    let first = init(bench).await;
    bench.advance(Duration::from_secs(10));
    for (name, fits) in [("second", true), ("third", false)] {
        let init = InitTransaction {
            transactional_id: name.to_owned(),
            timeout_ms: 1_000,
            recovering: None,
            transactional_ids_max: 2,
            encode: encoder(),
        };
        let answer = bench.store().init_transaction(init).await;
        assert_eq!(answer.is_ok(), fits);
    }
    let now = bench.store().now().await.expect("the time");
    let gone = bench
        .store()
        .expire_transactional_ids(StoreTime(now.0 - 5_000))
        .await;
    assert_eq!(gone.expect("expired"), 1);
    bench.restart().await;
    assert!(bench.store().transaction(ID).await.expect("read").is_none());
    assert_eq!(bench.store().transactions().await.expect("read").len(), 1);
    assert_ne!(
        init(bench).await.producer_id,
        first.producer_id,
        "an id is given once"
    );
}

pub async fn trace_19_a_producer_with_an_open_transaction_does_not_expire(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    agent
        .put(bench, &[implicit(p, producer, 0), stamped(p, 900, 0, 0, 1)])
        .await;
    bench.advance(Duration::from_secs(3_600));
    let now = bench.store().now().await.expect("the time");
    assert_eq!(bench.store().expire_producers(now).await.expect("expired"), 1);
    let known = bench.store().producers(p).await.expect("read").expect("known");
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].producer_id, producer.producer_id);
    assert_eq!(known[0].transaction_start_offset, Some(0));
    assert_eq!(
        agent.put(bench, &[implicit(p, producer, 0)]).await,
        [duplicate(0)]
    );
}
