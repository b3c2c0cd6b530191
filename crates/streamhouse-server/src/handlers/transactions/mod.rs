//! Transactions (KIP-98, KIP-890, KIP-664): the APIs of producers and of administrators.

pub mod add_offsets;
pub mod add_partitions;
pub mod commit_offsets;
pub mod describe;
pub mod describe_producers;
pub mod end;
pub mod list;
pub mod write_markers;

use streamhouse_metadata::model::transaction::{ProducerIdentity, TransactionPhase};

use crate::transaction::Asking;

/// First versions whose clients know PRODUCER_FENCED.
const FENCED_BY_NAME: i16 = 2;

fn asking(transactional_id: &str, producer_id: i64, epoch: i16) -> Asking<'_> {
    Asking {
        transactional_id,
        producer: ProducerIdentity { producer_id, epoch },
    }
}

/// Kafka's name of a phase.
fn phase_name(phase: TransactionPhase) -> &'static str {
    match phase {
        TransactionPhase::Empty => "Empty",
        TransactionPhase::Ongoing => "Ongoing",
        TransactionPhase::CompleteCommit => "CompleteCommit",
        TransactionPhase::CompleteAbort => "CompleteAbort",
    }
}

/// Every state that Kafka knows; a transaction here is never seen in the others.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];
