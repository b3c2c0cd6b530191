//! Idempotent producers: what a batch carries and what is remembered of it, per partition.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::ids::StoreTime;

/// Batches remembered per producer and partition, as in Kafka: a client may have five in flight.
pub const REMEMBERED_BATCHES: usize = 5;

/// What an idempotent producer puts on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerStamp {
    pub producer_id: i64,
    pub epoch: i16,
    /// Sequence of the batch's first record, 0 ..= 2^31 - 1, wrapping to 0.
    pub base_sequence: i32,
}

/// One remembered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedBatch {
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
}

/// A batch that does not follow was refused, because those before it may still be on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The epoch of the refused batch: a newer epoch's gap begins anew.
    pub epoch: i16,
    /// When the first such batch was refused, in the store's time.
    pub since: StoreTime,
}

/// What administrators may see of a producer in one partition (KIP-664).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub epoch: i16,
    /// Of the newest batch; -1 when only refused ones are known.
    pub last_sequence: i32,
    /// When its state last changed.
    pub last_used: StoreTime,
    /// First offset of its open transaction here.
    pub transaction_start_offset: Option<i64>,
}

/// The row of one producer in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerState {
    /// The epoch of `batches`; without batches, that of the refusal that created the row.
    pub epoch: i16,
    /// Oldest first, at most [`REMEMBERED_BATCHES`], all of `epoch`. Empty when a refusal created the row.
    pub batches: VecDeque<RememberedBatch>,
    /// The gap that is being waited out, if there is one (TRACES 7).
    pub gap: Option<Gap>,
    pub last_used: StoreTime,
}
