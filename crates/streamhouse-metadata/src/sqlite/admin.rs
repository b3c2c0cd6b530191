//! The embedded store as administrators and retention ask it: hands every question to its room.

use async_trait::async_trait;

use super::open::SqliteStore;
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

/// Partitions that retention looks at in one job, so that commits come between.
const RETENTION_PARTITIONS: usize = 64;

#[async_trait]
impl AdminStore for SqliteStore {
    async fn alter_topic_config(
        &self,
        topic: TopicId,
        change: ConfigChange,
    ) -> Result<Topic, AlterConfigError> {
        self.write(move |writer| writer.alter_topic_config(topic, &change))
            .await
    }

    async fn delete_records(
        &self,
        deletions: &[(TopicPartition, DeleteUpTo)],
    ) -> Result<Vec<Result<i64, DeleteRecordsError>>, StoreError> {
        let deletions = deletions.to_vec();
        self.write(move |writer| writer.delete_records(&deletions)).await
    }

    async fn enforce_retention(&self, partitions: &[TopicPartition]) -> Result<RetentionRound, StoreError> {
        self.settle_all().await?;
        let mut whole = RetentionRound::default();
        for chunk in partitions.chunks(RETENTION_PARTITIONS) {
            let chunk = chunk.to_vec();
            let part = self.write(move |writer| writer.enforce_retention(&chunk)).await?;
            whole.raised.extend(part.raised);
            whole.more |= part.more;
            whole.due = whole.due.into_iter().chain(part.due).min();
        }
        Ok(whole)
    }

    async fn trim_logs(&self, limit: u32) -> Result<bool, StoreError> {
        if self.shared.hot.read().untrimmed.is_empty() {
            return Ok(true);
        }
        self.settle_all().await?;
        self.write(move |writer| writer.trim_chunk(limit)).await
    }

    async fn partition_sizes(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<u64>>, StoreError> {
        let hot = self.shared.hot.read();
        let size = |id| hot.live(id).map(|partition| partition.size_bytes);
        Ok(partitions.iter().map(size).collect())
    }

    async fn client_quotas(&self) -> Result<ClientQuotas, StoreError> {
        Ok(self.shared.hot.read().quotas.clone())
    }

    async fn alter_client_quotas(
        &self,
        changes: &[QuotaChange],
        entities_max: u32,
    ) -> Result<(), QuotaError> {
        let changes = changes.to_vec();
        self.write(move |writer| writer.alter_client_quotas(&changes, entities_max))
            .await
    }

    async fn client_metrics(&self) -> Result<ClientMetrics, StoreError> {
        Ok(self.shared.hot.read().client_metrics.clone())
    }

    async fn alter_client_metrics(
        &self,
        name: &str,
        change: ConfigChange,
        subscriptions_max: u32,
    ) -> Result<(), AlterClientMetricsError> {
        let name = name.to_owned();
        self.write(move |writer| writer.alter_client_metrics(&name, &change, subscriptions_max))
            .await
    }
}
