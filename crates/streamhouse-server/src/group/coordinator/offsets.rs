//! Committed offsets: who may commit is the group's to say, what is committed lies in the metadata store only.

use std::collections::HashSet;
use std::sync::Arc;

use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::group::{CommittedOffset, OffsetOutcome};
use streamhouse_metadata::store::LookupError;
use streamhouse_metadata::store::transactions::{TransactionError, TransactionOffsets};

use super::{Groups, Live, Slot};
use crate::group::{Committing, GroupFault};

impl Groups {
    /// Commits offsets as a member, or, with a negative generation, for a group without members.
    /// `knows_epochs`: the request's version does.
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "commit", consumer_group = name))]
    pub async fn commit(
        self: &Arc<Self>,
        name: &str,
        identity: (&str, Option<&str>, i32),
        knows_epochs: bool,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<Vec<OffsetOutcome>, GroupFault> {
        self.with(name, identity.2 < 0, async |slot, live| {
            let committing = Committing::Plain { knows_epochs };
            let partitions = offsets.iter().map(|(partition, _)| *partition);
            live.group
                .may_commit(self.now(), identity, committing, partitions)?;
            let epoch = self.stored_epoch(slot, live).await?;
            let committed = self.metadata.commit_offsets(name, epoch, offsets).await;
            self.definite(slot, live, committed)
        })
        .await?
        .ok_or(match knows_epochs {
            true => GroupFault::UnknownGroup,
            false => GroupFault::IllegalGeneration,
        })
    }

    /// Commits offsets in a transaction, to which `adding` adds them for the group's coordinator epoch; one
    /// outcome each (TRACES 23).
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "commit_in_transaction", consumer_group = name))]
    pub async fn commit_in_transaction(
        self: &Arc<Self>,
        name: &str,
        (member, instance, generation): (&str, Option<&str>, i32),
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        adding: impl FnOnce(i64, Vec<(TopicPartition, CommittedOffset)>) -> TransactionOffsets,
    ) -> Result<Result<Vec<Result<(), LookupError>>, TransactionError>, GroupFault> {
        // Older producers do not say for whom they commit: their transaction alone judges them.
        let anonymous = generation < 0 && member.is_empty() && instance.is_none();
        self.with(name, generation < 0, async |slot, live| {
            if !anonymous {
                let (identity, committing) = ((member, instance, generation), Committing::InTransaction);
                let partitions = offsets.iter().map(|(partition, _)| *partition);
                live.group
                    .may_commit(self.now(), identity, committing, partitions)?;
            }
            let epoch = self.stored_epoch(slot, live).await?;
            let added = self
                .metadata
                .add_transaction_offsets(adding(epoch, offsets))
                .await;
            if let Err(TransactionError::GroupFenced(_)) = added {
                live.forget();
                self.wake(slot);
                return Err(GroupFault::NotCoordinator);
            }
            Ok(added)
        })
        .await?
        .ok_or(GroupFault::IllegalGeneration)
    }

    /// The coordinator epoch of a group, which is stored first if it is not.
    async fn stored_epoch(&self, slot: &Slot, live: &mut Live) -> Result<i64, GroupFault> {
        if live.epoch.is_none() {
            self.store(slot, live).await?;
        }
        live.epoch.ok_or(GroupFault::NotCoordinator)
    }

    /// Removes committed offsets of a group, one outcome each: those of topics that a member is subscribed to stay.
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "delete_offsets", consumer_group = name))]
    pub async fn delete_offsets(
        self: &Arc<Self>,
        name: &str,
        wanted: &[(&str, TopicPartition)],
    ) -> Result<Vec<Result<(), GroupFault>>, GroupFault> {
        self.with(name, false, async |slot, live| {
            if !live.group.is_empty() && !live.group.consumes() {
                return Err(GroupFault::NotEmpty);
            }
            let epoch = live.epoch.ok_or(GroupFault::UnknownGroup)?;
            // Each topic is judged once: that reads what every member has subscribed to.
            let topics: HashSet<&str> = wanted.iter().map(|(topic, _)| *topic).collect();
            let subscribed = topics.into_iter().filter(|topic| live.group.subscribes_to(topic));
            let subscribed: HashSet<&str> = subscribed.collect();
            let mut free = Vec::with_capacity(wanted.len());
            let judged = wanted.iter().map(|(topic, partition)| {
                if subscribed.contains(topic) {
                    return Err(GroupFault::Subscribed);
                }
                free.push(*partition);
                Ok(())
            });
            let outcomes = judged.collect();
            let deleted = self.metadata.delete_offsets(name, epoch, &free).await;
            self.definite(slot, live, deleted)?;
            Ok(outcomes)
        })
        .await?
        .ok_or(GroupFault::UnknownGroup)
    }
}
