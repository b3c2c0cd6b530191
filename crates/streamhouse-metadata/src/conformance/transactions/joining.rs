//! What joins a transaction, and what is refused.

use super::super::bench::{Agent, Bench, appended, batch, duplicate, partition_of, stamped, topic};
use super::{ID, add, committed_from, end, ends, implicit, init, one, refused};
use crate::model::commit::AppendRefusal;
use crate::model::transaction::{ProducerIdentity, TransactionPhase, TransactionResult};
use crate::store::transactions::TransactionError;

pub async fn trace_20_a_batch_needs_its_partition_in_an_open_transaction_of_its_epoch(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let (p, other) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let mut agent = Agent::start(bench).await;
    let stranger = ProducerIdentity {
        producer_id: 900,
        epoch: 0,
    };
    let outcomes = agent.put(bench, &[one(p, stranger, 0)]).await;
    assert_eq!(refused(&outcomes[0]), &AppendRefusal::NotTransactional(900));
    let producer = init(bench).await;
    let outcomes = agent.put(bench, &[one(p, producer, 0)]).await;
    assert_eq!(refused(&outcomes[0]), &AppendRefusal::InvalidTransactionState);
    add(bench, producer, &[p]).await;
    let outcomes = agent
        .put(bench, &[one(p, producer, 0), one(other, producer, 0)])
        .await;
    assert_eq!(outcomes[0], appended(0));
    assert_eq!(refused(&outcomes[1]), &AppendRefusal::InvalidTransactionState);
    // Late: the transaction of this epoch is over.
    end(bench, producer, TransactionResult::Commit).await;
    let outcomes = agent.put(bench, &[one(p, producer, 1)]).await;
    assert_eq!(refused(&outcomes[0]), &AppendRefusal::InvalidTransactionState);
    // Replaced by another start of the same producer.
    let newer = init(bench).await;
    add(bench, newer, &[p]).await;
    let outcomes = agent.put(bench, &[one(p, producer, 1)]).await;
    let stale = AppendRefusal::StaleEpoch { current: 1, got: 0 };
    assert_eq!(refused(&outcomes[0]), &stale);
}

pub async fn trace_20_a_plain_batch_during_a_transaction_is_refused(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    add(bench, producer, &[p]).await;
    let plain = stamped(p, producer.producer_id, producer.epoch, 0, 1);
    let outcomes = agent.put(bench, &[plain, batch(p, 1, 0)]).await;
    assert_eq!(refused(&outcomes[0]), &AppendRefusal::InvalidTransactionState);
    assert_eq!(outcomes[1], appended(0), "others are not concerned");
}

pub async fn trace_20_duplicates_are_answered_first(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    add(bench, producer, &[p]).await;
    assert_eq!(agent.put(bench, &[one(p, producer, 0)]).await, [appended(0)]);
    end(bench, producer, TransactionResult::Commit).await;
    assert_eq!(agent.put(bench, &[one(p, producer, 0)]).await, [duplicate(0)]);
}

pub async fn trace_20_a_batch_of_the_newer_protocol_joins_in_its_own_commit(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let (p, other) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    let outcomes = agent
        .put(bench, &[implicit(p, producer, 0), implicit(other, producer, 0)])
        .await;
    assert_eq!(outcomes, [appended(0), appended(0)]);
    agent.put(bench, &[implicit(p, producer, 1)]).await;
    bench.restart().await;
    let row = bench.store().transaction(ID).await.expect("read").expect("a row");
    assert_eq!(row.phase, TransactionPhase::Ongoing);
    assert_eq!(row.partitions[&p], Some(0), "the first one counts");
    assert_eq!(row.partitions[&other], Some(0));
    assert_eq!(ends(bench, p).await, (2, 0));
}

pub async fn trace_20_the_last_stable_offset_is_the_smallest_open_first_offset(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[batch(p, 5, 0)]).await;
    let producer = init(bench).await;
    add(bench, producer, &[p]).await;
    assert_eq!(ends(bench, p).await, (5, 5), "joined, nothing written");
    agent.put(bench, &[one(p, producer, 0), batch(p, 3, 0)]).await;
    assert_eq!(ends(bench, p).await, (9, 5));
    bench.restart().await;
    assert_eq!(ends(bench, p).await, (9, 5));
    assert!(committed_from(bench, p, 5).await.segments.is_empty());
    end(bench, producer, TransactionResult::Commit).await;
    assert_eq!(ends(bench, p).await, (10, 10), "with the marker");
}

pub async fn trace_31_no_transaction_begins_without_room_for_its_markers(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    agent.put(bench, &[implicit(p, producer, 0)]).await;
    while bench.store().inline_backlog().await.expect("read").bytes < bench.inline_total_max() {
        agent.put_inline(bench, &[batch(p, 1, 0)]).await;
    }
    end(bench, producer, TransactionResult::Commit).await;
    let outcomes = agent.put(bench, &[implicit(p, producer, 1)]).await;
    assert_eq!(refused(&outcomes[0]), &AppendRefusal::MarkersFull);
    let added = bench.store().add_partitions(ID, producer, &[p]).await;
    assert!(matches!(added, Err(TransactionError::MarkersFull)));
}
