//! A consumer group of the classic protocol as a pure state machine: requests and the passing of time in,
//! answers and the need to store out.
//!
//! It follows Kafka's GroupCoordinator (KIP-62, 134, 345, 394, 814). Invariants: one generation at a time;
//! every ticket that is taken in is answered exactly once; what changes the assignment is stored before it
//! is answered ([`Step::store`]). Time is milliseconds on the coordinator's own clock. Joining is in `join`, the
//! rebalance that follows in `rebalance`. Not here: timers, the metadata store, offsets.

use std::collections::BTreeMap;

use streamhouse_metadata::model::group::GroupState;

use super::{Limits, Member, Phase};
use crate::group::step::{Lapsed, Millis, Step};
use crate::group::{Committing, GroupFault, MemberId};

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Group {
    pub phase: Phase,
    pub generation: i32,
    /// Empty while nobody has joined.
    pub protocol_type: String,
    pub protocol: Option<String>,
    pub leader: Option<MemberId>,
    pub members: BTreeMap<MemberId, Member>,
    pub(super) statics: BTreeMap<String, MemberId>,
    /// Ids that were given out and have not joined yet, with the time at which they are forgotten.
    pub(super) pending: BTreeMap<MemberId, Millis>,
    /// While preparing: not before, and not after.
    pub(super) join_from: Millis,
    pub(super) join_deadline: Millis,
    /// While completing and, if the leader was quicker than others, stable: members that have not synced by then
    /// are removed.
    pub(super) sync_deadline: Millis,
    pub(super) limits: Limits,
}

impl Group {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            join_from: 0,
            join_deadline: 0,
            sync_deadline: 0,
            limits,
        }
    }

    /// A group as it was stored: stable, or empty; session timers start anew. Without a protocol it has come from
    /// the newer one (`migration`), and its members have to join again.
    #[must_use]
    pub fn restored(mut self, members: BTreeMap<MemberId, Member>, now: Millis) -> Self {
        let named = members
            .iter()
            .filter_map(|(id, member)| Some((member.profile.instance.clone()?, id.clone())));
        self.statics = named.collect();
        self.phase = if members.is_empty() {
            Phase::Empty
        } else {
            Phase::Stable
        };
        self.members = members;
        if self.protocol.is_none() && !self.members.is_empty() {
            // Nobody waits for an answer yet.
            self.prepare(now, &mut Step::default());
        }
        self
    }

    #[must_use]
    pub fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::PreparingRebalance => GroupState::PreparingRebalance,
            Phase::CompletingRebalance => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
        }
    }

    /// Answers everybody who waits: there is another rebalance, which begins with joining again.
    pub(in crate::group) fn turn_away(&mut self) -> Step {
        let mut step = Step::default();
        for (id, member) in &mut self.members {
            if let Some(waiting) = member.joining.take() {
                step.join(waiting, Err((GroupFault::RebalanceInProgress, id.clone())));
            }
            if let Some(waiting) = member.syncing.take() {
                step.sync(waiting, Err(GroupFault::RebalanceInProgress));
            }
        }
        step
    }

    /// The id is a member's, and belongs to this instance if it names one (KIP-345).
    pub fn require_member(&self, member: &str, instance: Option<&str>) -> Result<(), GroupFault> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(GroupFault::UnknownMember),
                Some(holder) if holder != member => return Err(GroupFault::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) {
            Ok(())
        } else {
            Err(GroupFault::UnknownMember)
        }
    }

    pub(super) fn require_generation(&self, generation: i32) -> Result<(), GroupFault> {
        if generation == self.generation {
            Ok(())
        } else {
            Err(GroupFault::IllegalGeneration)
        }
    }

    pub(super) fn touch(&mut self, now: Millis, member: &str) {
        if let Some(member) = self.members.get_mut(member) {
            member.session_deadline = now + member.profile.session_timeout_ms;
        }
    }

    pub fn heartbeat(
        &mut self,
        now: Millis,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupFault> {
        self.require_member(member, instance)?;
        self.require_generation(generation)?;
        self.touch(now, member);
        match self.phase {
            Phase::Empty => Err(GroupFault::UnknownMember),
            Phase::PreparingRebalance => Err(GroupFault::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    /// One member leaves; an instance may leave without its member id (KIP-345).
    pub fn leave(
        &mut self,
        now: Millis,
        member: &str,
        instance: Option<&str>,
    ) -> (Result<(), GroupFault>, Step) {
        let mut step = Step::default();
        let id = match instance.and_then(|instance| self.statics.get(instance)) {
            Some(holder) if member.is_empty() => holder.clone(),
            _ => member.to_owned(),
        };
        if instance.is_none() && self.pending.remove(&id).is_some() {
            self.advance(now, &mut step);
            return (Ok(()), step);
        }
        if let Err(fault) = self.require_member(&id, instance) {
            return (Err(fault), step);
        }
        self.remove(now, &id, &mut step);
        (Ok(()), step)
    }

    fn remove(&mut self, now: Millis, id: &str, step: &mut Step) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        if let Some(ticket) = member.joining {
            step.join(ticket, Err((GroupFault::UnknownMember, id.to_owned())));
        }
        if let Some(ticket) = member.syncing {
            step.sync(ticket, Err(GroupFault::UnknownMember));
        }
        self.statics.retain(|_, holder| holder != id);
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
        self.prepare(now, step);
        self.advance(now, step);
    }

    pub(super) fn lapsed(&self, id: &str) -> Option<Lapsed> {
        let profile = &self.members.get(id)?.profile;
        Some(Lapsed {
            member: id.to_owned(),
            client_id: profile.client_id.clone(),
            client_host: profile.client_host.clone(),
        })
    }

    /// Lets time pass: sessions, pending ids and phases that have run out.
    pub fn tick(&mut self, now: Millis) -> Step {
        let mut step = Step::default();
        self.pending.retain(|_, deadline| *deadline > now);
        let expired = |member: &Member| {
            member.joining.is_none() && member.syncing.is_none() && member.session_deadline <= now
        };
        let sync_is_over = self.sync_due().is_some_and(|deadline| deadline <= now);
        let gone: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| expired(member) || (sync_is_over && member.owes_sync))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            step.lapsed.extend(self.lapsed(&id));
            self.remove(now, &id, &mut step);
        }
        self.advance(now, &mut step);
        step
    }

    /// Until when members may ask what they have in this generation, while any has not.
    fn sync_due(&self) -> Option<Millis> {
        let is_given = matches!(self.phase, Phase::CompletingRebalance | Phase::Stable);
        let is_owed = is_given && self.members.values().any(|member| member.owes_sync);
        is_owed.then_some(self.sync_deadline)
    }

    /// When [`Self::tick`] has to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let sessions = self
            .members
            .values()
            .filter(|member| member.joining.is_none() && member.syncing.is_none());
        let phase = match self.phase {
            Phase::PreparingRebalance => {
                let all =
                    self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
                Some(if all { self.join_from } else { self.join_deadline })
            }
            Phase::CompletingRebalance | Phase::Stable => self.sync_due(),
            Phase::Empty => None,
        };
        let sessions = sessions.map(|member| member.session_deadline);
        sessions.chain(self.pending.values().copied()).chain(phase).min()
    }

    /// Whether offsets may be committed under this identity, as Kafka's ClassicGroup decides; counts as a heartbeat.
    pub fn may_commit(
        &mut self,
        now: Millis,
        (member, instance, generation): (&str, Option<&str>, i32),
        committing: Committing,
    ) -> Result<(), GroupFault> {
        // Outside of generations there is nobody to be fenced, whatever name is given.
        if generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        self.require_member(member, instance)?;
        self.require_generation(generation)?;
        self.touch(now, member);
        match (self.phase, committing) {
            (Phase::Empty, _) => Err(GroupFault::UnknownMember),
            (Phase::CompletingRebalance, Committing::Plain { .. }) => Err(GroupFault::RebalanceInProgress),
            // Producers know no such answer and would give up; the generation they name is this one.
            (Phase::CompletingRebalance, Committing::InTransaction)
            | (Phase::PreparingRebalance | Phase::Stable, _) => Ok(()),
        }
    }
}
