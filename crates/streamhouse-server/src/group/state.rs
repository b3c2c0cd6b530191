//! A consumer group of the classic protocol as a pure state machine: requests and the passing of time in,
//! answers and the need to store out.
//!
//! It follows Kafka's GroupCoordinator (KIP-62, 134, 345, 394, 814). Invariants: one generation at a time;
//! every ticket that is taken in is answered exactly once; what changes the assignment is stored before it
//! is answered ([`Step::store`]). Time is milliseconds on the coordinator's own clock. Not here: timers,
//! the metadata store, offsets.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{GroupFault, JoinReply, MemberId};

/// Names a request that waits for its answer.
pub type Ticket = u64;
/// Milliseconds on the coordinator's clock.
pub type Millis = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

/// What a member said of itself when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    /// Name and metadata, the preferred first.
    pub protocols: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug)]
pub struct Member {
    pub profile: Profile,
    pub assignment: Bytes,
    session_deadline: Millis,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
}

impl Member {
    pub fn restored(profile: Profile, assignment: Bytes, now: Millis) -> Self {
        Self {
            session_deadline: now + profile.session_timeout_ms,
            profile,
            assignment,
            joining: None,
            syncing: None,
        }
    }
}

/// A JoinGroup request, checked against the server's limits.
#[derive(Clone, Debug)]
pub struct Join {
    /// Empty for a member that has no id yet.
    pub member: MemberId,
    /// The id that a new member gets.
    pub new_member: MemberId,
    pub protocol_type: String,
    pub profile: Profile,
    /// KIP-394: the client is told its id first (v4 and later, not for static members).
    pub needs_known_member: bool,
    /// KIP-814: a static leader may be told to keep its assignment.
    pub may_skip_assignment: bool,
}

/// An answer to a waiting request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Join(Result<JoinReply, (GroupFault, MemberId)>),
    Sync(Result<SyncReply, GroupFault>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReply {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

/// A member that is out of its group because it was not heard of in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lapsed {
    pub member: MemberId,
    pub client_id: String,
    pub client_host: String,
}

/// What a step leads to.
#[derive(Debug, Default)]
pub struct Step {
    pub answers: Vec<(Ticket, Answer)>,
    /// The group has to be stored before anything is answered.
    pub store: bool,
    /// A generation was completed.
    pub rebalanced: bool,
    /// For the log: nobody else says why a partition is not read any more.
    pub lapsed: Vec<Lapsed>,
}

impl Step {
    pub(super) fn and(mut self, then: Self) -> Self {
        self.answers.extend(then.answers);
        self.store |= then.store;
        self.rebalanced |= then.rebalanced;
        self.lapsed.extend(then.lapsed);
        self
    }

    pub(super) fn join(&mut self, ticket: Ticket, answer: Result<JoinReply, (GroupFault, MemberId)>) {
        self.answers.push((ticket, Answer::Join(answer)));
    }
}

/// Bounds that the operator sets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub initial_delay_ms: u64,
    pub members_max: usize,
}

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
    statics: BTreeMap<String, MemberId>,
    /// Ids that were given out and have not joined yet, with the time at which they are forgotten.
    pending: BTreeMap<MemberId, Millis>,
    /// While preparing: not before, and not after.
    join_from: Millis,
    join_deadline: Millis,
    /// While completing: members that have not synced by then are removed.
    sync_deadline: Millis,
    limits: Limits,
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

    /// Answers everybody who waits: there is another rebalance, which begins with joining again.
    pub(super) fn turn_away(&mut self) -> Step {
        let mut step = Step::default();
        for (id, member) in &mut self.members {
            if let Some(waiting) = member.joining.take() {
                step.join(waiting, Err((GroupFault::RebalanceInProgress, id.clone())));
            }
            if let Some(waiting) = member.syncing.take() {
                step.answers
                    .push((waiting, Answer::Sync(Err(GroupFault::RebalanceInProgress))));
            }
        }
        step
    }

    pub fn join(&mut self, now: Millis, ticket: Ticket, join: Join) -> Step {
        let mut step = Step::default();
        let given = join.member.clone();
        if let Err(fault) = self.admit_join(now, ticket, join, &mut step) {
            let id = if let GroupFault::MemberIdRequired(id) = &fault {
                id.clone()
            } else {
                given
            };
            step.join(ticket, Err((fault, id)));
        }
        self.advance(now, &mut step);
        step
    }

    fn admit_join(
        &mut self,
        now: Millis,
        ticket: Ticket,
        join: Join,
        step: &mut Step,
    ) -> Result<(), GroupFault> {
        self.require_common_protocol(&join)?;
        let Join {
            member,
            new_member,
            profile,
            ..
        } = join.clone();
        if member.is_empty() {
            if let Some(instance) = &profile.instance
                && let Some(old) = self.statics.get(instance).cloned()
            {
                self.replace_static(now, ticket, &old, join, step);
                return Ok(());
            }
            self.require_room()?;
            if join.needs_known_member && profile.instance.is_none() {
                self.pending
                    .insert(new_member.clone(), now + profile.session_timeout_ms);
                return Err(GroupFault::MemberIdRequired(new_member));
            }
            self.add(now, ticket, new_member, join, step);
            return Ok(());
        }
        if self.pending.remove(&member).is_some() {
            self.require_room()?;
            self.add(now, ticket, member, join, step);
            return Ok(());
        }
        self.require_member(&member, profile.instance.as_deref())?;
        let matches = self.members[&member].profile.protocols == profile.protocols;
        let is_leader = self.leader.as_ref() == Some(&member);
        let unchanged = match self.phase {
            Phase::PreparingRebalance => false,
            Phase::CompletingRebalance => matches,
            Phase::Stable => matches && !is_leader,
            Phase::Empty => return Err(GroupFault::UnknownMember),
        };
        if unchanged {
            self.touch(now, &member);
            step.join(ticket, Ok(self.join_reply(&member, false)));
            return Ok(());
        }
        let Some(known) = self.members.get_mut(&member) else {
            return Err(GroupFault::UnknownMember);
        };
        known.profile = profile;
        if let Some(earlier) = known.joining.replace(ticket) {
            step.join(earlier, Err((GroupFault::UnknownMember, member.clone())));
        }
        self.touch(now, &member);
        self.prepare(now, step);
        Ok(())
    }

    fn require_room(&self) -> Result<(), GroupFault> {
        let members = self.members.len() + self.pending.len();
        if members >= self.limits.members_max {
            Err(GroupFault::Full)
        } else {
            Ok(())
        }
    }

    /// The group speaks one type of protocol, and every member supports one that all support.
    fn require_common_protocol(&self, join: &Join) -> Result<(), GroupFault> {
        if join.protocol_type.is_empty() || join.profile.protocols.is_empty() {
            return Err(GroupFault::InconsistentProtocol);
        }
        if self.phase == Phase::Empty {
            return Ok(());
        }
        let others = self.members.iter().filter(|(id, _)| **id != join.member);
        let supported = |name: &str| {
            others
                .clone()
                .all(|(_, other)| other.profile.protocols.iter().any(|(known, _)| known == name))
        };
        let common = join.profile.protocols.iter().any(|(name, _)| supported(name));
        if self.protocol_type == join.protocol_type && common {
            Ok(())
        } else {
            Err(GroupFault::InconsistentProtocol)
        }
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

    fn require_generation(&self, generation: i32) -> Result<(), GroupFault> {
        if generation == self.generation {
            Ok(())
        } else {
            Err(GroupFault::IllegalGeneration)
        }
    }

    fn add(&mut self, now: Millis, ticket: Ticket, id: MemberId, join: Join, step: &mut Step) {
        if let Some(instance) = &join.profile.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type;
        }
        let mut member = Member::restored(join.profile, Bytes::new(), now);
        member.joining = Some(ticket);
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, member);
        if self.phase == Phase::PreparingRebalance && self.join_from > now {
            // Others are still starting: wait a little longer, as long as members would.
            self.join_from = (now + self.limits.initial_delay_ms).min(self.join_deadline);
        }
        self.prepare(now, step);
    }

    /// A static member came back under a new id: the old one is fenced, and the group goes on as it was
    /// unless the protocol would change.
    fn replace_static(&mut self, now: Millis, ticket: Ticket, old: &str, join: Join, step: &mut Step) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        let new = join.new_member.clone();
        if let Some(waiting) = member.joining.take() {
            step.join(waiting, Err((GroupFault::FencedInstance, old.to_owned())));
        }
        if let Some(waiting) = member.syncing.take() {
            step.answers
                .push((waiting, Answer::Sync(Err(GroupFault::FencedInstance))));
        }
        member.profile = join.profile;
        member.session_deadline = now + member.profile.session_timeout_ms;
        if let Some(instance) = &member.profile.instance {
            self.statics.insert(instance.clone(), new.clone());
        }
        let was_leader = self.leader.as_deref() == Some(old);
        if was_leader {
            self.leader = Some(new.clone());
        }
        self.members.insert(new.clone(), member);
        if self.phase == Phase::Stable && self.elect_protocol() == self.protocol {
            step.store = true;
            let mut reply = self.join_reply(&new, was_leader && join.may_skip_assignment);
            if was_leader && !join.may_skip_assignment {
                // It must not compute an assignment: nobody else would learn of it.
                reply.leader = old.to_owned();
                reply.members.clear();
            }
            step.join(ticket, Ok(reply));
            return;
        }
        if let Some(member) = self.members.get_mut(&new) {
            member.joining = Some(ticket);
        }
        self.prepare(now, step);
    }

    fn touch(&mut self, now: Millis, member: &str) {
        if let Some(member) = self.members.get_mut(member) {
            member.session_deadline = now + member.profile.session_timeout_ms;
        }
    }

    /// Begins a rebalance if none is being prepared.
    fn prepare(&mut self, now: Millis, step: &mut Step) {
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
                step.answers
                    .push((waiting, Answer::Sync(Err(GroupFault::RebalanceInProgress))));
            }
        }
        self.phase = Phase::PreparingRebalance;
    }

    /// Ends the join phase when it is time to.
    fn advance(&mut self, now: Millis, step: &mut Step) {
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
    fn elect_protocol(&self) -> Option<String> {
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

    fn join_reply(&self, member: &str, skip_assignment: bool) -> JoinReply {
        let protocol = self.protocol.clone().unwrap_or_default();
        let is_leader = self.leader.as_deref() == Some(member);
        let metadata = |other: &Member| {
            let found = other.profile.protocols.iter().find(|(name, _)| *name == protocol);
            found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
        };
        let members = self.members.iter().filter(|_| is_leader);
        JoinReply {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member: member.to_owned(),
            skip_assignment,
            members: members
                .map(|(id, other)| (id.clone(), other.profile.instance.clone(), metadata(other)))
                .collect(),
            protocol,
        }
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
            step.answers.push((ticket, Answer::Sync(Err(fault))));
            return step;
        }
        self.touch(now, member);
        if self.phase == Phase::Stable {
            step.answers
                .push((ticket, Answer::Sync(Ok(self.sync_reply(member)))));
            return step;
        }
        if let Some(waiting) = self
            .members
            .get_mut(member)
            .and_then(|known| known.syncing.replace(ticket))
        {
            step.answers
                .push((waiting, Answer::Sync(Err(GroupFault::UnknownMember))));
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
                    step.answers.push((ticket, Answer::Sync(Ok(reply))));
                }
            }
        }
        step
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
            step.answers
                .push((ticket, Answer::Sync(Err(GroupFault::UnknownMember))));
        }
        self.statics.retain(|_, holder| holder != id);
        if self.leader.as_deref() == Some(id) {
            self.leader = None;
        }
        self.prepare(now, step);
        self.advance(now, step);
    }

    fn lapsed(&self, id: &str) -> Option<Lapsed> {
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
        let unsynced = self.phase == Phase::CompletingRebalance && now >= self.sync_deadline;
        let gone: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| expired(member) || (unsynced && member.syncing.is_none()))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            step.lapsed.extend(self.lapsed(&id));
            self.remove(now, &id, &mut step);
        }
        self.advance(now, &mut step);
        step
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
            Phase::CompletingRebalance => Some(self.sync_deadline),
            Phase::Empty | Phase::Stable => None,
        };
        let sessions = sessions.map(|member| member.session_deadline);
        sessions.chain(self.pending.values().copied()).chain(phase).min()
    }

    /// Whether offsets may be committed under this identity; counts as a heartbeat.
    pub fn may_commit(
        &mut self,
        now: Millis,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupFault> {
        if generation < 0 && member.is_empty() && instance.is_none() && self.phase == Phase::Empty {
            return Ok(());
        }
        self.require_member(member, instance)?;
        self.require_generation(generation)?;
        self.touch(now, member);
        match self.phase {
            Phase::Empty => Err(GroupFault::UnknownMember),
            Phase::CompletingRebalance => Err(GroupFault::RebalanceInProgress),
            Phase::PreparingRebalance | Phase::Stable => Ok(()),
        }
    }
}
