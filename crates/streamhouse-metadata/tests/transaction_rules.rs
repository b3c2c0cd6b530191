//! The transaction rules as a table: what each request meets in each phase, as Apache Kafka answers it.

use streamhouse_metadata::ids::StoreTime;
use streamhouse_metadata::model::transaction::{
    ProducerIdentity, Transaction, TransactionPhase, TransactionResult,
};
use streamhouse_metadata::rules::transaction::{
    Ending, Initialized, NextIdentity, completed, end, expire, initialize, repeatable,
};
use streamhouse_metadata::store::transactions::TransactionError;

use TransactionPhase::{CompleteAbort, CompleteCommit, Empty, Ongoing};
use TransactionResult::{Abort, Commit};

fn who(epoch: i16) -> ProducerIdentity {
    ProducerIdentity {
        producer_id: 7,
        epoch,
    }
}

fn row(phase: TransactionPhase, epoch: i16) -> Transaction {
    Transaction {
        transactional_id: "t".to_owned(),
        current: who(epoch),
        previous: None,
        phase,
        timeout_ms: 1_000,
        started_at: (phase == Ongoing).then_some(StoreTime(5_000)),
        partitions: Default::default(),
        groups: Default::default(),
        last_used: StoreTime(5_000),
    }
}

/// What `end` leads to: `C` completes, `R` repeats, `I` invalid state.
fn letter(phase: TransactionPhase, result: TransactionResult, bump: bool) -> char {
    match end(Some(&row(phase, 3)), who(3), result, bump) {
        Ok(Ending::Complete(_)) => 'C',
        Ok(Ending::Repeat(_)) => 'R',
        Err(TransactionError::InvalidState(_)) => 'I',
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn ending_meets_each_phase_as_in_kafka() {
    let line = |bump| -> String {
        let cells = [Empty, Ongoing, CompleteCommit, CompleteAbort]
            .into_iter()
            .flat_map(|phase| [letter(phase, Commit, bump), letter(phase, Abort, bump)]);
        cells.collect()
    };
    // Empty, Ongoing, CompleteCommit, CompleteAbort: commit and abort of each.
    assert_eq!(line(false), "IICCRIIR", "the older protocol");
    assert_eq!(
        line(true),
        "ICCCICIC",
        "the newer one: the epoch says what is a repeat"
    );
}

#[test]
fn an_end_by_anybody_else_is_refused_by_name() {
    let open = row(Ongoing, 3);
    assert!(matches!(
        end(Some(&open), who(2), Commit, true),
        Err(TransactionError::Fenced { current: 3, got: 2 })
    ));
    let other = ProducerIdentity {
        producer_id: 8,
        epoch: 3,
    };
    assert!(matches!(
        end(Some(&open), other, Commit, true),
        Err(TransactionError::UnknownProducer(8))
    ));
    assert!(matches!(
        end(None, other, Commit, true),
        Err(TransactionError::UnknownProducer(8))
    ));
}

#[test]
fn trace_22_epochs_rotate_to_a_new_producer_id_before_they_run_out() {
    let last = i16::MAX - 1;
    for (epoch, rotates) in [(last - 1, false), (last, true), (i16::MAX, true)] {
        let next = match initialize(Some(&row(Empty, epoch)), None) {
            Ok(Initialized::Next(next)) => next,
            other => panic!("{other:?}"),
        };
        assert_eq!(next == NextIdentity::Fresh, rotates, "epoch {epoch}");
    }
    let before = row(Ongoing, last);
    let Ok(Ending::Complete(completion)) = end(Some(&before), who(last), Commit, true) else {
        panic!("completes");
    };
    assert_eq!(completion.next, NextIdentity::Fresh);
    assert_eq!(completion.marker, who(i16::MAX), "the marker fences the old id");
    // A retry that lost its answer names the old id.
    let fresh = ProducerIdentity {
        producer_id: 9,
        epoch: 0,
    };
    let after = completed(&before, Commit, fresh, StoreTime(6_000));
    let again = end(Some(&after), who(last), Commit, true);
    assert_eq!(again.expect("a repeat"), Ending::Repeat(fresh));
}

#[test]
fn trace_22_only_a_producer_that_recovered_is_answered_again_also_by_a_new_producer_id() {
    let last = i16::MAX - 1;
    let fresh = ProducerIdentity {
        producer_id: 9,
        epoch: 0,
    };
    for (epoch, next) in [(3, who(4)), (last, fresh)] {
        for phase in [Empty, Ongoing, CompleteCommit, CompleteAbort] {
            let before = row(phase, epoch);
            let after = |recovering| Transaction {
                current: next,
                previous: repeatable(Some(&before), recovering),
                ..row(Empty, epoch)
            };
            let again = initialize(Some(&after(Some(who(epoch)))), Some(who(epoch)));
            assert_eq!(again.expect("a repeat"), Initialized::Repeat(next));
            let replaced = initialize(Some(&after(None)), Some(who(epoch)));
            assert!(matches!(replaced, Err(TransactionError::Fenced { .. })));
        }
    }
}

#[test]
fn a_fenced_producer_does_not_end_what_its_successor_began() {
    // It ended its transaction, was replaced, and asks again.
    let after = Transaction {
        previous: Some(who(4)),
        ..row(Empty, 5)
    };
    let late = end(Some(&after), who(4), Commit, true);
    assert!(matches!(late, Err(TransactionError::Fenced { .. })));
    let open = Transaction {
        previous: Some(who(4)),
        ..row(Ongoing, 5)
    };
    assert!(matches!(
        end(Some(&open), who(4), Abort, true),
        Err(TransactionError::Fenced { .. })
    ));
    assert!(matches!(
        initialize(Some(&open), Some(who(4))),
        Err(TransactionError::Fenced { .. })
    ));
}

#[test]
fn only_an_open_transaction_times_out() {
    assert!(expire(&row(Ongoing, 3), StoreTime(6_000)).is_none());
    let completion = expire(&row(Ongoing, 3), StoreTime(6_001)).expect("its time is over");
    assert_eq!((completion.result, completion.marker), (Abort, who(4)));
    assert_eq!(completion.next, NextIdentity::Known(who(4)));
    for phase in [Empty, CompleteCommit, CompleteAbort] {
        assert!(expire(&row(phase, 3), StoreTime(i64::MAX)).is_none());
    }
}
