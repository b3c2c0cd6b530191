//! The faulty store as coordinators of groups ask it: down, or as the one behind it.

use async_trait::async_trait;

use super::FlakyStore;
use crate::ids::{StoreTime, TopicPartition};
use crate::model::group::{
    CommittedOffset, GroupOffset, GroupSnapshot, GroupWrite, ListedGroup, OffsetOutcome, StoredGroup,
};
use crate::store::StoreError;
use crate::store::groups::{GroupError, GroupStore};

#[async_trait]
impl GroupStore for FlakyStore {
    async fn claim_group(&self, group: &str) -> Result<Option<StoredGroup>, StoreError> {
        self.up()?;
        self.inner.claim_group(group).await
    }

    async fn write_group(&self, write: GroupWrite, groups_max: u32) -> Result<i64, GroupError> {
        self.up()?;
        self.inner.write_group(write, groups_max).await
    }

    async fn commit_offsets(
        &self,
        group: &str,
        coordinator_epoch: i64,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<Vec<OffsetOutcome>, GroupError> {
        self.up()?;
        self.inner.commit_offsets(group, coordinator_epoch, offsets).await
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<GroupOffset>, StoreError> {
        self.up()?;
        self.inner.group_offsets(group, partitions).await
    }

    async fn delete_offsets(
        &self,
        group: &str,
        coordinator_epoch: i64,
        partitions: &[TopicPartition],
    ) -> Result<(), GroupError> {
        self.up()?;
        self.inner
            .delete_offsets(group, coordinator_epoch, partitions)
            .await
    }

    async fn delete_group(&self, group: &str, coordinator_epoch: i64) -> Result<(), GroupError> {
        self.up()?;
        self.inner.delete_group(group, coordinator_epoch).await
    }

    async fn list_groups(&self) -> Result<Vec<ListedGroup>, StoreError> {
        self.up()?;
        self.inner.list_groups().await
    }

    async fn expire_groups(&self, before: StoreTime, limit: u32) -> Result<(Vec<String>, bool), StoreError> {
        self.up()?;
        self.inner.expire_groups(before, limit).await
    }

    async fn group_snapshots(&self) -> Result<Vec<GroupSnapshot>, StoreError> {
        self.up()?;
        self.inner.group_snapshots().await
    }
}
