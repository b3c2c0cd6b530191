use uuid::Uuid;

use super::*;
use crate::ids::TopicId;

const FIRST: ProducerIdentity = ProducerIdentity {
    producer_id: 7,
    epoch: 3,
};

fn partition(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(Uuid::from_u128(1)),
        partition,
    }
}

/// Open, with a record in partition 0; partition 1 was only added.
fn open_row() -> Transaction {
    let mut row = Transaction {
        transactional_id: "id".to_owned(),
        current: FIRST,
        previous: None,
        phase: TransactionPhase::Empty,
        timeout_ms: 1_000,
        started_at: None,
        partitions: Default::default(),
        groups: Default::default(),
        last_used: StoreTime(0),
    };
    join(&mut row, partition(0), 10, StoreTime(0));
    row.partitions.insert(partition(1), None);
    row
}

#[test]
fn an_abort_by_an_administrator_is_that_of_a_timeout() {
    let row = open_row();
    let asked = abort(Some(&row), FIRST, partition(0), Some(3)).expect("allowed");
    assert!(asked.is_some());
    assert_eq!(asked, expire(&row, StoreTime(1_001)));
}

#[test]
fn an_epoch_older_than_what_the_partition_saw_aborts_nothing() {
    let older = ProducerIdentity { epoch: 2, ..FIRST };
    let newer = ProducerIdentity { epoch: 4, ..FIRST };
    let row = open_row();
    for known_epoch in [None, Some(2), Some(3)] {
        let refused = abort(Some(&row), older, partition(0), known_epoch);
        assert!(matches!(
            refused,
            Err(TransactionError::Fenced { current: 3, got: 2 })
        ));
    }
    let gone = abort(None, older, partition(0), Some(3));
    assert!(matches!(
        gone,
        Err(TransactionError::Fenced { current: 3, got: 2 })
    ));
    assert!(matches!(abort(None, older, partition(0), Some(2)), Ok(None)));
    assert!(matches!(
        abort(Some(&row), newer, partition(0), Some(3)),
        Ok(Some(_))
    ));
}

#[test]
fn nothing_is_open_where_nothing_was_written_or_by_whom_or_any_more() {
    let row = open_row();
    let other = ProducerIdentity {
        producer_id: 8,
        ..FIRST
    };
    let ended = completed(&row, TransactionResult::Commit, FIRST, StoreTime(1));
    for (row, producer, at) in [
        (&row, FIRST, 1),
        (&row, FIRST, 2),
        (&row, other, 0),
        (&ended, FIRST, 0),
    ] {
        let judged = abort(Some(row), producer, partition(at), Some(3));
        assert!(matches!(judged, Ok(None)), "{producer:?} in {at}");
    }
}
