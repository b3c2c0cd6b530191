//! Transactions that an administrator aborts.

use super::super::bench::{Agent, Bench, batch, partition_of, topic};
use super::offsets::{add_offset, group, offset_of};
use super::{ID, add, committed_from, encoder, end, ends, implicit, init, one, refused, try_end};
use crate::ids::TopicPartition;
use crate::model::commit::AppendRefusal;
use crate::model::transaction::{AbortedRange, ProducerIdentity, TransactionPhase, TransactionResult};
use crate::store::transactions::{AbortOpen, AbortedOpen, TransactionError};

async fn abort_open(
    bench: &dyn Bench,
    producer: ProducerIdentity,
    partitions: &[TopicPartition],
) -> AbortedOpen {
    let abort = AbortOpen {
        producer,
        partitions: partitions.to_vec(),
        encode: encoder(),
    };
    bench.store().abort_open_transaction(abort).await.expect("judged")
}

pub async fn trace_21_an_administrator_aborts_a_transaction_whole_and_its_producer_is_fenced(
    bench: &mut dyn Bench,
) {
    let topic = topic(bench, "t", 2).await;
    let (p, q) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let epoch = group(bench, "g").await;
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[batch(p, 2, 0)]).await;
    let producer = init(bench).await;
    agent
        .put(bench, &[implicit(p, producer, 0), implicit(q, producer, 0)])
        .await;
    bench.store().add_group(ID, producer, "g").await.expect("added");
    add_offset(bench, producer, epoch, (p, 1)).await.expect("held");
    assert_eq!(ends(bench, p).await, (3, 2));
    let aborted = abort_open(bench, producer, &[p]).await;
    assert!(matches!(aborted.outcomes[..], [Ok(())]), "{aborted:?}");
    let (id, ended) = aborted.ended.expect("one was open");
    assert_eq!((id.as_str(), ended.producer.epoch), (ID, producer.epoch + 1));
    let mut markers: Vec<_> = ended.markers.iter().map(|m| (m.partition, m.offset)).collect();
    markers.sort_unstable();
    let mut expected = vec![(p, 3), (q, 1)];
    expected.sort_unstable();
    assert_eq!(markers, expected, "half a transaction is none");
    for _ in 0..2 {
        assert_eq!((ends(bench, p).await, ends(bench, q).await), ((4, 4), (2, 2)));
        for (partition, first_offset, last_offset) in [(p, 2, 3), (q, 0, 1)] {
            let range = AbortedRange {
                producer_id: producer.producer_id,
                first_offset,
                last_offset,
            };
            assert_eq!(committed_from(bench, partition, 0).await.aborted, [range]);
        }
        let offset = offset_of(bench, p).await;
        assert!(!offset.pending && offset.committed.is_none());
        bench.restart().await;
    }
    for bump_epoch in [false, true] {
        let committed = try_end(bench, producer, TransactionResult::Commit, bump_epoch).await;
        let fenced = matches!(committed, Err(TransactionError::Fenced { current: 1, got: 0 }));
        assert!(fenced, "whoever commits is not told that it is: {committed:?}");
    }
    let mut agent = Agent::start(bench).await;
    let outcomes = agent.put(bench, &[implicit(p, producer, 1)]).await;
    let stale = AppendRefusal::StaleEpoch { current: 1, got: 0 };
    assert_eq!(refused(&outcomes[0]), &stale);
    let next = init(bench).await;
    agent.put(bench, &[implicit(p, next, 0)]).await;
    end(bench, next, TransactionResult::Commit).await;
    assert_eq!(ends(bench, p).await, (6, 6), "the next start goes on");
}

pub async fn trace_22_a_repeated_abort_by_an_administrator_changes_nothing(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let mut agent = Agent::start(bench).await;
    let producer = init(bench).await;
    agent.put(bench, &[implicit(p, producer, 0)]).await;
    assert!(abort_open(bench, producer, &[p, p]).await.ended.is_some());
    bench.restart().await;
    let again = abort_open(bench, producer, &[p]).await;
    assert!(matches!(again.outcomes[..], [Ok(())]), "{again:?}");
    assert!(again.ended.is_none());
    assert_eq!(ends(bench, p).await, (2, 2), "no second marker");
}

pub async fn an_administrator_aborts_only_what_is_open_under_the_epoch_named(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 3).await;
    let [p, joined, other] = [0, 1, 2].map(|at| partition_of(&topic, at));
    let mut agent = Agent::start(bench).await;
    let first = init(bench).await;
    agent.put(bench, &[implicit(p, first, 0)]).await;
    end(bench, first, TransactionResult::Commit).await;
    assert!(
        abort_open(bench, first, &[p]).await.ended.is_none(),
        "committed stays"
    );
    let producer = init(bench).await;
    add(bench, producer, &[p, joined]).await;
    agent.put(bench, &[one(p, producer, 0)]).await;
    let stranger = ProducerIdentity {
        producer_id: 900,
        epoch: 0,
    };
    let missing = TopicPartition { partition: 3, ..p };
    for (named, partition) in [
        (first, p),
        (producer, joined),
        (producer, other),
        (stranger, p),
        (producer, missing),
    ] {
        let judged = abort_open(bench, named, &[partition]).await;
        assert!(judged.ended.is_none(), "{named:?} {partition:?}");
        let expected = match &judged.outcomes[0] {
            Ok(()) => partition != missing && named != first,
            Err(TransactionError::Fenced { current: 1, got: 0 }) => named == first,
            Err(TransactionError::UnknownPartition) => partition == missing,
            Err(_) => false,
        };
        assert!(expected, "{named:?} {partition:?}: {:?}", judged.outcomes);
    }
    let row = bench.store().transaction(ID).await.expect("read").expect("a row");
    assert_eq!((row.phase, row.current), (TransactionPhase::Ongoing, producer));
    // One of several partitions is enough, and the others keep their own answers.
    let judged = abort_open(bench, producer, &[missing, p, other]).await;
    assert!(judged.outcomes[0].is_err() && judged.outcomes[1..].iter().all(Result::is_ok));
    assert_eq!(
        judged.ended.expect("open").1.markers.len(),
        2,
        "where it wrote, and where it joined"
    );
}
