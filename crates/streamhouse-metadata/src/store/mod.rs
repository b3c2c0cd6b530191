//! The metadata store by intent: what agents ask of it, and how it may fail.
//!
//! Every implementation loads rows, takes locks in one order (incarnation, topics, partitions,
//! objects, each by id), lets `rules` decide and stores what they say. A commit costs at most three
//! round trips, whatever the number of partitions in it. What is read here is linearizable: it shows
//! every commit that was answered before the read began.

pub mod admin;
pub mod groups;
pub mod transactions;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::ids::{IncarnationId, ObjectId, StoreTime, TopicId, TopicPartition};
use crate::model::commit::{CommitAnswer, CommitRequest};
use crate::model::object::{
    DeletingObject, InlineBacklog, InlineBatch, StorageUsage, StoredObject, Swap, SwapResult,
};
use crate::model::partition::PartitionSnapshot;
use crate::model::segment::{Located, LocatedSegment, Lookup, TimestampQuery};
use crate::model::topic::{NewTopic, Topic, TopicLimits};

/// What an agent learns when it starts an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    pub incarnation: IncarnationId,
    /// Stable per advertised address, positive.
    pub node_id: i32,
}

/// Who this metadata belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub id: Uuid,
    /// Raised when restored metadata is adopted; the leader epoch that clients see.
    pub epoch: i32,
}

/// A fault of the store itself.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing was changed. May go better on another try.
    #[error("metadata store unavailable: {0}")]
    Unavailable(String),
    /// Nothing was changed: the disk has no room. Goes better once somebody makes some.
    #[error("no room for metadata: {0}")]
    Full(String),
    /// The request was sent and its fate is not known: ask again with the same number.
    #[error("metadata store did not answer: {0}")]
    Unknown(String),
    /// What is stored cannot be trusted (corrupt, a failed fsync): the process must stop.
    #[error("metadata store damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// As `metadata_errors_total` and the log call it.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Full(_) => "full",
            Self::Unknown(_) => "unknown",
            Self::Damaged(_) => "damaged",
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The incarnation is a tombstone or unknown: discard all buffers, start a new one.
    #[error("incarnation {0} is fenced")]
    Fenced(IncarnationId),
    #[error("commit {got} does not follow {last}")]
    NumberGap { last: u64, got: u64 },
    /// The commit row was trimmed: it was answered long ago.
    #[error("commit {0} was answered and forgotten")]
    Forgotten(u64),
    /// `valid_until` had passed. Nothing was changed; the number is still free.
    #[error("the commit came after it had stopped being valid")]
    Expired,
    /// Inline objects have reached their bound. Nothing was changed; upload the object instead.
    #[error("no room for inline objects")]
    InlineFull,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum TopicError {
    #[error("topic {0} already exists")]
    Exists(String),
    #[error("no such topic")]
    Unknown,
    #[error("the limit of {limit} {what} is reached")]
    TooMany { what: &'static str, limit: u32 },
    #[error("a topic of {current} partitions cannot get {requested}")]
    NotMorePartitions { current: i32, requested: i32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum LookupError {
    #[error("no such partition")]
    UnknownPartition,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum SwapError {
    #[error("incarnation {0} is fenced")]
    Fenced(IncarnationId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module's head. Methods without an `Option` or a typed refusal only fail with the store.
#[async_trait]
pub trait MetadataStore:
    admin::AdminStore + groups::GroupStore + transactions::TransactionStore + Send + Sync + 'static
{
    fn cluster(&self) -> Cluster;

    /// The store's clock.
    async fn now(&self) -> Result<StoreTime, StoreError>;

    /// Shows that the store answers, at the least cost there is; with `write` that it stores. Changes
    /// nothing that anybody reads.
    async fn probe(&self, write: bool) -> Result<(), StoreError>;

    // --- incarnations -------------------------------------------------------------------------

    /// Starts a new incarnation for the agent at `advertised` ("host:port"). An embedded store, whose
    /// lock proves every predecessor dead, turns all live incarnations into tombstones first.
    async fn register(&self, advertised: &str) -> Result<Registered, StoreError>;

    /// Turns an incarnation into a tombstone: from then on it commits nothing. Idempotent.
    async fn fence(&self, incarnation: IncarnationId) -> Result<(), StoreError>;

    /// Tombstones whose prefix has to be listed for orphans: fenced before `before`, with the lowest
    /// counter at which listing starts.
    async fn tombstones(&self, before: StoreTime) -> Result<Vec<(IncarnationId, u64)>, StoreError>;

    /// When the first tombstone's prefix has to be listed, none sooner than `put_deadline` after it was fenced;
    /// in the past if that was not done yet. `None` without tombstones.
    async fn next_sweep(&self, put_deadline: Duration) -> Result<Option<StoreTime>, StoreError>;

    /// Of these counters of one incarnation, those that no object row names.
    async fn unnamed(&self, incarnation: IncarnationId, counters: &[u64]) -> Result<Vec<u64>, StoreError>;

    /// The tombstone's prefix was found clean at `at`; it is listed again a day later, and forgotten
    /// 30 days after it was fenced.
    async fn swept(&self, incarnation: IncarnationId, at: StoreTime) -> Result<(), StoreError>;

    // --- topics -------------------------------------------------------------------------------

    async fn create_topic(&self, topic: NewTopic, limits: TopicLimits) -> Result<Topic, TopicError>;
    /// Marks the topic deleted (its name is free at once); its rows go in [`MetadataStore::purge_deleted`].
    async fn delete_topic(&self, id: TopicId) -> Result<(), TopicError>;
    async fn create_partitions(
        &self,
        id: TopicId,
        total: i32,
        limits: TopicLimits,
    ) -> Result<Topic, TopicError>;
    async fn topics(&self) -> Result<Vec<Topic>, StoreError>;
    async fn topics_by_name(&self, names: &[String]) -> Result<Vec<Option<Topic>>, StoreError>;
    async fn topics_by_id(&self, ids: &[TopicId]) -> Result<Vec<Option<Topic>>, StoreError>;

    // --- the write path -----------------------------------------------------------------------

    /// Judges and applies a commit in one transaction (DESIGN §2.6–2.7). On [`StoreError::Unknown`] the
    /// caller repeats it with the same number until the answer is definite.
    async fn commit(&self, request: CommitRequest) -> Result<CommitAnswer, CommitError>;

    /// `count` producer ids never given before: the first of them.
    async fn allocate_producer_ids(&self, count: u32) -> Result<i64, StoreError>;

    // --- the read path ------------------------------------------------------------------------

    /// Answers in the order asked. Complete: no segment between the first and the last is left out.
    async fn lookup(&self, lookups: &[Lookup]) -> Result<Vec<Result<Located, LookupError>>, StoreError>;

    async fn snapshots(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<PartitionSnapshot, LookupError>>, StoreError>;

    async fn search_timestamp(
        &self,
        partition: TopicPartition,
        query: TimestampQuery,
    ) -> Result<Result<Option<LocatedSegment>, LookupError>, StoreError>;

    /// The bytes of an inline object; `None` when it was compacted or deleted meanwhile: look up again.
    async fn inline_payload(&self, object: ObjectId) -> Result<Option<Bytes>, StoreError>;

    // --- upkeep -------------------------------------------------------------------------------

    async fn inline_backlog(&self) -> Result<InlineBacklog, StoreError>;
    /// The oldest inline objects of together about `max_bytes` (at least one), with their segments.
    async fn inline_batch(&self, max_bytes: u64) -> Result<InlineBatch, StoreError>;
    async fn swap(&self, swap: Swap) -> Result<SwapResult, SwapError>;
    /// Objects that have been deleting since before `before`, oldest first.
    async fn deleting_objects(
        &self,
        before: StoreTime,
        limit: u32,
    ) -> Result<Vec<DeletingObject>, StoreError>;
    /// What is kept and what waits for upkeep.
    async fn storage_usage(&self) -> Result<StorageUsage, StoreError>;
    /// Stored objects that segments name, by id, those after `after` only: at most `limit`.
    async fn stored_objects(&self, after: ObjectId, limit: u32) -> Result<Vec<StoredObject>, StoreError>;
    /// Removes the rows of objects whose keys have been deleted.
    async fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), StoreError>;
    /// Removes a bounded part of what deleted topics left; true when nothing is left.
    async fn purge_deleted(&self, limit: u32) -> Result<bool, StoreError>;
    /// Removes producer rows not used since `before`; their number.
    async fn expire_producers(&self, before: StoreTime) -> Result<u64, StoreError>;
    /// Moves what a store keeps for fast commits into its ordered tables and shortens its log. To be called
    /// until it is true: nothing is left then of what was there at the first of these calls. Free of work on
    /// an idle store.
    async fn settle(&self) -> Result<bool, StoreError>;

    /// Flushes and releases what the store holds; nothing may be asked afterwards.
    async fn close(&self) -> Result<(), StoreError>;
}
