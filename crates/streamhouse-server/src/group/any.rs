//! A group of either protocol, as far as the coordinator treats both alike: timers, what is stored, who may
//! commit, what members of the classic protocol ask; and when a group goes over from one protocol to the other
//! (how, is in `migration`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::group::{GroupKind, GroupState, GroupSummary, StoredGroup};
use streamhouse_metadata::store::StoreError;

use super::classic::{Group, Join, Limits, Phase, stored};
use super::consumer::subscription::TopicView;
use super::consumer::{Beat, BeatReply, ConsumerGroup, ConsumerLimits, stored as consumer_stored};
use super::migration::{MigrationPolicy, downgraded, upgraded};
use super::step::{Answer, Millis, Step, Ticket};
use super::{Committing, GroupFault, MemberId, embedded};

/// What the operator decided for groups of both protocols.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub classic: Limits,
    pub consumer: ConsumerLimits,
    pub migration: MigrationPolicy,
}

#[derive(Clone, Debug)]
pub enum AnyGroup {
    Classic(Group),
    Consumer(ConsumerGroup),
}

impl AnyGroup {
    pub(super) fn restore(stored: &StoredGroup, rules: &Rules, now: Millis) -> Result<Self, StoreError> {
        Ok(match stored.summary.kind {
            GroupKind::Classic => Self::Classic(stored::restore(stored, rules.classic, now)?),
            GroupKind::Consumer => Self::Consumer(consumer_stored::restore(stored, rules.consumer, now)?),
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
            Self::Classic(group) => group.protocol_type == embedded::PROTOCOL_TYPE,
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

    pub(super) fn tick(&mut self, now: Millis, rules: &Rules) -> Step {
        let step = match self {
            Self::Classic(group) => group.tick(now),
            Self::Consumer(group) => group.tick(now),
        };
        self.settle(now, rules, step)
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        match self {
            Self::Classic(group) => group.next_deadline(),
            Self::Consumer(group) => group.next_deadline(),
        }
    }

    /// Whether offsets of these partitions may be committed under this identity: a generation, or a member's epoch,
    /// if the request can have meant one.
    pub(super) fn may_commit(
        &mut self,
        now: Millis,
        identity: (&str, Option<&str>, i32),
        committing: Committing,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> Result<(), GroupFault> {
        match self {
            Self::Classic(group) => group.may_commit(now, identity, committing),
            Self::Consumer(group) => {
                // No version of TxnOffsetCommit knows epochs by name, and all are taken for them, as in Kafka.
                let knows_epochs = committing != Committing::Plain { knows_epochs: false };
                group.may_commit((identity.0, identity.2), knows_epochs, partitions)
            }
        }
    }

    /// JoinGroup: a group without members goes over to the classic protocol, and so does one whose last member of
    /// the newer one is replaced.
    pub(super) fn join(
        &mut self,
        now: Millis,
        rules: &Rules,
        topics: &Arc<TopicView>,
        (ticket, join): (Ticket, Join),
    ) -> Step {
        if let Self::Consumer(group) = self
            && group.members.is_empty()
        {
            let mut classic = Group::new(rules.classic);
            classic.generation = group.epoch;
            *self = Self::Classic(classic);
        }
        let group = match self {
            Self::Classic(group) => return group.join(now, ticket, join),
            Self::Consumer(group) => group,
        };
        if rules.migration.downgrades()
            && let Some(last) = group.last_replaced_by(&join)
            && group.require_common_protocol(&join).is_ok()
        {
            group.members.remove(&last);
            let mut classic = downgraded(group, rules.classic, now);
            let step = classic.join(now, ticket, join);
            *self = Self::Classic(classic);
            return step.and(Step {
                store: true,
                ..Step::default()
            });
        }
        let mut step = Step::default();
        let given = join.member.clone();
        match group.classic_join(now, topics, join) {
            Ok((reply, led_to)) => {
                step.join(ticket, Ok(reply));
                step.and(led_to)
            }
            Err(fault) => {
                let id = match &fault {
                    GroupFault::MemberIdRequired(id) => id.clone(),
                    _ => given,
                };
                step.join(ticket, Err((fault, id)));
                step
            }
        }
    }

    /// SyncGroup.
    pub(super) fn sync(
        &mut self,
        now: Millis,
        (ticket, identity): (Ticket, (&str, Option<&str>, i32)),
        protocol: (Option<&str>, Option<&str>),
        assignments: Vec<(MemberId, Bytes)>,
    ) -> Step {
        match self {
            Self::Classic(group) => group.sync(now, ticket, identity, protocol, assignments),
            Self::Consumer(group) => {
                let answer = Answer::Sync(group.classic_sync(now, identity, protocol));
                Step {
                    answers: vec![(ticket, answer)],
                    ..Step::default()
                }
            }
        }
    }

    /// Heartbeat of the classic protocol; the step holds whatever is answered.
    pub(super) fn heartbeat(
        &mut self,
        now: Millis,
        topics: &Arc<TopicView>,
        identity: (&str, Option<&str>, i32),
    ) -> (Result<(), GroupFault>, Step) {
        match self {
            Self::Classic(group) => {
                let (member, instance, generation) = identity;
                let beat = group.heartbeat(now, member, instance, generation);
                (beat, Step::default())
            }
            Self::Consumer(group) => group.classic_heartbeat(now, topics, identity),
        }
    }

    /// One member leaves as LeaveGroup says it; an administrator removes members of either protocol this way.
    pub(super) fn leave(
        &mut self,
        now: Millis,
        rules: &Rules,
        (member, instance): (&str, Option<&str>),
    ) -> (Result<(), GroupFault>, Step) {
        let group = match self {
            Self::Classic(group) => return group.leave(now, member, instance),
            Self::Consumer(group) => group,
        };
        // It may name the instance alone.
        let holder = instance.filter(|_| member.is_empty());
        let holder = holder.and_then(|instance| group.holder(instance)).cloned();
        match group.leave(holder.as_deref().unwrap_or(member), instance, -1) {
            Ok(step) => (Ok(()), self.settle(now, rules, step)),
            Err(fault) => (Err(fault), Step::default()),
        }
    }

    /// ConsumerGroupHeartbeat. Who joins takes the group over to the newer protocol, if it may.
    pub(super) fn consumer_heartbeat(
        &mut self,
        now: Millis,
        rules: &Rules,
        topics: &Arc<TopicView>,
        beat: Beat,
    ) -> Result<(BeatReply, Step), GroupFault> {
        let classic = match self {
            Self::Consumer(group) => return group.heartbeat(now, topics, beat),
            Self::Classic(_) if beat.epoch != 0 => return Err(GroupFault::OtherProtocol),
            Self::Classic(group) => group,
        };
        let mut group = match classic.phase {
            Phase::Empty => ConsumerGroup::new(rules.consumer, classic.generation),
            _ if rules.migration.upgrades() => upgraded(classic, rules.consumer, topics, now)?,
            _ => return Err(GroupFault::OtherProtocol),
        };
        let (reply, step) = group.heartbeat(now, topics, beat)?;
        let told = classic.turn_away();
        *self = Self::Consumer(group);
        Ok((reply, told.and(step)))
    }

    /// A member of the newer protocol leaves: for good, or, with epoch −2, for a while.
    pub(super) fn consumer_leave(
        &mut self,
        now: Millis,
        rules: &Rules,
        (member, instance, epoch): (&str, Option<&str>, i32),
    ) -> Result<Step, GroupFault> {
        match self {
            Self::Consumer(group) => {
                let step = group.leave(member, instance, epoch)?;
                Ok(self.settle(now, rules, step))
            }
            Self::Classic(_) => Err(GroupFault::OtherProtocol),
        }
    }

    /// After members may have left: a group whose last member of the newer protocol has goes back, if it may.
    fn settle(&mut self, now: Millis, rules: &Rules, step: Step) -> Step {
        if let Self::Consumer(group) = self
            && step.store
            && rules.migration.downgrades()
            && group.is_all_classic()
        {
            *self = Self::Classic(downgraded(group, rules.classic, now));
        }
        step
    }

    /// Whether a member is subscribed to this topic, as far as the subscription of Kafka's consumers can be read.
    pub(super) fn subscribes_to(&self, topic: &str) -> bool {
        let group = match self {
            Self::Classic(group) => group,
            Self::Consumer(group) => {
                let mut members = group.members.values();
                return members.any(|member| member.profile.subscription.wants(topic));
            }
        };
        let wants = |metadata| {
            let subscription = embedded::subscription(metadata);
            subscription.is_some_and(|subscription| subscription.topics.contains(topic))
        };
        let speaks = group.protocol_type == embedded::PROTOCOL_TYPE;
        let members = group.members.values().filter(|_| speaks);
        let mut protocols = members.flat_map(|member| &member.profile.protocols);
        protocols.any(|(_, metadata)| wants(metadata))
    }

    /// Whether what members of the classic protocol ask depends on the topics there are.
    pub(super) fn looks_at_topics(&self) -> bool {
        matches!(self, Self::Consumer(group) if !group.members.is_empty())
    }
}
