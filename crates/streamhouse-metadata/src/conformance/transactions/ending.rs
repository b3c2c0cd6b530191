//! Ends: in one step, by whom they may be asked for, and what a repeat is answered.

use std::time::Duration;

use super::super::bench::{Agent, Bench, batch, partition_of, purge, settle, topic, whole_log};
use super::offsets::{add_offset, group};
use super::{
    ID, MARKER_BYTES, TIMEOUT, add, committed_from, encoder, end, ends, implicit, init, one, try_end,
};
use crate::model::retention::DeleteUpTo;
use crate::model::segment::{Located, Lookup};
use crate::model::transaction::{AbortedRange, TransactionPhase, TransactionResult};
use crate::store::transactions::TransactionError;

pub async fn trace_21_an_end_is_one_step_and_survives_a_restart(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 3).await;
    let [p, q, unwritten] = [0, 1, 2].map(|at| partition_of(&topic, at));
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[batch(p, 2, 0)]).await;
    let producer = init(bench).await;
    add(bench, producer, &[p, q, unwritten]).await;
    agent
        .put(bench, &[one(p, producer, 0), one(q, producer, 0)])
        .await;
    let ended = end(bench, producer, TransactionResult::Abort).await;
    let mut markers: Vec<_> = ended.markers.iter().map(|m| (m.partition, m.offset)).collect();
    markers.sort_unstable();
    let mut expected = vec![(p, 3), (q, 1), (unwritten, 0)];
    expected.sort_unstable();
    assert_eq!(markers, expected);
    assert!(ended.markers.iter().all(|m| m.batch.len() == 10));
    for _ in 0..2 {
        assert_eq!(ends(bench, p).await, (4, 4));
        assert_eq!(ends(bench, unwritten).await, (1, 1));
        let log = whole_log(bench, p).await;
        assert_eq!(log.last().expect("segments").segment.length_bytes, MARKER_BYTES);
        let range = AbortedRange {
            producer_id: producer.producer_id,
            first_offset: 2,
            last_offset: 3,
        };
        assert_eq!(committed_from(bench, p, 0).await.aborted, [range]);
        assert_eq!(
            committed_from(bench, p, 3).await.aborted,
            [range],
            "at its marker"
        );
        assert_eq!(committed_from(bench, unwritten, 0).await.aborted, []);
        bench.restart().await;
        settle(bench).await;
    }
    let row = bench.store().transaction(ID).await.expect("read").expect("a row");
    assert_eq!(row.phase, TransactionPhase::CompleteAbort);
    assert!(row.partitions.is_empty());
}

pub async fn trace_21_an_expired_transaction_is_aborted_and_its_producer_fenced(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    add(bench, producer, &[p]).await;
    agent.put(bench, &[one(p, producer, 0)]).await;
    let store = bench.store();
    let none = store
        .abort_expired_transactions(10, encoder())
        .await
        .expect("ran");
    assert!(none.is_empty(), "its time is not over");
    bench.advance(TIMEOUT + Duration::from_millis(1));
    let aborted = store
        .abort_expired_transactions(10, encoder())
        .await
        .expect("ran");
    assert_eq!(aborted.len(), 1);
    assert_eq!(aborted[0].0, ID);
    assert_eq!(ends(bench, p).await, (2, 2));
    let fenced = try_end(bench, producer, TransactionResult::Commit, false).await;
    assert!(matches!(
        fenced,
        Err(TransactionError::Fenced { current: 1, got: 0 })
    ));
    assert!(
        store
            .abort_expired_transactions(10, encoder())
            .await
            .expect("ran")
            .is_empty()
    );
}

pub async fn trace_22_a_retry_of_an_end_gets_the_same_answer(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    // The older protocol: the epoch stays.
    agent.put(bench, &[implicit(p, producer, 0)]).await;
    end(bench, producer, TransactionResult::Commit).await;
    let again = end(bench, producer, TransactionResult::Commit).await;
    assert_eq!((again.producer, again.markers.len()), (producer, 0));
    let other = try_end(bench, producer, TransactionResult::Abort, false).await;
    assert!(matches!(other, Err(TransactionError::InvalidState(_))));
    // The newer one: it is raised.
    agent.put(bench, &[implicit(p, producer, 1)]).await;
    let first = try_end(bench, producer, TransactionResult::Abort, true)
        .await
        .expect("ended");
    assert_eq!(first.producer.epoch, producer.epoch + 1);
    bench.restart().await;
    let again = try_end(bench, producer, TransactionResult::Abort, true)
        .await
        .expect("a repeat");
    assert_eq!((again.producer, again.markers.len()), (first.producer, 0));
    let other = try_end(bench, producer, TransactionResult::Commit, true).await;
    assert!(matches!(other, Err(TransactionError::InvalidState(_))));
    assert_eq!(ends(bench, p).await, (4, 4));
}

pub async fn trace_03_aborted_ranges_belong_to_the_moment_of_the_look_up(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    // Three aborted transactions at 0, 2 and 4, a committed record after each.
    for round in 0..3 {
        agent.put(bench, &[implicit(p, producer, round)]).await;
        end(bench, producer, TransactionResult::Abort).await;
        agent.put_inline(bench, &[batch(p, 1, 0)]).await;
    }
    let firsts = |located: Located| -> Vec<i64> {
        let ranges = located.aborted.iter();
        ranges.map(|range| range.first_offset).collect()
    };
    for _ in 0..2 {
        assert_eq!(firsts(committed_from(bench, p, 0).await), [0, 3, 6]);
        assert_eq!(firsts(committed_from(bench, p, 2).await), [3, 6]);
        assert_eq!(firsts(committed_from(bench, p, 8).await), [] as [i64; 0]);
        let short = Lookup {
            partition: p,
            offset: 0,
            max_bytes: 1,
            read_committed: true,
        };
        let mut answers = bench.store().lookup(&[short]).await.expect("looked up");
        let short = answers.remove(0).expect("known");
        assert_eq!(firsts(short), [0], "those that touch what is returned");
        settle(bench).await;
    }
    // What nobody can read any more needs no range.
    bench
        .store()
        .delete_records(&[(p, DeleteUpTo::Offset(5))])
        .await
        .expect("raised");
    while !bench.store().trim_logs(2).await.expect("trimmed") {}
    assert_eq!(firsts(committed_from(bench, p, 5).await), [6]);
}

pub async fn trace_18_a_deleted_topic_does_not_hold_its_transaction_up(bench: &mut dyn Bench) {
    let (gone, stays) = (topic(bench, "gone", 1).await, topic(bench, "stays", 1).await);
    let (p, q) = (partition_of(&gone, 0), partition_of(&stays, 0));
    let epoch = group(bench, "g").await;
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    agent
        .put(bench, &[implicit(p, producer, 0), implicit(q, producer, 0)])
        .await;
    bench.store().add_group(ID, producer, "g").await.expect("added");
    add_offset(bench, producer, epoch, (p, 1)).await.expect("held");
    bench.store().delete_topic(gone.id).await.expect("deleted");
    purge(bench).await;
    let ended = end(bench, producer, TransactionResult::Commit).await;
    assert_eq!(ended.markers.len(), 1);
    assert_eq!(ended.markers[0].partition, q);
    assert!(ended.offsets.is_empty());
    assert_eq!(ends(bench, q).await, (2, 2));
    let unknown = bench.store().add_partitions(ID, producer, &[p]).await;
    assert!(matches!(unknown, Err(TransactionError::UnknownPartition)));
}
