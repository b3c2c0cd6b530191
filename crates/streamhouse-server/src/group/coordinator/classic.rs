//! What members of the classic protocol ask: join, sync, heartbeat, leave. Their group may be of either protocol.

use std::sync::Arc;

use bytes::Bytes;

use super::{Groups, Live};
use crate::group::classic::Join;
use crate::group::consumer::subscription::TopicView;
use crate::group::step::{Answer, JoinReply, SyncReply};
use crate::group::{GroupFault, MemberId};

impl Groups {
    /// The topics, as far as the group looks at them when a member of the classic protocol asks something.
    async fn topics_for(&self, live: &Live, now: bool) -> Result<Arc<TopicView>, GroupFault> {
        match live.group.looks_at_topics() {
            true => self.topic_view(now).await,
            false => Ok(Arc::default()),
        }
    }

    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "join", consumer_group = name))]
    pub async fn join(self: &Arc<Self>, name: &str, join: Join) -> Result<JoinReply, (GroupFault, MemberId)> {
        let member = join.member.clone();
        let fail = |fault| (fault, member.clone());
        // Only a member without an id can begin a group.
        let create = join.member.is_empty();
        let joined = self
            .with(name, create, async |slot, live| {
                let topics = self.topics_for(live, true).await?;
                let (ticket, answer) = self.ticket(live);
                let step = live
                    .group
                    .join(self.now(), &self.rules(), &topics, (ticket, join));
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

    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "sync", consumer_group = name))]
    pub async fn sync(
        self: &Arc<Self>,
        name: &str,
        identity: (&str, Option<&str>, i32),
        protocol: (Option<&str>, Option<&str>),
        assignments: Vec<(MemberId, Bytes)>,
    ) -> Result<SyncReply, GroupFault> {
        let answer = self
            .with(name, false, async |slot, live| {
                let (ticket, answer) = self.ticket(live);
                let asked = (ticket, identity);
                let step = live.group.sync(self.now(), asked, protocol, assignments);
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

    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "heartbeat", consumer_group = name))]
    pub async fn heartbeat(
        self: &Arc<Self>,
        name: &str,
        identity: (&str, Option<&str>, i32),
    ) -> Result<(), GroupFault> {
        self.with(name, false, async |slot, live| {
            let topics = self.topics_for(live, false).await?;
            let (beat, step) = live.group.heartbeat(self.now(), &topics, identity);
            self.apply(slot, live, step).await?;
            beat
        })
        .await?
        .ok_or(GroupFault::UnknownMember)
    }

    /// One outcome a member, in the order asked.
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "leave", consumer_group = name))]
    pub async fn leave(
        self: &Arc<Self>,
        name: &str,
        members: &[(MemberId, Option<String>)],
    ) -> Result<Vec<Result<(), GroupFault>>, GroupFault> {
        let left = self
            .with(name, false, async |slot, live| {
                let mut outcomes = Vec::with_capacity(members.len());
                for (member, instance) in members {
                    let leaving = (member.as_str(), instance.as_deref());
                    let (outcome, step) = live.group.leave(self.now(), &self.rules(), leaving);
                    self.apply(slot, live, step).await?;
                    outcomes.push(outcome);
                }
                Ok(outcomes)
            })
            .await?;
        Ok(left.unwrap_or_else(|| vec![Err(GroupFault::UnknownMember); members.len()]))
    }
}
