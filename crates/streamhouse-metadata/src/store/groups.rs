//! What coordinators of consumer groups ask of the metadata store.
//!
//! A takeover raises the group's coordinator epoch, and every write is conditional on it (TRACES 24). What
//! is read is linearizable. A group has a row from its first write on; asking about groups that do not
//! exist leaves nothing behind. Not here: generations, members, assignments; the coordinator judges them.

use async_trait::async_trait;

use super::StoreError;
use crate::ids::{StoreTime, TopicPartition};
use crate::model::group::{
    CommittedOffset, GroupOffset, GroupSnapshot, GroupWrite, ListedGroup, OffsetOutcome, StoredGroup,
};

/// Why a group was not written. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GroupError {
    /// Another coordinator has taken over, or the group was created or removed meanwhile: forget what is
    /// in memory and claim it anew.
    #[error("group {0} has another coordinator now")]
    Fenced(String),
    #[error("there is no group {0}")]
    Unknown(String),
    /// It has members, or a transaction holds offsets of it.
    #[error("group {0} is not empty")]
    NotEmpty(String),
    #[error("the limit of {limit} groups is reached")]
    TooMany { limit: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module's head. A part of [`super::MetadataStore`].
#[async_trait]
pub trait GroupStore: Send + Sync + 'static {
    /// Takes a group over: raises its coordinator epoch and loads it. `None` when there is no such group;
    /// nothing is stored then.
    async fn claim_group(&self, group: &str) -> Result<Option<StoredGroup>, StoreError>;

    /// Applies a change and returns the coordinator epoch to be named from then on. `groups_max` bounds
    /// the groups of the cluster and is looked at when one is created. Whether the group is empty follows
    /// from `summary.members`.
    async fn write_group(&self, write: GroupWrite, groups_max: u32) -> Result<i64, GroupError>;

    /// Stores offsets in one transaction, outcomes in the order given. A plain commit is newer than any
    /// offset that a transaction still holds (TRACES 23).
    async fn commit_offsets(
        &self,
        group: &str,
        coordinator_epoch: i64,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<Vec<OffsetOutcome>, GroupError>;

    /// The offsets of a group: of these partitions, in order; or all it has, ascending. Empty for a group
    /// that does not exist.
    async fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<GroupOffset>, StoreError>;

    /// Removes committed offsets; those that are not there are passed over.
    async fn delete_offsets(
        &self,
        group: &str,
        coordinator_epoch: i64,
        partitions: &[TopicPartition],
    ) -> Result<(), GroupError>;

    /// Removes an empty group with its offsets.
    async fn delete_group(&self, group: &str, coordinator_epoch: i64) -> Result<(), GroupError>;

    /// All groups, ascending by name.
    async fn list_groups(&self) -> Result<Vec<ListedGroup>, StoreError>;

    /// Removes up to `limit` groups that have been empty, and whose offsets were all committed, since
    /// before `before`, and offsets older than that of empty groups; never where a transaction holds
    /// offsets (TRACES 23). Returns the groups that are gone and whether more may be left.
    async fn expire_groups(&self, before: StoreTime, limit: u32) -> Result<(Vec<String>, bool), StoreError>;

    /// All groups with the lag of each committed offset, ascending by name; one query, however many
    /// partitions there are.
    async fn group_snapshots(&self) -> Result<Vec<GroupSnapshot>, StoreError>;
}
