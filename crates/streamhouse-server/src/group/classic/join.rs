//! Joining a group of the classic protocol: who is let in, under which id, and what it is told.

use bytes::Bytes;

use super::{Group, Join, Member, Phase};
use crate::group::step::{JoinReply, Millis, Step, Ticket};
use crate::group::{GroupFault, MemberId};

impl Group {
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
            step.sync(waiting, Err(GroupFault::FencedInstance));
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

    pub(super) fn join_reply(&self, member: &str, skip_assignment: bool) -> JoinReply {
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
}
