//! A store around another that loses replies, refuses commits or is down, as the test says.
//!
//! It keeps the promise of [`StoreError`]: what it answers with `Unavailable` changed nothing, what it
//! answers with `Unknown` may have. It also counts requests, so that a test can compare round trips.

mod admin;
mod groups;
mod transactions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::ids::{IncarnationId, ObjectId, StoreTime, TopicId, TopicPartition};
use crate::model::commit::{CommitAnswer, CommitRequest};
use crate::model::object::{
    DeletingObject, InlineBacklog, InlineBatch, StorageUsage, StoredObject, Swap, SwapResult,
};
use crate::model::partition::PartitionSnapshot;
use crate::model::segment::{Located, LocatedSegment, Lookup, TimestampQuery};
use crate::model::topic::{NewTopic, Topic, TopicLimits};
use crate::store::{
    Cluster, CommitError, LookupError, MetadataStore, Registered, StoreError, SwapError, TopicError,
};

/// What happens to one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing.
    None,
    /// Refused before it is executed: [`StoreError::Unavailable`].
    Refused,
    /// Never executed, but nobody can know: [`StoreError::Unknown`].
    RequestLost,
    /// Executed, and nobody can know: [`StoreError::Unknown`].
    ReplyLost,
    /// [`CommitError::InlineFull`] when it holds anything inline.
    InlineFull,
    /// [`StoreError::Damaged`].
    Damaged,
}

/// See the module's head.
pub struct FlakyStore {
    inner: Arc<dyn MetadataStore>,
    faults: Mutex<VecDeque<CommitFault>>,
    down: AtomicBool,
    refuses_agents: AtomicBool,
    commits: AtomicU64,
    requests: AtomicU64,
}

impl FlakyStore {
    #[must_use]
    pub fn new(inner: Arc<dyn MetadataStore>) -> Self {
        Self {
            inner,
            faults: Mutex::default(),
            down: AtomicBool::new(false),
            refuses_agents: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    /// The next commits meet these faults, in this order; those after them none.
    pub fn fail_commits(&self, faults: impl IntoIterator<Item = CommitFault>) {
        self.faults.lock().extend(faults);
    }

    /// While down, everything is answered with [`StoreError::Unavailable`].
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Release);
    }

    /// While it does, registrations are answered with [`StoreError::Unavailable`].
    pub fn refuse_agents(&self, refuse: bool) {
        self.refuses_agents.store(refuse, Ordering::Release);
    }

    /// How many commits were asked for, failed ones included.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// How many requests of any kind were made.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Acquire)
    }

    fn up(&self) -> Result<(), StoreError> {
        self.requests.fetch_add(1, Ordering::AcqRel);
        if self.down.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("made to be down".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl MetadataStore for FlakyStore {
    fn cluster(&self) -> Cluster {
        self.inner.cluster()
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        self.up()?;
        self.inner.now().await
    }

    async fn probe(&self, write: bool) -> Result<(), StoreError> {
        self.up()?;
        self.inner.probe(write).await
    }

    async fn register(&self, advertised: &str) -> Result<Registered, StoreError> {
        self.up()?;
        if self.refuses_agents.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("made to refuse".to_owned()));
        }
        self.inner.register(advertised).await
    }

    async fn fence(&self, incarnation: IncarnationId) -> Result<(), StoreError> {
        self.up()?;
        self.inner.fence(incarnation).await
    }

    async fn tombstones(&self, before: StoreTime) -> Result<Vec<(IncarnationId, u64)>, StoreError> {
        self.up()?;
        self.inner.tombstones(before).await
    }

    async fn next_sweep(&self, put_deadline: Duration) -> Result<Option<StoreTime>, StoreError> {
        self.up()?;
        self.inner.next_sweep(put_deadline).await
    }

    async fn unnamed(&self, incarnation: IncarnationId, counters: &[u64]) -> Result<Vec<u64>, StoreError> {
        self.up()?;
        self.inner.unnamed(incarnation, counters).await
    }

    async fn swept(&self, incarnation: IncarnationId, at: StoreTime) -> Result<(), StoreError> {
        self.up()?;
        self.inner.swept(incarnation, at).await
    }

    async fn create_topic(&self, topic: NewTopic, limits: TopicLimits) -> Result<Topic, TopicError> {
        self.up()?;
        self.inner.create_topic(topic, limits).await
    }

    async fn delete_topic(&self, id: TopicId) -> Result<(), TopicError> {
        self.up()?;
        self.inner.delete_topic(id).await
    }

    async fn create_partitions(
        &self,
        id: TopicId,
        total: i32,
        limits: TopicLimits,
    ) -> Result<Topic, TopicError> {
        self.up()?;
        self.inner.create_partitions(id, total, limits).await
    }

    async fn topics(&self) -> Result<Vec<Topic>, StoreError> {
        self.up()?;
        self.inner.topics().await
    }

    async fn topics_by_name(&self, names: &[String]) -> Result<Vec<Option<Topic>>, StoreError> {
        self.up()?;
        self.inner.topics_by_name(names).await
    }

    async fn topics_by_id(&self, ids: &[TopicId]) -> Result<Vec<Option<Topic>>, StoreError> {
        self.up()?;
        self.inner.topics_by_id(ids).await
    }

    async fn commit(&self, request: CommitRequest) -> Result<CommitAnswer, CommitError> {
        self.commits.fetch_add(1, Ordering::AcqRel);
        self.up()?;
        let fault = self.faults.lock().pop_front().unwrap_or(CommitFault::None);
        match fault {
            CommitFault::None => self.inner.commit(request).await,
            CommitFault::Refused => Err(StoreError::Unavailable("made to refuse".to_owned()).into()),
            CommitFault::RequestLost => Err(StoreError::Unknown("made to lose it".to_owned()).into()),
            CommitFault::ReplyLost => {
                // Its answer, a refusal as well, is what gets lost.
                let _ = self.inner.commit(request).await;
                Err(StoreError::Unknown("made to lose the reply".to_owned()).into())
            }
            CommitFault::InlineFull if request.objects.iter().any(|o| o.payload.is_some()) => {
                Err(CommitError::InlineFull)
            }
            CommitFault::InlineFull => self.inner.commit(request).await,
            CommitFault::Damaged => Err(StoreError::Damaged("made to be damaged".to_owned()).into()),
        }
    }

    async fn allocate_producer_ids(&self, count: u32) -> Result<i64, StoreError> {
        self.up()?;
        self.inner.allocate_producer_ids(count).await
    }

    async fn lookup(&self, lookups: &[Lookup]) -> Result<Vec<Result<Located, LookupError>>, StoreError> {
        self.up()?;
        self.inner.lookup(lookups).await
    }

    async fn snapshots(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<PartitionSnapshot, LookupError>>, StoreError> {
        self.up()?;
        self.inner.snapshots(partitions).await
    }

    async fn search_timestamp(
        &self,
        partition: TopicPartition,
        query: TimestampQuery,
    ) -> Result<Result<Option<LocatedSegment>, LookupError>, StoreError> {
        self.up()?;
        self.inner.search_timestamp(partition, query).await
    }

    async fn inline_payload(&self, object: ObjectId) -> Result<Option<Bytes>, StoreError> {
        self.up()?;
        self.inner.inline_payload(object).await
    }

    async fn inline_backlog(&self) -> Result<InlineBacklog, StoreError> {
        self.up()?;
        self.inner.inline_backlog().await
    }

    async fn inline_batch(&self, max_bytes: u64) -> Result<InlineBatch, StoreError> {
        self.up()?;
        self.inner.inline_batch(max_bytes).await
    }

    async fn storage_usage(&self) -> Result<StorageUsage, StoreError> {
        self.up()?;
        self.inner.storage_usage().await
    }

    async fn stored_objects(&self, after: ObjectId, limit: u32) -> Result<Vec<StoredObject>, StoreError> {
        self.up()?;
        self.inner.stored_objects(after, limit).await
    }

    async fn swap(&self, swap: Swap) -> Result<SwapResult, SwapError> {
        self.up()?;
        self.inner.swap(swap).await
    }

    async fn deleting_objects(
        &self,
        before: StoreTime,
        limit: u32,
    ) -> Result<Vec<DeletingObject>, StoreError> {
        self.up()?;
        self.inner.deleting_objects(before, limit).await
    }

    async fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        self.up()?;
        self.inner.forget_objects(objects).await
    }

    async fn purge_deleted(&self, limit: u32) -> Result<bool, StoreError> {
        self.up()?;
        self.inner.purge_deleted(limit).await
    }

    async fn expire_producers(&self, before: StoreTime) -> Result<u64, StoreError> {
        self.up()?;
        self.inner.expire_producers(before).await
    }

    async fn settle(&self) -> Result<bool, StoreError> {
        self.up()?;
        self.inner.settle().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.up()?;
        self.inner.close().await
    }
}
