//! What members of the newer protocol (KIP-848) ask, and the topics by which their groups are assigned.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Groups;
use crate::group::GroupFault;
use crate::group::any::AnyGroup;
use crate::group::consumer::subscription::TopicView;
use crate::group::consumer::{Beat, BeatReply};

/// How old the topics may be by which groups of the newer protocol are assigned.
const TOPICS_AGE_MAX: Duration = Duration::from_secs(1);

impl Groups {
    /// The topics of the cluster, of a second ago at most, or as they are now; the same value while nothing
    /// changes.
    pub(crate) async fn topic_view(&self, now: bool) -> Result<Arc<TopicView>, GroupFault> {
        let mut held = self.topics.lock().await;
        let (read_at, view) = &mut *held;
        if now || read_at.is_none_or(|at| at.elapsed() >= TOPICS_AGE_MAX) {
            let topics: TopicView = self.metadata.topics().await?.into_iter().collect();
            if topics != **view {
                *view = Arc::new(topics);
            }
            *read_at = Some(Instant::now());
        }
        Ok(Arc::clone(view))
    }

    /// A heartbeat of the newer protocol; with epoch 0 its sender joins, and may begin the group.
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "consumer_heartbeat", consumer_group = name))]
    pub async fn consumer_heartbeat(
        self: &Arc<Self>,
        name: &str,
        beat: Beat,
    ) -> Result<BeatReply, GroupFault> {
        // A topic may have been created for who subscribes to it now.
        let subscribes = beat.names.is_some() || beat.pattern.is_some();
        let topics = self.topic_view(subscribes).await?;
        let joins = beat.epoch == 0;
        self.with(name, joins, async |slot, live| {
            let beat = live
                .group
                .consumer_heartbeat(self.now(), &self.rules(), &topics, beat);
            let (reply, step) = beat?;
            self.apply(slot, live, step).await?;
            Ok(reply)
        })
        .await?
        .ok_or(GroupFault::UnknownGroup)
    }

    /// A member of the newer protocol leaves: for good, or, with epoch −2, for a while.
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "consumer_leave", consumer_group = name))]
    pub async fn consumer_leave(
        self: &Arc<Self>,
        name: &str,
        (member, instance): (&str, Option<&str>),
        epoch: i32,
    ) -> Result<(), GroupFault> {
        self.with(name, false, async |slot, live| {
            let leaving = (member, instance, epoch);
            let step = live.group.consumer_leave(self.now(), &self.rules(), leaving)?;
            self.apply(slot, live, step).await
        })
        .await?
        .ok_or(GroupFault::UnknownGroup)
    }

    /// Whether offsets may be read under this identity of the newer protocol; the classic one does not ask.
    #[tracing::instrument(name = "group", level = "debug", skip_all, fields(operation = "may_fetch", consumer_group = name))]
    pub async fn may_fetch(self: &Arc<Self>, name: &str, member: &str, epoch: i32) -> Result<(), GroupFault> {
        let checked = self.with(name, false, async |_, live| match &live.group {
            AnyGroup::Classic(_) => Ok(()),
            AnyGroup::Consumer(group) => group.may_fetch(member, epoch),
        });
        // A group that does not exist has no offsets; that is no refusal.
        checked.await.map(Option::unwrap_or_default)
    }
}
