//! A group of either protocol, as far as the coordinator treats both alike: timers, what is stored, who may
//! commit; and how a group without members goes over from one protocol to the other.

use std::collections::BTreeMap;

use bytes::Bytes;
use streamhouse_metadata::model::group::{GroupKind, GroupState, GroupSummary, StoredGroup};
use streamhouse_metadata::store::StoreError;

use super::consumer::{ConsumerGroup, ConsumerLimits, stored as consumer_stored};
use super::state::{Group, Limits, Millis, Phase, Step};
use super::{GroupFault, MemberId, stored};

#[derive(Clone, Debug)]
pub enum AnyGroup {
    Classic(Group),
    Consumer(ConsumerGroup),
}

impl AnyGroup {
    pub(super) fn restore(
        stored: &StoredGroup,
        limits: (Limits, ConsumerLimits),
        now: Millis,
    ) -> Result<Self, StoreError> {
        Ok(match stored.summary.kind {
            GroupKind::Classic => Self::Classic(stored::restore(stored, limits.0, now)?),
            GroupKind::Consumer => Self::Consumer(consumer_stored::restore(stored, limits.1, now)?),
        })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Classic(group) => group.phase == Phase::Empty,
            Self::Consumer(group) => group.members.is_empty(),
        }
    }

    #[must_use]
    pub fn members(&self) -> usize {
        match self {
            Self::Classic(group) => group.members.len(),
            Self::Consumer(group) => group.members.len(),
        }
    }

    /// The generation, or the epoch.
    #[must_use]
    pub fn generation(&self) -> i32 {
        match self {
            Self::Classic(group) => group.generation,
            Self::Consumer(group) => group.epoch,
        }
    }

    #[must_use]
    pub fn state(&self) -> GroupState {
        self.summary().state
    }

    /// Whether its members are consumers, whose topics can be told.
    #[must_use]
    pub fn consumes(&self) -> bool {
        match self {
            Self::Classic(group) => group.protocol_type == "consumer",
            Self::Consumer(_) => true,
        }
    }

    pub(super) fn summary(&self) -> GroupSummary {
        match self {
            Self::Classic(group) => stored::summary(group),
            Self::Consumer(group) => consumer_stored::summary(group),
        }
    }

    pub(super) fn payload(&self) -> Bytes {
        match self {
            Self::Classic(group) => stored::group_payload(group),
            Self::Consumer(group) => consumer_stored::group_payload(group),
        }
    }

    pub(super) fn member_payloads(&self) -> BTreeMap<MemberId, Bytes> {
        match self {
            Self::Classic(group) => {
                let members = group.members.iter();
                members
                    .map(|(id, member)| (id.clone(), stored::member_payload(member)))
                    .collect()
            }
            Self::Consumer(group) => {
                let members = group.members.iter();
                members
                    .map(|(id, member)| (id.clone(), consumer_stored::member_payload(member)))
                    .collect()
            }
        }
    }

    pub(super) fn tick(&mut self, now: Millis) -> Step {
        match self {
            Self::Classic(group) => group.tick(now),
            Self::Consumer(group) => group.tick(now),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        match self {
            Self::Classic(group) => group.next_deadline(),
            Self::Consumer(group) => group.next_deadline(),
        }
    }

    /// Whether offsets may be committed under this identity: a generation, or a member's epoch, if the request
    /// can have meant one.
    pub(super) fn may_commit(
        &mut self,
        now: Millis,
        (member, instance, generation): (&str, Option<&str>, i32),
        knows_epochs: bool,
    ) -> Result<(), GroupFault> {
        match self {
            Self::Classic(group) => group.may_commit(now, member, instance, generation),
            Self::Consumer(group) => group.may_commit(member, generation, knows_epochs),
        }
    }

    /// The group for a member of the classic protocol that joins: one without members goes over to it.
    pub(super) fn joined_as_classic(&mut self, limits: Limits) -> Result<&mut Group, GroupFault> {
        if let Self::Consumer(group) = self
            && group.members.is_empty()
        {
            let mut classic = Group::new(limits);
            classic.generation = group.epoch;
            *self = Self::Classic(classic);
        }
        match self {
            Self::Classic(group) => Ok(group),
            Self::Consumer(_) => Err(GroupFault::InconsistentProtocol),
        }
    }

    /// The same for the newer protocol.
    pub(super) fn joined_as_consumer(
        &mut self,
        limits: ConsumerLimits,
    ) -> Result<&mut ConsumerGroup, GroupFault> {
        if let Self::Classic(group) = self
            && group.phase == Phase::Empty
            && group.next_deadline().is_none()
        {
            *self = Self::Consumer(ConsumerGroup::new(limits, group.generation));
        }
        self.consumer()
    }

    pub(super) fn classic(&mut self) -> Result<&mut Group, GroupFault> {
        match self {
            Self::Classic(group) => Ok(group),
            Self::Consumer(_) => Err(GroupFault::UnknownMember),
        }
    }

    pub(super) fn consumer(&mut self) -> Result<&mut ConsumerGroup, GroupFault> {
        match self {
            Self::Consumer(group) => Ok(group),
            Self::Classic(_) => Err(GroupFault::OtherProtocol),
        }
    }
}
