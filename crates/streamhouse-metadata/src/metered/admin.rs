//! The measured store as administrators and retention ask it.

use async_trait::async_trait;

use super::{Fault, Metered, timed};
use crate::ids::{TopicId, TopicPartition};
use crate::model::client_metrics::ClientMetrics;
use crate::model::quota::{ClientQuotas, QuotaChange};
use crate::model::retention::{DeleteUpTo, RetentionRound};
use crate::model::topic::Topic;
use crate::model::topic_config::ConfigChange;
use crate::store::admin::{
    AdminStore, AlterClientMetricsError, AlterConfigError, DeleteRecordsError, QuotaError,
};
use crate::store::{MetadataStore, StoreError};

impl Fault for AlterConfigError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Unknown | Self::Config(_) => None,
        }
    }
}

impl Fault for QuotaError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::TooMany { .. } => None,
        }
    }
}

impl Fault for AlterClientMetricsError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Config(_) | Self::TooMany { .. } => None,
        }
    }
}

#[async_trait]
impl<S: MetadataStore> AdminStore for Metered<S> {
    async fn alter_topic_config(
        &self,
        topic: TopicId,
        change: ConfigChange,
    ) -> Result<Topic, AlterConfigError> {
        let call = self.inner.alter_topic_config(topic, change);
        timed(&self.operations.alter_topic_config, call).await
    }

    async fn delete_records(
        &self,
        deletions: &[(TopicPartition, DeleteUpTo)],
    ) -> Result<Vec<Result<i64, DeleteRecordsError>>, StoreError> {
        let call = self.inner.delete_records(deletions);
        timed(&self.operations.delete_records, call).await
    }

    async fn enforce_retention(&self, partitions: &[TopicPartition]) -> Result<RetentionRound, StoreError> {
        let call = self.inner.enforce_retention(partitions);
        timed(&self.operations.enforce_retention, call).await
    }

    async fn trim_logs(&self, limit: u32) -> Result<bool, StoreError> {
        timed(&self.operations.trim_logs, self.inner.trim_logs(limit)).await
    }

    async fn partition_sizes(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<u64>>, StoreError> {
        let call = self.inner.partition_sizes(partitions);
        timed(&self.operations.partition_sizes, call).await
    }

    async fn client_quotas(&self) -> Result<ClientQuotas, StoreError> {
        timed(&self.operations.client_quotas, self.inner.client_quotas()).await
    }

    async fn alter_client_quotas(
        &self,
        changes: &[QuotaChange],
        entities_max: u32,
    ) -> Result<(), QuotaError> {
        let call = self.inner.alter_client_quotas(changes, entities_max);
        timed(&self.operations.alter_client_quotas, call).await
    }

    async fn client_metrics(&self) -> Result<ClientMetrics, StoreError> {
        timed(&self.operations.client_metrics, self.inner.client_metrics()).await
    }

    async fn alter_client_metrics(
        &self,
        name: &str,
        change: ConfigChange,
        subscriptions_max: u32,
    ) -> Result<(), AlterClientMetricsError> {
        let call = self.inner.alter_client_metrics(name, change, subscriptions_max);
        timed(&self.operations.alter_client_metrics, call).await
    }
}
