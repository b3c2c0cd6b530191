//! The faulty store as administrators and retention ask it: down, or as the one behind it.

use async_trait::async_trait;

use super::FlakyStore;
use crate::ids::{TopicId, TopicPartition};
use crate::model::client_metrics::ClientMetrics;
use crate::model::quota::{ClientQuotas, QuotaChange};
use crate::model::retention::{DeleteUpTo, RetentionRound};
use crate::model::topic::Topic;
use crate::model::topic_config::ConfigChange;
use crate::store::StoreError;
use crate::store::admin::{
    AdminStore, AlterClientMetricsError, AlterConfigError, DeleteRecordsError, QuotaError,
};

#[async_trait]
impl AdminStore for FlakyStore {
    async fn alter_topic_config(
        &self,
        topic: TopicId,
        change: ConfigChange,
    ) -> Result<Topic, AlterConfigError> {
        self.up()?;
        self.inner.alter_topic_config(topic, change).await
    }

    async fn delete_records(
        &self,
        deletions: &[(TopicPartition, DeleteUpTo)],
    ) -> Result<Vec<Result<i64, DeleteRecordsError>>, StoreError> {
        self.up()?;
        self.inner.delete_records(deletions).await
    }

    async fn enforce_retention(&self, partitions: &[TopicPartition]) -> Result<RetentionRound, StoreError> {
        self.up()?;
        self.inner.enforce_retention(partitions).await
    }

    async fn trim_logs(&self, limit: u32) -> Result<bool, StoreError> {
        self.up()?;
        self.inner.trim_logs(limit).await
    }

    async fn partition_sizes(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<u64>>, StoreError> {
        self.up()?;
        self.inner.partition_sizes(partitions).await
    }

    async fn client_quotas(&self) -> Result<ClientQuotas, StoreError> {
        self.up()?;
        self.inner.client_quotas().await
    }

    async fn alter_client_quotas(
        &self,
        changes: &[QuotaChange],
        entities_max: u32,
    ) -> Result<(), QuotaError> {
        self.up()?;
        self.inner.alter_client_quotas(changes, entities_max).await
    }

    async fn client_metrics(&self) -> Result<ClientMetrics, StoreError> {
        self.up()?;
        self.inner.client_metrics().await
    }

    async fn alter_client_metrics(
        &self,
        name: &str,
        change: ConfigChange,
        subscriptions_max: u32,
    ) -> Result<(), AlterClientMetricsError> {
        self.up()?;
        self.inner
            .alter_client_metrics(name, change, subscriptions_max)
            .await
    }
}
