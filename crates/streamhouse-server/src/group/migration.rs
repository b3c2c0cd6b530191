//! How a group that has members goes over from one protocol to the other (KIP-848, live migration). Pure.
//!
//! Up, when a member of the newer protocol joins a classic group of consumers: all others stay as members that
//! speak the classic protocol, and what they may have is theirs until they say that they gave it up. Down, when
//! the last member of the newer protocol is gone: the classic group that remains begins with a rebalance.
//! Neither way is a partition ever taken for free that a client may still have.

use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::ids::TopicPartition;

use super::GroupFault;
use super::classic::{self, Group, Limits, Member};
use super::consumer::classic::by_id;
use super::consumer::member::{ClassicSide, MemberState, Profile, Standing};
use super::consumer::since::Since;
use super::consumer::subscription::{Subscription, TopicView};
use super::consumer::{Assignment, ConsumerGroup, ConsumerLimits};
use super::embedded::{self, EmbeddedSubscription};
use super::step::Millis;

/// Which way groups with members may go; groups without any always may. Kafka's
/// `group.consumer.migration.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationPolicy {
    Disabled,
    Upgrade,
    Downgrade,
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    #[must_use]
    pub fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    #[must_use]
    pub fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

/// The assignors that clients come with. What they tell members beside their partitions is a hint for the next
/// leader at most (librdkafka's sticky one sends back what the member said); what others tell would be missed.
const KNOWN_ASSIGNORS: [&str; 4] = ["range", "roundrobin", "sticky", "cooperative-sticky"];

/// What a classic member said and has.
struct Understood {
    subscription: EmbeddedSubscription,
    assigned: Assignment,
}

/// The same group as one of the newer protocol. Who waits in the classic one has to be told to join again.
///
/// # Errors
/// [`GroupFault::OtherProtocol`]: its members are no consumers, are too many, or are assigned by something of
/// their own.
pub(super) fn upgraded(
    group: &Group,
    limits: ConsumerLimits,
    topics: &TopicView,
    now: Millis,
) -> Result<ConsumerGroup, GroupFault> {
    if group.protocol_type != embedded::PROTOCOL_TYPE || group.members.len() > limits.members_max {
        return Err(GroupFault::OtherProtocol);
    }
    let mut understood = BTreeMap::new();
    let mut assigned_to_all: BTreeSet<TopicPartition> = BTreeSet::new();
    for (id, member) in &group.members {
        let said = understand(group, member, topics).ok_or(GroupFault::OtherProtocol)?;
        for partition in said.assigned.partitions() {
            if !assigned_to_all.insert(partition) {
                return Err(GroupFault::OtherProtocol);
            }
        }
        understood.insert(id.clone(), said);
    }
    // A member may not have learnt yet that its leader took something from it: who joined with it has it, until
    // it joins without it. Nobody has been given it since, because then it would have joined again.
    let mut taken = assigned_to_all;
    let members = understood.into_iter().map(|(id, said)| {
        let owned = by_id(&said.subscription.owned, topics);
        let revoking: Assignment = owned.partitions().filter(|p| taken.insert(*p)).collect();
        let held = said.assigned.partitions().chain(revoking.partitions());
        let standing = Standing {
            since: Since::one(held, group.generation),
            epoch: group.generation,
            previous_epoch: group.generation,
            state: match revoking.is_empty() {
                true => MemberState::Stable,
                false => MemberState::Unrevoked,
            },
            assigned: said.assigned.clone(),
            revoking,
        };
        let profile = consumer_profile(&group.members[&id].profile, said.subscription);
        (id, (profile, standing, said.assigned))
    });
    Ok(ConsumerGroup::restored(
        limits,
        (group.generation, group.generation),
        BTreeMap::new(),
        members.collect(),
        now,
    ))
}

fn understand(group: &Group, member: &Member, topics: &TopicView) -> Option<Understood> {
    let protocols = &member.profile.protocols;
    let chosen = protocols
        .iter()
        .find(|(name, _)| Some(name) == group.protocol.as_ref());
    let (name, metadata) = chosen.or_else(|| protocols.first())?;
    let is_known = KNOWN_ASSIGNORS.contains(&name.as_str());
    let subscription = embedded::subscription(metadata)?;
    // Who has just joined has not been assigned anything.
    let assigned = match member.assignment.is_empty() {
        true => Assignment::default(),
        false => {
            let said = embedded::assignment(&member.assignment)?;
            if said.has_user_data && !is_known {
                return None;
            }
            by_id(&said.partitions, topics)
        }
    };
    Some(Understood {
        subscription,
        assigned,
    })
}

fn consumer_profile(profile: &classic::Profile, said: EmbeddedSubscription) -> Profile {
    Profile {
        instance: profile.instance.clone(),
        rack: said.rack,
        client_id: profile.client_id.clone(),
        client_host: profile.client_host.clone(),
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        subscription: Subscription {
            names: said.topics,
            pattern: None,
        },
        assignor: None,
        classic: Some(ClassicSide {
            session_timeout_ms: profile.session_timeout_ms,
            protocols: profile.protocols.clone(),
        }),
    }
}

/// The same group as a classic one, whose members have to join again. Members of the newer protocol are left
/// out; there should be none.
///
/// Its generation is the newest epoch of a member that stays: such members go on, and commit what they have done,
/// until they join; those that were behind are told to begin anew.
pub(super) fn downgraded(group: &ConsumerGroup, limits: Limits, now: Millis) -> Group {
    let mut classic = Group::new(limits);
    embedded::PROTOCOL_TYPE.clone_into(&mut classic.protocol_type);
    let mut members = BTreeMap::new();
    let mut generation = None;
    for (id, member) in &group.members {
        let Some(side) = &member.profile.classic else {
            continue;
        };
        generation = generation.max(Some(member.standing.epoch));
        let metadata = side.protocols.first().map(|(_, metadata)| metadata.clone());
        let held = group.named(member.standing.held());
        let assignment = embedded::encode_assignment(&metadata.unwrap_or_default(), held);
        let profile = classic::Profile {
            instance: member.profile.instance.clone(),
            client_id: member.profile.client_id.clone(),
            client_host: member.profile.client_host.clone(),
            session_timeout_ms: side.session_timeout_ms,
            rebalance_timeout_ms: member.profile.rebalance_timeout_ms,
            protocols: side.protocols.clone(),
        };
        members.insert(id.clone(), Member::restored(profile, assignment, now));
    }
    classic.generation = generation.unwrap_or(group.epoch);
    classic.restored(members, now)
}
