//! The measured store as coordinators of groups ask it.

use async_trait::async_trait;

use super::{Fault, Metered, timed};
use crate::ids::{StoreTime, TopicPartition};
use crate::model::group::{
    CommittedOffset, GroupOffset, GroupSnapshot, GroupWrite, ListedGroup, OffsetOutcome, StoredGroup,
};
use crate::store::groups::{GroupError, GroupStore};
use crate::store::{MetadataStore, StoreError};

impl Fault for GroupError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Fenced(_) | Self::Unknown(_) | Self::NotEmpty(_) | Self::TooMany { .. } => None,
        }
    }
}

#[async_trait]
impl<S: MetadataStore> GroupStore for Metered<S> {
    async fn claim_group(&self, group: &str) -> Result<Option<StoredGroup>, StoreError> {
        timed(&self.operations.claim_group, self.inner.claim_group(group)).await
    }

    async fn write_group(&self, write: GroupWrite, groups_max: u32) -> Result<i64, GroupError> {
        timed(
            &self.operations.write_group,
            self.inner.write_group(write, groups_max),
        )
        .await
    }

    async fn commit_offsets(
        &self,
        group: &str,
        coordinator_epoch: i64,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<Vec<OffsetOutcome>, GroupError> {
        timed(
            &self.operations.commit_offsets,
            self.inner.commit_offsets(group, coordinator_epoch, offsets),
        )
        .await
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<GroupOffset>, StoreError> {
        timed(
            &self.operations.group_offsets,
            self.inner.group_offsets(group, partitions),
        )
        .await
    }

    async fn delete_offsets(
        &self,
        group: &str,
        coordinator_epoch: i64,
        partitions: &[TopicPartition],
    ) -> Result<(), GroupError> {
        timed(
            &self.operations.delete_offsets,
            self.inner.delete_offsets(group, coordinator_epoch, partitions),
        )
        .await
    }

    async fn delete_group(&self, group: &str, coordinator_epoch: i64) -> Result<(), GroupError> {
        timed(
            &self.operations.delete_group,
            self.inner.delete_group(group, coordinator_epoch),
        )
        .await
    }

    async fn list_groups(&self) -> Result<Vec<ListedGroup>, StoreError> {
        timed(&self.operations.list_groups, self.inner.list_groups()).await
    }

    async fn expire_groups(&self, before: StoreTime, limit: u32) -> Result<(Vec<String>, bool), StoreError> {
        timed(
            &self.operations.expire_groups,
            self.inner.expire_groups(before, limit),
        )
        .await
    }

    async fn group_snapshots(&self) -> Result<Vec<GroupSnapshot>, StoreError> {
        timed(&self.operations.group_snapshots, self.inner.group_snapshots()).await
    }
}
