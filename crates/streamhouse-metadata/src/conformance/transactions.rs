//! Cases of transactions: what joins one, what its end makes visible in one step, what a retry gets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bench::{
    Agent, Bench, appended, batch, duplicate, partition_of, purge, settle, stamped, topic, whole_log,
};
use crate::ids::{StoreTime, TopicPartition};
use crate::model::commit::{AppendRefusal, BatchEntry, BatchOutcome, BatchTransaction};
use crate::model::group::{
    CommittedOffset, GroupKind, GroupLag, GroupOffset, GroupState, GroupSummary, GroupWrite,
};
use crate::model::partition::PartitionSnapshot;
use crate::model::retention::DeleteUpTo;
use crate::model::segment::{Located, Lookup};
use crate::model::transaction::{
    AbortedRange, MarkerObject, Markers, ProducerIdentity, TransactionPhase, TransactionResult,
};
use crate::store::transactions::{
    AbortOpen, AbortedOpen, EncodeMarkers, EndTransaction, Ended, InitTransaction, TransactionError,
    TransactionOffsets,
};

const MARKER_BYTES: u32 = 10;
const TIMEOUT: Duration = Duration::from_secs(60);
const ID: &str = "payments-1";

/// Ten bytes a marker: whom it names and how the transaction ended are for readers of batches.
fn encoder() -> EncodeMarkers {
    Arc::new(|markers: &Markers<'_>| {
        let places = (0_u64..).take(markers.partitions.len());
        MarkerObject {
            payload: Bytes::from(vec![7; markers.partitions.len() * MARKER_BYTES as usize]),
            batches: places
                .map(|at| (at * u64::from(MARKER_BYTES), MARKER_BYTES))
                .collect(),
        }
    })
}

async fn try_init(
    bench: &dyn Bench,
    recovering: Option<ProducerIdentity>,
) -> Result<Ended, TransactionError> {
    let init = InitTransaction {
        transactional_id: ID.to_owned(),
        timeout_ms: i32::try_from(TIMEOUT.as_millis()).expect("small"),
        recovering,
        transactional_ids_max: 2,
        encode: encoder(),
    };
    bench.store().init_transaction(init).await
}

async fn init(bench: &dyn Bench) -> ProducerIdentity {
    try_init(bench, None).await.expect("an identity").producer
}

async fn try_end(
    bench: &dyn Bench,
    producer: ProducerIdentity,
    result: TransactionResult,
    bump_epoch: bool,
) -> Result<Ended, TransactionError> {
    let end = EndTransaction {
        transactional_id: ID.to_owned(),
        producer,
        result,
        bump_epoch,
        encode: encoder(),
    };
    bench.store().end_transaction(end).await
}

async fn end(bench: &dyn Bench, producer: ProducerIdentity, result: TransactionResult) -> Ended {
    try_end(bench, producer, result, false).await.expect("ended")
}

/// One record of a transaction.
fn one(partition: TopicPartition, producer: ProducerIdentity, sequence: i32) -> BatchEntry {
    BatchEntry {
        transaction: Some(BatchTransaction { implicit: false }),
        ..stamped(partition, producer.producer_id, producer.epoch, sequence, 1)
    }
}

fn implicit(partition: TopicPartition, producer: ProducerIdentity, sequence: i32) -> BatchEntry {
    BatchEntry {
        transaction: Some(BatchTransaction { implicit: true }),
        ..one(partition, producer, sequence)
    }
}

async fn add(bench: &dyn Bench, producer: ProducerIdentity, partitions: &[TopicPartition]) {
    let added = bench.store().add_partitions(ID, producer, partitions).await;
    added.expect("added");
}

async fn snapshot(bench: &dyn Bench, partition: TopicPartition) -> PartitionSnapshot {
    let mut snapshots = bench.store().snapshots(&[partition]).await.expect("snapshots");
    snapshots.remove(0).expect("a known partition")
}

/// High watermark and last stable offset.
async fn ends(bench: &dyn Bench, partition: TopicPartition) -> (i64, i64) {
    let snapshot = snapshot(bench, partition).await;
    (snapshot.high_watermark, snapshot.last_stable_offset)
}

async fn committed_from(bench: &dyn Bench, partition: TopicPartition, offset: i64) -> Located {
    let lookup = Lookup {
        partition,
        offset,
        max_bytes: u64::MAX,
        read_committed: true,
    };
    let mut answers = bench.store().lookup(&[lookup]).await.expect("looked up");
    answers.remove(0).expect("a known partition")
}

fn refused(outcome: &BatchOutcome) -> &AppendRefusal {
    match outcome {
        BatchOutcome::Refused(refusal) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

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

async fn group(bench: &dyn Bench, name: &str) -> i64 {
    let write = GroupWrite {
        group: name.to_owned(),
        coordinator_epoch: None,
        summary: GroupSummary {
            kind: GroupKind::Classic,
            state: GroupState::Empty,
            protocol_type: String::new(),
            members: 0,
        },
        payload: Bytes::new(),
        members: Vec::new(),
    };
    bench.store().write_group(write, 10).await.expect("created")
}

fn at(offset: i64) -> CommittedOffset {
    CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: String::new(),
    }
}

async fn add_offset(
    bench: &dyn Bench,
    producer: ProducerIdentity,
    epoch: i64,
    (partition, offset): (TopicPartition, i64),
) -> Result<(), TransactionError> {
    let offsets = TransactionOffsets {
        transactional_id: ID.to_owned(),
        producer,
        group: "g".to_owned(),
        coordinator_epoch: epoch,
        implicit: false,
        offsets: vec![(partition, at(offset))],
    };
    let outcomes = bench.store().add_transaction_offsets(offsets).await?;
    assert!(outcomes.iter().all(Result::is_ok));
    Ok(())
}

async fn offset_of(bench: &dyn Bench, partition: TopicPartition) -> GroupOffset {
    let found = bench.store().group_offsets("g", Some(&[partition])).await;
    found.expect("offsets").remove(0)
}

pub async fn trace_23_offsets_become_committed_with_their_transaction(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let epoch = group(bench, "g").await;
    let producer = init(bench).await;
    let store = bench.store();
    let early = add_offset(bench, producer, epoch, (p, 5)).await;
    assert!(
        matches!(early, Err(TransactionError::InvalidState(_))),
        "no transaction holds the group"
    );
    store.add_group(ID, producer, "g").await.expect("added");
    let foreign = add_offset(bench, producer, epoch + 1, (p, 5)).await;
    assert!(matches!(foreign, Err(TransactionError::GroupFenced(_))));
    add_offset(bench, producer, epoch, (p, 5)).await.expect("held");
    let waiting = offset_of(bench, p).await;
    assert!(waiting.pending && waiting.committed.is_none());
    drop(store);
    bench.restart().await;
    assert!(offset_of(bench, p).await.pending);
    let ended = end(bench, producer, TransactionResult::Commit).await;
    assert_eq!((ended.offsets[0].previous, ended.offsets[0].offset), (None, 5));
    let published = offset_of(bench, p).await;
    assert!(!published.pending);
    assert_eq!(published.committed.expect("committed").offset, 5);
    // The next one aborts: nothing of it stays.
    bench.store().add_group(ID, producer, "g").await.expect("added");
    add_offset(bench, producer, epoch, (p, 9)).await.expect("held");
    end(bench, producer, TransactionResult::Abort).await;
    let after = offset_of(bench, p).await;
    assert!(!after.pending);
    assert_eq!(after.committed.expect("committed").offset, 5);
    let late = add_offset(bench, producer, epoch, (p, 11)).await;
    assert!(matches!(late, Err(TransactionError::InvalidState(_))));
}

pub async fn trace_23_a_plain_commit_is_newer_than_what_waits(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let epoch = group(bench, "g").await;
    let producer = init(bench).await;
    bench.store().add_group(ID, producer, "g").await.expect("added");
    add_offset(bench, producer, epoch, (p, 5)).await.expect("held");
    let plain = bench.store().commit_offsets("g", epoch, vec![(p, at(8))]).await;
    plain.expect("committed");
    assert!(
        offset_of(bench, p).await.pending,
        "until the transaction has ended"
    );
    let ended = end(bench, producer, TransactionResult::Commit).await;
    assert!(ended.offsets.is_empty());
    assert_eq!(offset_of(bench, p).await.committed.expect("committed").offset, 8);
}

pub async fn trace_23_a_group_with_waiting_offsets_does_not_expire(bench: &mut dyn Bench) {
    let p = partition_of(&topic(bench, "t", 1).await, 0);
    let epoch = group(bench, "g").await;
    let producer = init(bench).await;
    bench.store().add_group(ID, producer, "g").await.expect("added");
    add_offset(bench, producer, epoch, (p, 5)).await.expect("held");
    bench.advance(Duration::from_secs(3_600));
    let now = bench.store().now().await.expect("the time");
    let (gone, _) = bench.store().expire_groups(now, 10).await.expect("ran");
    assert!(gone.is_empty());
    end(bench, producer, TransactionResult::Abort).await;
    let (gone, _) = bench.store().expire_groups(now, 10).await.expect("ran");
    assert_eq!(gone, ["g"]);
}

/// The lag of group "g" in a partition, as if it had come to this offset.
async fn lag_at(bench: &dyn Bench, epoch: i64, (partition, offset): (TopicPartition, i64)) -> GroupLag {
    let committed = bench
        .store()
        .commit_offsets("g", epoch, vec![(partition, at(offset))])
        .await;
    committed.expect("committed");
    let snapshots = bench.store().group_snapshots().await.expect("snapshots");
    let mut lags = snapshots[0].lags.iter();
    *lags.find(|lag| lag.partition == partition).expect("a lag")
}

pub async fn markers_are_nothing_to_consume(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let (p, joined) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let epoch = group(bench, "g").await;
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[batch(p, 2, 0)]).await;
    let mut ages = vec![bench.store().now().await.expect("the time")];
    bench.advance(Duration::from_secs(60));
    let producer = init(bench).await;
    add(bench, producer, &[p, joined]).await;
    agent.put(bench, &[one(p, producer, 0)]).await;
    ages.push(bench.store().now().await.expect("the time"));
    bench.advance(Duration::from_secs(60));
    end(bench, producer, TransactionResult::Commit).await;
    // In memory, in the table, and replayed from either.
    for round in 0..4 {
        for (offset, oldest) in [(1, Some(ages[0])), (2, Some(ages[1])), (3, None), (4, None)] {
            let lag = lag_at(bench, epoch, (p, offset)).await;
            assert_eq!(lag.oldest_unconsumed_at, oldest, "at {offset}, round {round}");
            assert_eq!((lag.records_end, lag.high_watermark), (3, 4), "round {round}");
        }
        let lag = lag_at(bench, epoch, (joined, 0)).await;
        assert_eq!(
            (lag.oldest_unconsumed_at, lag.records_end),
            (None, 0),
            "round {round}"
        );
        match round {
            1 => settle(bench).await,
            _ => bench.restart().await,
        }
    }
    // A record behind markers is as old as it is, not as they are.
    let mut agent = Agent::start(bench).await;
    bench.advance(Duration::from_secs(60));
    agent.put(bench, &[batch(p, 1, 0), batch(joined, 1, 0)]).await;
    let newest = bench.store().now().await.expect("the time");
    for round in 0..2 {
        for (place, records_end) in [((p, 3), 5), ((joined, 0), 2)] {
            let lag = lag_at(bench, epoch, place).await;
            assert_eq!(lag.oldest_unconsumed_at, Some(newest), "{place:?}, round {round}");
            assert_eq!(lag.records_end, records_end, "{place:?}, round {round}");
        }
        settle(bench).await;
    }
    // Also where nothing of it is merged yet.
    let again = init(bench).await;
    add(bench, again, &[joined]).await;
    end(bench, again, TransactionResult::Commit).await;
    bench.advance(Duration::from_secs(60));
    agent.put(bench, &[batch(joined, 1, 0)]).await;
    let newest = bench.store().now().await.expect("the time");
    let lag = lag_at(bench, epoch, (joined, 2)).await;
    assert_eq!((lag.oldest_unconsumed_at, lag.records_end), (Some(newest), 4));
    // What is deleted is no record any more, and how many there were stays known.
    let newer = init(bench).await;
    add(bench, newer, &[p]).await;
    end(bench, newer, TransactionResult::Commit).await;
    for up_to in [DeleteUpTo::Offset(5), DeleteUpTo::HighWatermark] {
        let deleted = bench.store().delete_records(&[(p, up_to)]).await;
        deleted.expect("raised");
        settle(bench).await;
        while !bench.store().trim_logs(100).await.expect("trimmed") {}
        let lag = lag_at(bench, epoch, (p, 3)).await;
        assert_eq!((lag.oldest_unconsumed_at, lag.records_end), (None, 5));
    }
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
