//! What members of the classic protocol ask: join, sync, heartbeat, leave.

use std::sync::Arc;

use bytes::Bytes;

use super::Groups;
use crate::group::any::AnyGroup;
use crate::group::state::{Answer, Join, Step, SyncReply};
use crate::group::{GroupFault, JoinReply, MemberId};

impl Groups {
    pub async fn join(self: &Arc<Self>, name: &str, join: Join) -> Result<JoinReply, (GroupFault, MemberId)> {
        let member = join.member.clone();
        let fail = |fault| (fault, member.clone());
        // Only a member without an id can begin a group.
        let create = join.member.is_empty();
        let joined = self
            .with(name, create, async |slot, live| {
                live.group.joined_as_classic(self.limits())?;
                let (ticket, answer) = self.ticket(live);
                let step = live.group.classic()?.join(self.now(), ticket, join);
                self.apply(slot, live, step).await?;
                Ok(answer)
            })
            .await;
        let answer = match joined.map_err(fail)? {
            Some(answer) => self.answer(answer).await.map_err(fail)?,
            None => return Err(fail(GroupFault::UnknownMember)),
        };
        match answer {
            Answer::Join(reply) => reply,
            Answer::Sync(_) => Err(fail(GroupFault::NotCoordinator)),
        }
    }

    pub async fn sync(
        self: &Arc<Self>,
        name: &str,
        identity: (&str, Option<&str>, i32),
        protocol: (Option<&str>, Option<&str>),
        assignments: Vec<(MemberId, Bytes)>,
    ) -> Result<SyncReply, GroupFault> {
        let answer = self
            .with(name, false, async |slot, live| {
                live.group.classic()?;
                let (ticket, answer) = self.ticket(live);
                let step = live
                    .group
                    .classic()?
                    .sync(self.now(), ticket, identity, protocol, assignments);
                self.apply(slot, live, step).await?;
                Ok(answer)
            })
            .await?
            .ok_or(GroupFault::UnknownMember)?;
        match self.answer(answer).await? {
            Answer::Sync(reply) => reply,
            Answer::Join(_) => Err(GroupFault::NotCoordinator),
        }
    }

    pub async fn heartbeat(
        self: &Arc<Self>,
        name: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), GroupFault> {
        self.with(name, false, async |_, live| {
            let group = live.group.classic()?;
            group.heartbeat(self.now(), member, instance, generation)
        })
        .await?
        .ok_or(GroupFault::UnknownMember)
    }

    /// One outcome a member, in the order asked.
    pub async fn leave(
        self: &Arc<Self>,
        name: &str,
        members: &[(MemberId, Option<String>)],
    ) -> Result<Vec<Result<(), GroupFault>>, GroupFault> {
        let left = self
            .with(name, false, async |slot, live| {
                let mut outcomes = Vec::with_capacity(members.len());
                for (member, instance) in members {
                    let instance = instance.as_deref();
                    let (outcome, step) = match &mut live.group {
                        AnyGroup::Classic(group) => group.leave(self.now(), member, instance),
                        // An administrator removes members of either protocol this way.
                        AnyGroup::Consumer(group) => {
                            // It may name the instance alone.
                            let holder = instance.filter(|_| member.is_empty());
                            let holder = holder.and_then(|instance| group.holder(instance)).cloned();
                            match group.leave(holder.as_ref().unwrap_or(member), instance, -1) {
                                Ok(step) => (Ok(()), step),
                                Err(fault) => (Err(fault), Step::default()),
                            }
                        }
                    };
                    self.apply(slot, live, step).await?;
                    outcomes.push(outcome);
                }
                Ok(outcomes)
            })
            .await?;
        Ok(left.unwrap_or_else(|| vec![Err(GroupFault::UnknownMember); members.len()]))
    }
}
