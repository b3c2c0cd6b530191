//! Since which epoch a member has each of the partitions that it holds (KIP-1251).
//!
//! A member commits in the epoch of which it has heard, and may not have heard of its newest one yet. For what it
//! had in the older one already that does no harm: nobody else can have had it since. So each partition keeps the
//! epoch in which it was assigned, also while it is being given up. Shared, because it is copied with every
//! heartbeat and seldom changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use streamhouse_metadata::ids::TopicPartition;

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since(Arc<BTreeMap<TopicPartition, i32>>);

impl Since {
    /// All of them since the same epoch.
    pub fn one(partitions: impl Iterator<Item = TopicPartition>, epoch: i32) -> Self {
        partitions.map(|partition| (partition, epoch)).collect()
    }

    /// `None`: the member does not hold it.
    #[must_use]
    pub fn of(&self, partition: &TopicPartition) -> Option<i32> {
        self.0.get(partition).copied()
    }
}

impl FromIterator<(TopicPartition, i32)> for Since {
    fn from_iter<I: IntoIterator<Item = (TopicPartition, i32)>>(epochs: I) -> Self {
        Self(Arc::new(epochs.into_iter().collect()))
    }
}
