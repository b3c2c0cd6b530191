//! Members of the classic protocol in a group of the newer one: they join, sync and send heartbeats as ever, and
//! are assigned by the server (KIP-848, "compatibility with the classic protocol").
//!
//! Their generation is their epoch. A heartbeat tells such a member to join again whenever there is something to
//! be done: its epoch is not the group's, it has to give something up, or what it waits for is free. With
//! JoinGroup it says what it has, and is moved as others are by their heartbeats; with SyncGroup it fetches what
//! it is to have now. So it never has anything that was not stored as its own before, and what it gives up is
//! given away only when it joins again without it. Not here: how groups go over (`migration`).

use std::sync::Arc;

use streamhouse_metadata::ids::TopicPartition;

use super::admission::Admission;
use super::member::{ClassicSide, MemberState};
use super::state::Beat;
use super::subscription::TopicView;
use super::{Assignment, ConsumerGroup};
use crate::group::classic::Join;
use crate::group::embedded::{self, Named};
use crate::group::step::{JoinReply, Millis, Step, SyncReply};
use crate::group::{GroupFault, MemberId};

impl ConsumerGroup {
    /// Whether all members speak the classic protocol, and there are any.
    #[must_use]
    pub fn is_all_classic(&self) -> bool {
        !self.members.is_empty()
            && self
                .members
                .values()
                .all(|member| member.profile.classic.is_some())
    }

    /// A member that joins shares a protocol with all others that speak the classic one; which, does not matter,
    /// until the group goes back.
    pub(in crate::group) fn require_common_protocol(&self, join: &Join) -> Result<(), GroupFault> {
        let others = self.members.iter().filter(|(id, _)| **id != join.member);
        let others = others.filter_map(|(_, member)| member.profile.classic.as_ref());
        let supported = |name: &str| {
            let mut others = others.clone();
            others.all(|other| other.protocols.iter().any(|(known, _)| known == name))
        };
        let common = join.profile.protocols.iter().any(|(name, _)| supported(name));
        if join.protocol_type == embedded::PROTOCOL_TYPE && common {
            Ok(())
        } else {
            Err(GroupFault::InconsistentProtocol)
        }
    }

    /// JoinGroup, which does not wait for others here.
    ///
    /// # Errors
    /// As in a classic group. Nothing has changed then.
    pub fn classic_join(
        &mut self,
        now: Millis,
        topics: &Arc<TopicView>,
        join: Join,
    ) -> Result<(JoinReply, Step), GroupFault> {
        self.require_common_protocol(&join)?;
        let (name, metadata) = join
            .profile
            .protocols
            .first()
            .ok_or(GroupFault::InconsistentProtocol)?;
        let said = embedded::subscription(metadata).ok_or(GroupFault::InconsistentProtocol)?;
        let protocol = name.clone();
        let admission = self.admit_classic(&join)?;
        let id = match join.member.is_empty() {
            true => join.new_member,
            false => join.member,
        };
        let profile = join.profile;
        let rebalance_timeout_ms = profile.rebalance_timeout_ms;
        let beat = Beat {
            member: id.clone(),
            epoch: 0,
            instance: profile.instance,
            rack: said.rack,
            client_id: profile.client_id,
            client_host: profile.client_host,
            rebalance_timeout_ms: Some(rebalance_timeout_ms),
            names: Some(said.topics),
            pattern: Some(None),
            assignor: None,
            owned: Some(by_id(&said.owned, topics)),
            classic: Some(ClassicSide {
                session_timeout_ms: profile.session_timeout_ms,
                protocols: profile.protocols,
            }),
        };
        let (_, step) = self.take_in(now, topics, &admission, beat);
        let member = self.members.get_mut(&id).ok_or(GroupFault::UnknownMember)?;
        member.sync_deadline = Some(now + rebalance_timeout_ms);
        let reply = JoinReply {
            generation: member.standing.epoch,
            protocol_type: embedded::PROTOCOL_TYPE.to_owned(),
            protocol,
            // Nobody's: the server assigns.
            leader: String::new(),
            member: id,
            skip_assignment: false,
            members: Vec::new(),
        };
        Ok((reply, step))
    }

    fn admit_classic(&self, join: &Join) -> Result<Admission, GroupFault> {
        let is_nameless = join.member.is_empty();
        let Some(instance) = &join.profile.instance else {
            if !is_nameless && self.members.contains_key(&join.member) {
                return Ok(Admission::Known);
            }
            self.require_room()?;
            if is_nameless && join.needs_known_member {
                return Err(GroupFault::MemberIdRequired(join.new_member.clone()));
            }
            return Ok(Admission::New);
        };
        match (self.holder(instance), is_nameless) {
            (None, true) => self.require_room().map(|()| Admission::New),
            (None, false) => Err(GroupFault::UnknownMember),
            (Some(old), true) => Ok(Admission::InPlaceOf(old.clone())),
            (Some(holder), false) if *holder != join.member => Err(GroupFault::FencedInstance),
            (Some(_), false) => Ok(Admission::Known),
        }
    }

    /// SyncGroup: what the member is to have now.
    ///
    /// # Errors
    /// As in a classic group.
    pub fn classic_sync(
        &mut self,
        now: Millis,
        (member, instance, generation): (&str, Option<&str>, i32),
        (protocol_type, protocol): (Option<&str>, Option<&str>),
    ) -> Result<SyncReply, GroupFault> {
        let side = self.require_classic(member, instance, generation)?;
        let (name, metadata) = side.protocols.first().ok_or(GroupFault::UnknownMember)?;
        let differs = |given: Option<&str>, ours: &str| given.is_some_and(|given| given != ours);
        if differs(protocol_type, embedded::PROTOCOL_TYPE) || differs(protocol, name) {
            return Err(GroupFault::InconsistentProtocol);
        }
        let (protocol, metadata) = (name.clone(), metadata.clone());
        let epoch = self.epoch;
        let session_timeout_ms = side.session_timeout_ms;
        let known = self.members.get_mut(member).ok_or(GroupFault::UnknownMember)?;
        // Who gives something up goes on doing so before it comes to the newest epoch.
        let is_behind = known.standing.epoch < epoch && known.standing.state != MemberState::Unrevoked;
        if is_behind {
            let rejoin_by = now + known.profile.rebalance_timeout_ms;
            known.rejoin_deadline.get_or_insert(rejoin_by);
            return Err(GroupFault::RebalanceInProgress);
        }
        known.sync_deadline = None;
        known.session_deadline = now + session_timeout_ms;
        let assigned = known.standing.assigned.clone();
        Ok(SyncReply {
            protocol_type: embedded::PROTOCOL_TYPE.to_owned(),
            protocol,
            assignment: embedded::encode_assignment(&metadata, self.named(assigned.partitions())),
        })
    }

    /// Heartbeat: the member lives, and is told to join again when there is something to be done.
    ///
    /// # Errors
    /// As in a classic group; the step holds then as well.
    pub fn classic_heartbeat(
        &mut self,
        now: Millis,
        topics: &Arc<TopicView>,
        (member, instance, generation): (&str, Option<&str>, i32),
    ) -> (Result<(), GroupFault>, Step) {
        let mut step = Step::default();
        let session_timeout_ms = match self.require_classic(member, instance, generation) {
            Ok(side) => side.session_timeout_ms,
            Err(fault) => return (Err(fault), step),
        };
        // Members of the newer protocol may be few and rare.
        self.look(topics, false, &mut step);
        let (epoch, holders) = (self.epoch, &self.holders);
        let Some(known) = self.members.get_mut(member) else {
            return (Err(GroupFault::UnknownMember), step);
        };
        known.session_deadline = now + session_timeout_ms;
        let standing = &known.standing;
        let others_hold =
            |p: TopicPartition| !standing.assigned.holds(p.topic, p.partition) && holders.contains_key(&p);
        let has_to_rejoin = standing.epoch < epoch
            || match standing.state {
                MemberState::Stable => false,
                MemberState::Unrevoked => true,
                MemberState::Unreleased => !known.target.partitions().any(others_hold),
            };
        if has_to_rejoin {
            let rejoin_by = now + known.profile.rebalance_timeout_ms;
            known.rejoin_deadline.get_or_insert(rejoin_by);
            return (Err(GroupFault::RebalanceInProgress), step);
        }
        (Ok(()), step)
    }

    fn require_classic(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<&ClassicSide, GroupFault> {
        match instance.map(|instance| self.holder(instance)) {
            Some(None) => return Err(GroupFault::UnknownMember),
            Some(Some(holder)) if holder != member => return Err(GroupFault::FencedInstance),
            Some(Some(_)) | None => {}
        }
        let known = self.members.get(member).ok_or(GroupFault::UnknownMember)?;
        let side = known.profile.classic.as_ref().ok_or(GroupFault::UnknownMember)?;
        if known.standing.epoch == generation {
            Ok(side)
        } else {
            Err(GroupFault::IllegalGeneration)
        }
    }

    /// The last member of the newer protocol, if it is static and this join takes its place.
    pub(in crate::group) fn last_replaced_by(&self, join: &Join) -> Option<MemberId> {
        let instance = join
            .profile
            .instance
            .as_ref()
            .filter(|_| join.member.is_empty())?;
        let holder = self.holder(instance)?;
        let mut others = self.members.iter().filter(|(id, _)| *id != holder);
        let is_last = others.all(|(_, other)| other.profile.classic.is_some());
        let is_newer = self.members.get(holder)?.profile.classic.is_none();
        (is_last && is_newer).then(|| holder.clone())
    }
}

/// Partitions of topics that exist, by the topics' ids.
pub(in crate::group) fn by_id(named: &Named, topics: &TopicView) -> Assignment {
    let known = named.iter().filter_map(|(name, partitions)| {
        let topic = topics.0.get(name)?;
        let partitions = partitions.iter().copied();
        let existing = partitions.filter(|partition| (0..topic.partitions).contains(partition));
        Some(existing.map(|partition| TopicPartition {
            topic: topic.id,
            partition,
        }))
    });
    known.flatten().collect()
}
