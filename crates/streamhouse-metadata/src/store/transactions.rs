//! What transaction coordinators ask of the metadata store.
//!
//! Each method is one metadata transaction that locks the row of its transactional id first and lets
//! `rules::transaction` judge (DESIGN §4, TRACES 20–23): the row's own epoch fences, not the incarnation.
//! Markers are encoded by a function that the caller passes in, because a store knows no batches and the
//! caller no partitions before the row is locked.

use async_trait::async_trait;

use super::StoreError;
use crate::ids::{StoreTime, TopicPartition};
use crate::model::group::CommittedOffset;
use crate::model::transaction::{
    MarkerObject, Markers, ProducerIdentity, Transaction, TransactionPhase, TransactionResult,
};

/// Encodes markers. Pure; may be called again with other partitions.
pub type EncodeMarkers = std::sync::Arc<dyn Fn(&Markers<'_>) -> MarkerObject + Send + Sync>;

/// Why a request about a transaction is refused. Nothing was changed unless said so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// No such transactional id, or another producer id has it.
    #[error("producer id {0} is not the one of this transactional id")]
    UnknownProducer(i64),
    /// A newer epoch, or a timeout that aborted, fences this one.
    #[error("producer epoch {got} is fenced by {current}")]
    Fenced { current: i16, got: i16 },
    #[error("a transaction in state {0:?} cannot do this")]
    InvalidState(TransactionPhase),
    #[error("no such partition")]
    UnknownPartition,
    #[error("group {0} has another coordinator now")]
    GroupFenced(String),
    #[error("the limit of {limit} {what} is reached")]
    TooMany { what: &'static str, limit: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Asks for a producer id, or for the next epoch of the one a transactional id has.
#[derive(Clone)]
pub struct InitTransaction {
    pub transactional_id: String,
    pub timeout_ms: i32,
    /// The producer recovers from an error and names itself (KIP-360).
    pub recovering: Option<ProducerIdentity>,
    pub transactional_ids_max: u32,
    /// An open transaction is aborted in the same step.
    pub encode: EncodeMarkers,
}

/// Ends a transaction.
#[derive(Clone)]
pub struct EndTransaction {
    pub transactional_id: String,
    pub producer: ProducerIdentity,
    pub result: TransactionResult,
    /// KIP-890 part 2: the epoch is raised, or the producer id replaced before epochs run out.
    pub bump_epoch: bool,
    pub encode: EncodeMarkers,
}

/// What changed when a transaction ended, for those who wait and for those who count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Who the producer is from now on.
    pub producer: Option<ProducerIdentity>,
    /// Partition and offset of each marker. Empty on a repeat.
    pub markers: Vec<(TopicPartition, i64)>,
    /// Group, partition, previous and new offset of what was published.
    pub offsets: Vec<(String, TopicPartition, Option<i64>, i64)>,
}

/// Offsets that a transaction is to publish.
#[derive(Clone, Debug)]
pub struct TransactionOffsets {
    pub transactional_id: String,
    pub producer: ProducerIdentity,
    pub group: String,
    /// The caller has judged generation and member under this epoch of the group; `None`: a group that
    /// does not exist yet, which is created empty.
    pub coordinator_epoch: Option<i64>,
    /// KIP-890 part 2: the group joins the transaction here, which may begin it.
    pub implicit: bool,
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
}

/// See the module's head. A part of [`super::MetadataStore`].
#[async_trait]
pub trait TransactionStore: Send + Sync + 'static {
    /// The producer's identity, and what aborting an open transaction changed.
    async fn init_transaction(
        &self,
        init: InitTransaction,
    ) -> Result<(ProducerIdentity, Ended), TransactionError>;

    /// Adds partitions, and begins a transaction if none is open. Whole or not at all.
    async fn add_partitions(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: &[TopicPartition],
    ) -> Result<(), TransactionError>;

    /// Adds a group, and begins a transaction if none is open.
    async fn add_group(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        group: &str,
    ) -> Result<(), TransactionError>;

    async fn add_transaction_offsets(&self, offsets: TransactionOffsets) -> Result<(), TransactionError>;

    async fn end_transaction(&self, end: EndTransaction) -> Result<Ended, TransactionError>;

    /// Aborts up to `limit` transactions that are older than their timeout, raising their epochs; what
    /// became of each, and when the next one is due.
    async fn abort_expired_transactions(
        &self,
        limit: u32,
        encode: EncodeMarkers,
    ) -> Result<(Vec<(String, Ended)>, Option<StoreTime>), StoreError>;

    /// Removes transactional ids not used since `before` and without an open transaction; their number.
    async fn expire_transactional_ids(&self, before: StoreTime) -> Result<u64, StoreError>;

    async fn transactions(&self) -> Result<Vec<Transaction>, StoreError>;
    async fn transaction(&self, transactional_id: &str) -> Result<Option<Transaction>, StoreError>;
}
