//! Transactions as they are stored: one row a transactional id (TRACES 20–23).
//!
//! There is no "prepare" state: ending a transaction is one metadata transaction, which appends the markers
//! as one inline object, publishes group offsets and records aborted ranges.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{StoreTime, TopicPartition};

/// A producer id with its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerIdentity {
    pub producer_id: i64,
    pub epoch: i16,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransactionResult {
    Commit,
    Abort,
}

/// Where a transactional id stands. The names are those that Kafka shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TransactionPhase {
    Empty,
    Ongoing,
    CompleteCommit,
    CompleteAbort,
}

/// The row of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub transactional_id: String,
    pub current: ProducerIdentity,
    /// Who it was before the last change of identity: a retry that lost its answer still names this one
    /// (KIP-360, KIP-890; TRACES 22).
    pub previous: Option<ProducerIdentity>,
    pub phase: TransactionPhase,
    pub timeout_ms: i32,
    /// Set while ongoing.
    pub started_at: Option<StoreTime>,
    /// The partitions of the open transaction; the first offset written there, once there is one.
    pub partitions: BTreeMap<TopicPartition, Option<i64>>,
    /// Groups that may get offsets when it commits.
    pub groups: BTreeSet<String>,
    pub last_used: StoreTime,
}

/// A transaction's records in one partition that nobody may see (Kafka's aborted transaction).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedRange {
    pub producer_id: i64,
    pub first_offset: i64,
    /// That of the ABORT marker, inclusive.
    pub last_offset: i64,
}

/// What the markers of an ending transaction say; whoever knows the format of batches encodes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Markers<'a> {
    pub producer: ProducerIdentity,
    pub result: TransactionResult,
    /// Kafka's epoch of the transaction coordinator, which clients show; here the cluster epoch.
    pub coordinator_epoch: i32,
    /// The markers' timestamp.
    pub now: StoreTime,
    /// One marker each, ascending.
    pub partitions: &'a [TopicPartition],
}

/// The encoded markers: one inline object, one batch of one record a partition, in the order asked.
#[derive(Clone, Debug)]
pub struct MarkerObject {
    pub payload: Bytes,
    /// Position and length of each partition's batch, bytes.
    pub batches: Vec<(u64, u32)>,
}
