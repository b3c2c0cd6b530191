//! The commit: the one transaction that makes objects' segments readable (DESIGN §2.5–2.6).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{IncarnationId, StoreTime, TopicPartition};
use crate::model::producer::ProducerStamp;

/// What an agent asks the store to commit: the longest durable prefix of its sealed queue.
///
/// A repeat (its reply got lost) keeps `number` and adds no batch; it may leave batches out.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    pub incarnation: IncarnationId,
    /// One more than the incarnation's last commit.
    pub number: u64,
    /// The store refuses the commit after this moment of its own time, and keeps the number free.
    pub valid_until: StoreTime,
    /// In the order in which they were sealed.
    pub objects: Vec<CommitObject>,
    /// Every object counter of this incarnation below it is decided: committed, or given up and its
    /// key deleted. Listing the prefix may start here once the incarnation is a tombstone.
    pub lowest_undecided: u64,
}

/// One object of a commit.
#[derive(Clone, Debug)]
pub struct CommitObject {
    pub counter: u64,
    pub length_bytes: u64,
    /// The object's bytes when it is inline; `None` when they lie in the object store.
    pub payload: Option<Bytes>,
    /// In object order: ascending position, all batches of a partition side by side.
    pub batches: Vec<BatchEntry>,
}

/// What the store has to know of one record batch; its bytes stay opaque.
#[derive(Clone, Copy, Debug)]
pub struct BatchEntry {
    /// Names the batch within its object for good: outcomes refer to it, also after a repeat left
    /// other batches out.
    pub index: u32,
    pub partition: TopicPartition,
    /// Where the batch begins in its object.
    pub position: u64,
    pub length_bytes: u32,
    /// Last offset delta + 1: checked at admission, so it equals the record count.
    pub record_count: u32,
    /// The batch's largest record timestamp, milliseconds.
    pub max_timestamp: i64,
    /// `None` for a producer that is not idempotent.
    pub producer: Option<ProducerStamp>,
    /// `None` for a batch that no transaction holds.
    pub transaction: Option<BatchTransaction>,
}

/// What a batch says of the transaction of its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTransaction {
    /// KIP-890 part 2 (Produce v12): the batch adds its partition to the transaction, and begins one if
    /// none is open, in the commit that appends it. Else the partition must have been added before.
    pub implicit: bool,
}

/// What became of one batch. Stored in the commit row, so that a repeat gets the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchOutcome {
    Appended {
        base_offset: i64,
        log_start_offset: i64,
    },
    /// Stored before: `base_offset` is that of the first copy.
    Duplicate {
        base_offset: i64,
        log_start_offset: i64,
    },
    Refused(AppendRefusal),
}

/// Why a batch was not appended. One refusal never rolls another batch back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AppendRefusal {
    #[error("the partition does not exist")]
    UnknownPartition,
    /// The missing batch may still be on its way: retriable (TRACES 7).
    #[error("expected sequence {expected}, got {got}; the batches between may still arrive")]
    GapPending { expected: i32, got: i32 },
    /// Kafka's OUT_OF_ORDER_SEQUENCE_NUMBER: older than the last five batches, or a gap that has
    /// lasted `gap_timeout`.
    #[error("expected sequence {expected}, got {got}")]
    OutOfOrder { expected: i32, got: i32 },
    /// Older than that of the partition's newest batch, or not that of the transactional id.
    #[error("producer epoch {got} is not the current one, {current}")]
    StaleEpoch { current: i16, got: i16 },
    /// A transactional batch outside a transaction of its partition, or a plain one of a producer that
    /// has a transaction open (TRACES 20).
    #[error("the producer's transaction does not allow this batch")]
    InvalidTransactionState,
    /// A transactional batch of a producer id that no transactional id has (any more).
    #[error("no transactional id has producer id {0}")]
    NotTransactional(i64),
    /// So many markers wait to be compacted that no transaction may begin. Retriable.
    #[error("no room for the markers of another transaction")]
    MarkersFull,
}

/// The outcomes of one object's batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectOutcomes {
    pub counter: u64,
    /// `(BatchEntry::index, outcome)`, ascending by index.
    pub batches: Vec<(u32, BatchOutcome)>,
}

/// The answer to a commit that took effect, now or (on a repeat) before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitAnswer {
    pub number: u64,
    pub committed_at: StoreTime,
    pub objects: Vec<ObjectOutcomes>,
}
