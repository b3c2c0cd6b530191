//! What transaction coordinators ask of the metadata store.
//!
//! Each method is one metadata transaction that locks the row of its transactional id first and lets
//! `rules::transaction` judge (DESIGN §4, TRACES 20–23): the row's own epoch fences, not the incarnation.
//! Markers are encoded by a function that the caller passes in, because a store knows no batches and the
//! caller no partitions before the row is locked.
//! Markers count as inline objects but may go beyond their bound, because an open transaction must
//! always be able to end; what is bounded instead is beginning one.

use async_trait::async_trait;
use bytes::Bytes;

use super::{LookupError, StoreError};
use crate::ids::{StoreTime, TopicPartition};
use crate::model::group::CommittedOffset;
use crate::model::producer::ActiveProducer;
use crate::model::transaction::{
    MarkerObject, Markers, ProducerIdentity, Transaction, TransactionPhase, TransactionResult,
};

/// Encodes markers. Pure; may be called again with other partitions.
pub type EncodeMarkers = std::sync::Arc<dyn Fn(&Markers<'_>) -> MarkerObject + Send + Sync>;

/// Why a request about a transaction is refused. Nothing was changed unless said so.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// No such transactional id, or another producer id has it. INVALID_PRODUCER_ID_MAPPING.
    #[error("producer id {0} is not the one of this transactional id")]
    UnknownProducer(i64),
    /// A newer epoch, or a timeout that aborted, fences this one. PRODUCER_FENCED.
    #[error("producer epoch {got} is fenced by {current}")]
    Fenced { current: i16, got: i16 },
    #[error("a transaction in state {0:?} cannot do this")]
    InvalidState(TransactionPhase),
    #[error("no such partition")]
    UnknownPartition,
    /// So many markers wait to be compacted that no transaction may begin. Retriable.
    #[error("no room for the markers of another transaction")]
    MarkersFull,
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

/// Aborts what a producer has open in any of some partitions; see `rules::transaction::abort`.
#[derive(Clone)]
pub struct AbortOpen {
    pub producer: ProducerIdentity,
    pub partitions: Vec<TopicPartition>,
    pub encode: EncodeMarkers,
}

/// What became of an [`AbortOpen`].
#[derive(Clone, Debug)]
pub struct AbortedOpen {
    /// Each partition's own answer, in order; also `Ok` where nothing had been open.
    pub outcomes: Vec<Result<(), TransactionError>>,
    /// The transaction that ended, with its transactional id: a producer has one at most.
    pub ended: Option<(String, Ended)>,
}

/// A marker that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenMarker {
    pub partition: TopicPartition,
    pub offset: i64,
    /// The control batch as it was encoded.
    pub batch: Bytes,
}

/// An offset that a transaction published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedOffset {
    pub group: String,
    pub partition: TopicPartition,
    /// What it replaced.
    pub previous: Option<i64>,
    pub offset: i64,
}

/// What changed when a transaction ended, for those who wait and for those who count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who the producer is from now on.
    pub producer: ProducerIdentity,
    /// Empty on a repeat, and where nothing had been open.
    pub markers: Vec<WrittenMarker>,
    pub offsets: Vec<PublishedOffset>,
}

/// Offsets that a transaction is to publish.
#[derive(Clone, Debug)]
pub struct TransactionOffsets {
    pub transactional_id: String,
    pub producer: ProducerIdentity,
    pub group: String,
    /// The caller has judged generation and member under this epoch of the group.
    pub coordinator_epoch: i64,
    /// KIP-890 part 2: the group joins the transaction here, which may begin it.
    pub implicit: bool,
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
}

/// See the module's head. A part of [`super::MetadataStore`].
#[async_trait]
pub trait TransactionStore: Send + Sync + 'static {
    /// The producer's identity, and what aborting an open transaction changed.
    async fn init_transaction(&self, init: InitTransaction) -> Result<Ended, TransactionError>;

    /// Adds partitions, and begins a transaction if none is open. Whole or not at all: one that does not
    /// exist leaves all out.
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

    /// Holds offsets until the transaction ends; each offset's own answer, in order. They need an open
    /// transaction of the same epoch that the group has been added to, in the same metadata transaction
    /// (TRACES 23).
    async fn add_transaction_offsets(
        &self,
        offsets: TransactionOffsets,
    ) -> Result<Vec<Result<(), LookupError>>, TransactionError>;

    /// Ends a transaction: markers, offsets and aborted ranges become visible in one moment. A repeat
    /// gets the same identity and no markers (TRACES 22). Never refused for want of room.
    async fn end_transaction(&self, end: EndTransaction) -> Result<Ended, TransactionError>;

    /// Aborts up to `limit` transactions that are older than their timeout, raising their epochs; what
    /// became of each, by transactional id.
    async fn abort_expired_transactions(
        &self,
        limit: u32,
        encode: EncodeMarkers,
    ) -> Result<Vec<(String, Ended)>, StoreError>;

    /// Aborts the transaction that a producer has open in any of these partitions, raising its epoch. A
    /// repeat finds nothing open and changes nothing.
    async fn abort_open_transaction(&self, abort: AbortOpen) -> Result<AbortedOpen, TransactionError>;

    /// Removes transactional ids not used since `before` and without an open transaction; their number.
    async fn expire_transactional_ids(&self, before: StoreTime) -> Result<u64, StoreError>;

    async fn transactions(&self) -> Result<Vec<Transaction>, StoreError>;
    async fn transaction(&self, transactional_id: &str) -> Result<Option<Transaction>, StoreError>;

    /// The producers known in a partition, ascending by id.
    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Result<Vec<ActiveProducer>, LookupError>, StoreError>;
}
