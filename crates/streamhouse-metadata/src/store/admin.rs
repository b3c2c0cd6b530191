//! What administrators and retention ask of the metadata store.
//!
//! A log that begins later does so for everybody at once; the rows and objects that nobody can read any
//! more go afterwards, in bounded pieces (TRACES 2, 3, 18). Changes of configuration and quotas are decided
//! on the newest state, in the transaction that stores them. Not here: which clients a quota slows down.

use async_trait::async_trait;

use super::StoreError;
use crate::ids::{TopicId, TopicPartition};
use crate::model::client_metrics::{ClientMetrics, ClientMetricsError};
use crate::model::quota::{ClientQuotas, QuotaChange};
use crate::model::retention::{DeleteUpTo, RetentionRound};
use crate::model::topic::{Topic, TopicConfigError};
use crate::model::topic_config::ConfigChange;

/// Why a topic's configuration stays as it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AlterConfigError {
    #[error("no such topic")]
    Unknown,
    #[error(transparent)]
    Config(#[from] TopicConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why no record of a partition was deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("no such partition")]
    UnknownPartition,
    #[error("offset {offset} is beyond the high watermark {high_watermark}")]
    OutOfRange { offset: i64, high_watermark: i64 },
}

/// Why quotas stay as they were.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QuotaError {
    #[error("the limit of {limit} entities with quotas is reached")]
    TooMany { limit: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a subscription to clients' metrics stays as it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AlterClientMetricsError {
    #[error(transparent)]
    Config(#[from] ClientMetricsError),
    #[error("the limit of {limit} client metrics subscriptions is reached")]
    TooMany { limit: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module's head. A part of [`super::MetadataStore`].
#[async_trait]
pub trait AdminStore: Send + Sync + 'static {
    /// Changes a topic's configuration, all of it or nothing, and returns the topic.
    async fn alter_topic_config(
        &self,
        topic: TopicId,
        change: ConfigChange,
    ) -> Result<Topic, AlterConfigError>;

    /// Raises log start offsets; answers with the new ones, in the order asked. An offset below the log
    /// start changes nothing.
    async fn delete_records(
        &self,
        deletions: &[(TopicPartition, DeleteUpTo)],
    ) -> Result<Vec<Result<i64, DeleteRecordsError>>, StoreError>;

    /// Raises the log start of those of these partitions whose topics' limits of age and bytes
    /// (`rules::retention`) say so. Partitions that do not exist are passed over.
    async fn enforce_retention(&self, partitions: &[TopicPartition]) -> Result<RetentionRound, StoreError>;

    /// Removes about `limit` segments that end below their log's start; true when none is left. Objects
    /// that nothing names any more are marked deleting.
    async fn trim_logs(&self, limit: u32) -> Result<bool, StoreError>;

    /// Bytes of the segments of each partition; `None` where there is no such partition.
    async fn partition_sizes(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<u64>>, StoreError>;

    /// All quotas. There are few: `entities_max` of [`AdminStore::alter_client_quotas`].
    async fn client_quotas(&self) -> Result<ClientQuotas, StoreError>;

    /// Applies all changes in one transaction.
    async fn alter_client_quotas(&self, changes: &[QuotaChange], entities_max: u32)
    -> Result<(), QuotaError>;

    /// All subscriptions to clients' metrics. There are few: `subscriptions_max` of
    /// [`AdminStore::alter_client_metrics`].
    async fn client_metrics(&self) -> Result<ClientMetrics, StoreError>;

    /// Changes one subscription, all of it or nothing; one that has no entry any more goes.
    async fn alter_client_metrics(
        &self,
        name: &str,
        change: ConfigChange,
        subscriptions_max: u32,
    ) -> Result<(), AlterClientMetricsError>;
}
