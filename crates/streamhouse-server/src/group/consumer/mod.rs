//! Groups of the newer protocol (KIP-848): members say what they want in heartbeats, the coordinator decides
//! who consumes what and moves each member there step by step.
//!
//! `state` is the machine of a whole group (pure), `admission` says who may ask what of it, `member` moves one member
//! towards its target, `since` keeps since when it has what it has, `assignor` computes targets, `subscription` says
//! which topics a member wants, `pattern` matches their names, `classic` is what members ask that speak the classic
//! protocol, `stored` is the form in which the group lies in the metadata store. Here are the words they share. Not
//! here: timers, the store, the protocol.

mod admission;
pub mod assignor;
pub mod classic;
pub mod member;
pub mod pattern;
pub mod since;
pub mod state;
pub(super) mod stored;
pub mod subscription;

#[cfg(test)]
mod coordinator_tests;
#[cfg(test)]
mod epoch_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use streamhouse_metadata::ids::{TopicId, TopicPartition};

pub use assignor::Assignor;
pub use state::{Beat, BeatReply, ConsumerGroup, ConsumerLimits};

/// Partitions by topic. No topic stands in it without a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment(BTreeMap<TopicId, BTreeSet<i32>>);

impl Assignment {
    pub fn insert(&mut self, topic: TopicId, partition: i32) {
        self.0.entry(topic).or_default().insert(partition);
    }

    pub fn remove(&mut self, topic: TopicId, partition: i32) {
        if let Some(partitions) = self.0.get_mut(&topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.0.remove(&topic);
            }
        }
    }

    #[must_use]
    pub fn holds(&self, topic: TopicId, partition: i32) -> bool {
        self.0.get(&topic).is_some_and(|held| held.contains(&partition))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many partitions it names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Each topic with its partitions, ascending.
    pub fn topics(&self) -> impl DoubleEndedIterator<Item = (TopicId, &BTreeSet<i32>)> {
        self.0.iter().map(|(topic, partitions)| (*topic, partitions))
    }

    /// Ascending.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.topics().flat_map(|(topic, partitions)| {
            let partitions = partitions.iter();
            partitions.map(move |partition| TopicPartition {
                topic,
                partition: *partition,
            })
        })
    }

    fn holds_one_of(&self, other: &Self) -> bool {
        other.partitions().any(|p| self.holds(p.topic, p.partition))
    }

    fn is_within(&self, other: &Self) -> bool {
        self.partitions().all(|p| other.holds(p.topic, p.partition))
    }
}

impl FromIterator<TopicPartition> for Assignment {
    fn from_iter<I: IntoIterator<Item = TopicPartition>>(partitions: I) -> Self {
        let mut all = Self::default();
        for partition in partitions {
            all.insert(partition.topic, partition.partition);
        }
        all
    }
}
