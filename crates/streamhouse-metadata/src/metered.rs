//! What every operation of a metadata store takes and how it fails, as its callers see it.
//!
//! [`Metered`] stands before a store, hands every call through unchanged and counts it under the method's
//! own name. Two readings of the clock and one observation a call: the hot reads, which a store answers
//! from its memory, can bear that. A refusal by the rules is an answer, not a failure. A call whose caller
//! went away is not counted: nobody saw it end.

mod admin;
mod groups;
mod transactions;

use std::future::Future;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use streamhouse_observability::families::{MetadataErrorType, MetadataMetrics, MetadataOperationMetrics};
use tracing::Instrument as _;
use tracing::field::Empty;

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

/// A metadata store whose operations are measured.
pub struct Metered<S> {
    inner: S,
    operations: Operations,
}

impl<S: MetadataStore> Metered<S> {
    /// Every series is born here.
    #[must_use]
    pub fn new(inner: S, metrics: &MetadataMetrics) -> Self {
        Self {
            inner,
            operations: Operations::new(metrics),
        }
    }
}

/// A method, and what is counted for it.
struct Operation {
    name: &'static str,
    metrics: MetadataOperationMetrics,
}

/// One handle a method, under the method's name.
macro_rules! operations {
    ($($method:ident)*) => {
        struct Operations {
            $($method: Operation,)*
        }

        impl Operations {
            fn new(metrics: &MetadataMetrics) -> Self {
                Self {
                    $($method: Operation {
                        name: stringify!($method),
                        metrics: metrics.operation(stringify!($method)),
                    },)*
                }
            }
        }
    };
}

operations! {
    now
    probe
    register
    fence
    tombstones
    next_sweep
    unnamed
    swept
    create_topic
    delete_topic
    create_partitions
    topics
    topics_by_name
    topics_by_id
    commit
    allocate_producer_ids
    lookup
    snapshots
    search_timestamp
    inline_payload
    inline_backlog
    inline_batch
    swap
    deleting_objects
    storage_usage
    stored_objects
    forget_objects
    purge_deleted
    expire_producers
    settle
    close
    alter_topic_config
    delete_records
    enforce_retention
    trim_logs
    partition_sizes
    client_quotas
    alter_client_quotas
    client_metrics
    alter_client_metrics
    claim_group
    write_group
    commit_offsets
    group_offsets
    delete_offsets
    delete_group
    list_groups
    expire_groups
    group_snapshots
    init_transaction
    add_partitions
    add_group
    add_transaction_offsets
    end_transaction
    abort_expired_transactions
    abort_open_transaction
    expire_transactional_ids
    transactions
    transaction
    producers
}

/// The fault of the store in an error, if it is one.
trait Fault {
    fn fault(&self) -> Option<&StoreError>;
}

impl Fault for StoreError {
    fn fault(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl Fault for CommitError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Fenced(_)
            | Self::NumberGap { .. }
            | Self::Forgotten(_)
            | Self::Expired
            | Self::InlineFull => None,
        }
    }
}

impl Fault for TopicError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Exists(_) | Self::Unknown | Self::TooMany { .. } | Self::NotMorePartitions { .. } => None,
        }
    }
}

impl Fault for SwapError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Fenced(_) => None,
        }
    }
}

async fn timed<T, E: Fault>(operation: &Operation, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let Operation { name, metrics } = operation;
    let span = tracing::debug_span!("metadata", operation = name, error_type = Empty);
    let began = Instant::now();
    let answer = call.instrument(span.clone()).await;
    metrics.seconds.observe(began.elapsed());
    if let Err(error) = &answer
        && let Some(fault) = error.fault()
    {
        let error_type = match fault {
            StoreError::Unavailable(_) => MetadataErrorType::Unavailable,
            StoreError::Full(_) => MetadataErrorType::Full,
            StoreError::Unknown(_) => MetadataErrorType::Unknown,
            StoreError::Damaged(_) => MetadataErrorType::Damaged,
        };
        metrics.errors(error_type).inc();
        span.record("error_type", fault.error_type());
    }
    answer
}

#[async_trait]
impl<S: MetadataStore> MetadataStore for Metered<S> {
    fn cluster(&self) -> Cluster {
        self.inner.cluster()
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        timed(&self.operations.now, self.inner.now()).await
    }

    async fn probe(&self, write: bool) -> Result<(), StoreError> {
        timed(&self.operations.probe, self.inner.probe(write)).await
    }

    async fn register(&self, advertised: &str) -> Result<Registered, StoreError> {
        timed(&self.operations.register, self.inner.register(advertised)).await
    }

    async fn fence(&self, incarnation: IncarnationId) -> Result<(), StoreError> {
        timed(&self.operations.fence, self.inner.fence(incarnation)).await
    }

    async fn tombstones(&self, before: StoreTime) -> Result<Vec<(IncarnationId, u64)>, StoreError> {
        timed(&self.operations.tombstones, self.inner.tombstones(before)).await
    }

    async fn next_sweep(&self, put_deadline: Duration) -> Result<Option<StoreTime>, StoreError> {
        timed(&self.operations.next_sweep, self.inner.next_sweep(put_deadline)).await
    }

    async fn unnamed(&self, incarnation: IncarnationId, counters: &[u64]) -> Result<Vec<u64>, StoreError> {
        timed(
            &self.operations.unnamed,
            self.inner.unnamed(incarnation, counters),
        )
        .await
    }

    async fn swept(&self, incarnation: IncarnationId, at: StoreTime) -> Result<(), StoreError> {
        timed(&self.operations.swept, self.inner.swept(incarnation, at)).await
    }

    async fn create_topic(&self, topic: NewTopic, limits: TopicLimits) -> Result<Topic, TopicError> {
        timed(
            &self.operations.create_topic,
            self.inner.create_topic(topic, limits),
        )
        .await
    }

    async fn delete_topic(&self, id: TopicId) -> Result<(), TopicError> {
        timed(&self.operations.delete_topic, self.inner.delete_topic(id)).await
    }

    async fn create_partitions(
        &self,
        id: TopicId,
        total: i32,
        limits: TopicLimits,
    ) -> Result<Topic, TopicError> {
        timed(
            &self.operations.create_partitions,
            self.inner.create_partitions(id, total, limits),
        )
        .await
    }

    async fn topics(&self) -> Result<Vec<Topic>, StoreError> {
        timed(&self.operations.topics, self.inner.topics()).await
    }

    async fn topics_by_name(&self, names: &[String]) -> Result<Vec<Option<Topic>>, StoreError> {
        timed(&self.operations.topics_by_name, self.inner.topics_by_name(names)).await
    }

    async fn topics_by_id(&self, ids: &[TopicId]) -> Result<Vec<Option<Topic>>, StoreError> {
        timed(&self.operations.topics_by_id, self.inner.topics_by_id(ids)).await
    }

    async fn commit(&self, request: CommitRequest) -> Result<CommitAnswer, CommitError> {
        timed(&self.operations.commit, self.inner.commit(request)).await
    }

    async fn allocate_producer_ids(&self, count: u32) -> Result<i64, StoreError> {
        timed(
            &self.operations.allocate_producer_ids,
            self.inner.allocate_producer_ids(count),
        )
        .await
    }

    async fn lookup(&self, lookups: &[Lookup]) -> Result<Vec<Result<Located, LookupError>>, StoreError> {
        timed(&self.operations.lookup, self.inner.lookup(lookups)).await
    }

    async fn snapshots(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<PartitionSnapshot, LookupError>>, StoreError> {
        timed(&self.operations.snapshots, self.inner.snapshots(partitions)).await
    }

    async fn search_timestamp(
        &self,
        partition: TopicPartition,
        query: TimestampQuery,
    ) -> Result<Result<Option<LocatedSegment>, LookupError>, StoreError> {
        timed(
            &self.operations.search_timestamp,
            self.inner.search_timestamp(partition, query),
        )
        .await
    }

    async fn inline_payload(&self, object: ObjectId) -> Result<Option<Bytes>, StoreError> {
        timed(&self.operations.inline_payload, self.inner.inline_payload(object)).await
    }

    async fn inline_backlog(&self) -> Result<InlineBacklog, StoreError> {
        timed(&self.operations.inline_backlog, self.inner.inline_backlog()).await
    }

    async fn inline_batch(&self, max_bytes: u64) -> Result<InlineBatch, StoreError> {
        timed(&self.operations.inline_batch, self.inner.inline_batch(max_bytes)).await
    }

    async fn storage_usage(&self) -> Result<StorageUsage, StoreError> {
        timed(&self.operations.storage_usage, self.inner.storage_usage()).await
    }

    async fn stored_objects(&self, after: ObjectId, limit: u32) -> Result<Vec<StoredObject>, StoreError> {
        let call = self.inner.stored_objects(after, limit);
        timed(&self.operations.stored_objects, call).await
    }

    async fn swap(&self, swap: Swap) -> Result<SwapResult, SwapError> {
        timed(&self.operations.swap, self.inner.swap(swap)).await
    }

    async fn deleting_objects(
        &self,
        before: StoreTime,
        limit: u32,
    ) -> Result<Vec<DeletingObject>, StoreError> {
        timed(
            &self.operations.deleting_objects,
            self.inner.deleting_objects(before, limit),
        )
        .await
    }

    async fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        timed(
            &self.operations.forget_objects,
            self.inner.forget_objects(objects),
        )
        .await
    }

    async fn purge_deleted(&self, limit: u32) -> Result<bool, StoreError> {
        timed(&self.operations.purge_deleted, self.inner.purge_deleted(limit)).await
    }

    async fn expire_producers(&self, before: StoreTime) -> Result<u64, StoreError> {
        timed(
            &self.operations.expire_producers,
            self.inner.expire_producers(before),
        )
        .await
    }

    async fn settle(&self) -> Result<bool, StoreError> {
        timed(&self.operations.settle, self.inner.settle()).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        timed(&self.operations.close, self.inner.close()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use streamhouse_observability::{Metrics, MetricsOptions};
    use uuid::Uuid;

    use super::*;
    use crate::sqlite::{Location, SqliteOptions, SqliteStore};
    use crate::testing::FlakyStore;

    fn series(metrics: &Metrics, series: &str) -> Option<String> {
        let text = metrics.render();
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix(series)?.strip_prefix(' ')?.to_owned()))
    }

    #[tokio::test]
    async fn each_call_is_timed_and_only_faults_of_the_store_are_errors() {
        let store = SqliteStore::open(SqliteOptions::new(Location::Memory)).unwrap();
        let metrics = Metrics::new(MetricsOptions::default());
        let metered = Metered::new(FlakyStore::new(Arc::new(store)), &metrics.metadata);
        let count = |operation: &str| {
            let name = format!("streamhouse_metadata_operation_seconds_count{{operation=\"{operation}\"}}");
            series(&metrics, &name)
        };
        let errors = |operation: &str, error_type: &str| {
            let labels = format!("operation=\"{operation}\",error_type=\"{error_type}\"");
            series(
                &metrics,
                &format!("streamhouse_metadata_errors_total{{{labels}}}"),
            )
        };
        assert_eq!(count("commit").as_deref(), Some("0"));
        assert_eq!(errors("commit", "unknown").as_deref(), Some("0"));

        assert!(metered.now().await.is_ok());
        let refused = metered.delete_topic(TopicId(Uuid::nil())).await;
        assert!(matches!(refused, Err(TopicError::Unknown)), "{refused:?}");
        metered.inner.set_down(true);
        assert!(metered.now().await.is_err());

        assert_eq!(count("now").as_deref(), Some("2"));
        assert_eq!(errors("now", "unavailable").as_deref(), Some("1"));
        assert_eq!(count("delete_topic").as_deref(), Some("1"));
        assert_eq!(errors("delete_topic", "unavailable").as_deref(), Some("0"));
        assert_eq!(count("topics").as_deref(), Some("0"));
    }
}
