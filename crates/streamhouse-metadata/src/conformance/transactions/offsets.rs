//! Offsets that wait for the end of a transaction, and what its markers are to a group.

use std::time::Duration;

use bytes::Bytes;

use super::super::bench::{Agent, Bench, batch, partition_of, settle, topic};
use super::{ID, add, end, init, one};
use crate::ids::TopicPartition;
use crate::model::group::{
    CommittedOffset, GroupKind, GroupLag, GroupOffset, GroupState, GroupSummary, GroupWrite,
};
use crate::model::retention::DeleteUpTo;
use crate::model::transaction::{ProducerIdentity, TransactionResult};
use crate::store::transactions::{TransactionError, TransactionOffsets};

pub(super) async fn group(bench: &dyn Bench, name: &str) -> i64 {
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

pub(super) async fn add_offset(
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

pub(super) async fn offset_of(bench: &dyn Bench, partition: TopicPartition) -> GroupOffset {
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
