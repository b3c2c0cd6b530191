//! A rebalance of a group of the classic protocol: it is prepared, members join, the next generation begins, its
//! leader assigns, everybody syncs.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Group, Member, Phase};
use crate::group::step::{Millis, Step, SyncReply, Ticket};
use crate::group::{GroupFault, MemberId};

impl Group {
    /// Begins a rebalance if none is being prepared.
    pub(super) fn prepare(&mut self, now: Millis, step: &mut Step) {
        if self.phase == Phase::PreparingRebalance {
            return;
        }
        let timeouts = self
            .members
            .values()
            .map(|member| member.profile.rebalance_timeout_ms);
        self.join_deadline = now + timeouts.max().unwrap_or(0);
        self.join_from = match self.phase {
            Phase::Empty => (now + self.limits.initial_delay_ms).min(self.join_deadline),
            _ => now,
        };
        for member in self.members.values_mut() {
            if let Some(waiting) = member.syncing.take() {
                step.sync(waiting, Err(GroupFault::RebalanceInProgress));
            }
        }
        self.phase = Phase::PreparingRebalance;
    }

    /// Ends the join phase when it is time to.
    pub(super) fn advance(&mut self, now: Millis, step: &mut Step) {
        if self.phase != Phase::PreparingRebalance {
            return;
        }
        let all_joined =
            self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        if !(now >= self.join_deadline || (all_joined && now >= self.join_from)) {
            return;
        }
        let absent = |member: &Member| member.joining.is_none() && member.profile.instance.is_none();
        let gone = self.members.iter().filter(|(_, member)| absent(member));
        step.lapsed.extend(gone.filter_map(|(id, _)| self.lapsed(id)));
        self.members.retain(|_, member| !absent(member));
        if !self.members.is_empty() && self.members.values().all(|member| member.joining.is_none()) {
            // Only static members, none of whom came: their sessions decide.
            let timeouts = self
                .members
                .values()
                .map(|member| member.profile.rebalance_timeout_ms);
            self.join_deadline = now + timeouts.max().unwrap_or(0).max(1);
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty(step);
            return;
        }
        let joined = |id: &MemberId| {
            self.members
                .get(id)
                .is_some_and(|member| member.joining.is_some())
        };
        if !self.leader.as_ref().is_some_and(joined) {
            self.leader = self
                .members
                .iter()
                .find(|(_, member)| member.joining.is_some())
                .map(|(id, _)| id.clone());
        }
        self.protocol = self.elect_protocol();
        self.phase = Phase::CompletingRebalance;
        let timeouts = self
            .members
            .values()
            .map(|member| member.profile.rebalance_timeout_ms);
        self.sync_deadline = now + timeouts.max().unwrap_or(0);
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.join_reply(&id, false);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.session_deadline = now + member.profile.session_timeout_ms;
            member.owes_sync = true;
            if let Some(ticket) = member.joining.take() {
                step.join(ticket, Ok(reply));
            }
        }
    }

    fn become_empty(&mut self, step: &mut Step) {
        self.phase = Phase::Empty;
        self.leader = None;
        self.protocol = None;
        step.store = true;
        step.rebalanced = true;
    }

    /// Of the protocols that all support, the one most members prefer; the first by name among equals.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        let supported = |name: &str| {
            self.members
                .values()
                .all(|member| member.profile.protocols.iter().any(|(known, _)| known == name))
        };
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let preferred = member.profile.protocols.iter().find(|(name, _)| supported(name));
            if let Some((name, _)) = preferred {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.iter().max_by(|(a, x), (b, y)| x.cmp(y).then(b.cmp(a)));
        most.map(|(name, _)| (*name).to_owned())
    }

    /// `protocol` is what the client believes was chosen: type and name (v5 and later).
    pub fn sync(
        &mut self,
        now: Millis,
        ticket: Ticket,
        (member, instance, generation): (&str, Option<&str>, i32),
        protocol: (Option<&str>, Option<&str>),
        assignments: Vec<(MemberId, Bytes)>,
    ) -> Step {
        let mut step = Step::default();
        let checked = self.may_sync(member, instance, generation, protocol);
        if let Err(fault) = checked {
            step.sync(ticket, Err(fault));
            return step;
        }
        self.touch(now, member);
        if let Some(known) = self.members.get_mut(member) {
            known.owes_sync = false;
        }
        if self.phase == Phase::Stable {
            step.sync(ticket, Ok(self.sync_reply(member)));
            return step;
        }
        if let Some(waiting) = self
            .members
            .get_mut(member)
            .and_then(|known| known.syncing.replace(ticket))
        {
            step.sync(waiting, Err(GroupFault::UnknownMember));
        }
        if self.leader.as_deref() == Some(member) {
            let mut given: BTreeMap<MemberId, Bytes> = assignments.into_iter().collect();
            for (id, known) in &mut self.members {
                known.assignment = given.remove(id).unwrap_or_default();
            }
            self.phase = Phase::Stable;
            step.store = true;
            step.rebalanced = true;
            let ids: Vec<MemberId> = self.members.keys().cloned().collect();
            for id in ids {
                let reply = self.sync_reply(&id);
                let Some(known) = self.members.get_mut(&id) else {
                    continue;
                };
                if let Some(ticket) = known.syncing.take() {
                    known.session_deadline = now + known.profile.session_timeout_ms;
                    step.sync(ticket, Ok(reply));
                }
            }
        }
        step
    }

    fn may_sync(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        protocol: (Option<&str>, Option<&str>),
    ) -> Result<(), GroupFault> {
        self.require_member(member, instance)?;
        self.require_generation(generation)?;
        let differs = |given: Option<&str>, ours: &str| given.is_some_and(|given| given != ours);
        // A group that has just come from the newer protocol has chosen none yet, whatever a member was told there.
        let name = self.protocol.as_deref();
        if differs(protocol.0, &self.protocol_type) || name.is_some_and(|name| differs(protocol.1, name)) {
            return Err(GroupFault::InconsistentProtocol);
        }
        match self.phase {
            Phase::Empty => Err(GroupFault::UnknownMember),
            Phase::PreparingRebalance => Err(GroupFault::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    fn sync_reply(&self, member: &str) -> SyncReply {
        SyncReply {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self
                .members
                .get(member)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }
}
