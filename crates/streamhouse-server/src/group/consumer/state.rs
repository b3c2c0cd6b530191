//! A consumer group of the newer protocol as a pure state machine: heartbeats and the passing of time in,
//! answers and the need to store out.
//!
//! It follows Kafka's group coordinator (KIP-848). The group's epoch rises with whatever changes who should
//! consume what; then everybody gets a target, and each member is moved there at its own heartbeats (see
//! `member`). Invariants: no partition is held by two members; a refused request changes nothing; what
//! changed is stored before it is answered ([`Step::store`]). Time is milliseconds on the coordinator's own
//! clock. Who may ask what is in `admission`, what members of the classic protocol ask in `classic`. Not here:
//! timers, the metadata store, offsets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::group::GroupState;

use super::Assignment;
use super::admission::Admission;
use super::assignor::{Assignor, Wish};
use super::member::{AWAY, ClassicSide, Member, MemberState, Profile, Standing};
use super::pattern::Pattern;
use super::subscription::{Subscription, TopicView, resolve};
use crate::group::embedded::Named;
use crate::group::step::{Lapsed, Millis, Step};
use crate::group::{GroupFault, MemberId};

/// Bounds that the operator sets.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerLimits {
    pub session_timeout_ms: u64,
    pub heartbeat_interval_ms: u64,
    pub members_max: usize,
}

impl ConsumerLimits {
    /// Members of the classic protocol say for themselves how long their session is.
    pub(super) fn session_timeout_of(self, profile: &Profile) -> u64 {
        let classic = profile.classic.as_ref();
        classic.map_or(self.session_timeout_ms, |classic| classic.session_timeout_ms)
    }
}

/// A heartbeat; what is `None` is as it was.
#[derive(Clone, Debug, Default)]
pub struct Beat {
    pub member: MemberId,
    /// 0 joins.
    pub epoch: i32,
    pub instance: Option<String>,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: Option<u64>,
    pub names: Option<BTreeSet<String>>,
    /// `Some(None)`: no pattern any more.
    pub pattern: Option<Option<Pattern>>,
    pub assignor: Option<Assignor>,
    /// What the member has, if it says so.
    pub owned: Option<Assignment>,
    /// Said in JoinGroup.
    pub classic: Option<ClassicSide>,
}

impl Beat {
    pub(super) fn joins(&self) -> bool {
        self.epoch == 0
    }

    /// The member said all it could, so it is told all there is.
    fn is_full(&self) -> bool {
        let subscribed = self.names.is_some() || self.pattern.is_some();
        self.joins() || (self.rebalance_timeout_ms.is_some() && subscribed && self.owned.is_some())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeatReply {
    pub member: MemberId,
    pub epoch: i32,
    /// What the member is to have now, where it may not know.
    pub assignment: Option<Assignment>,
}

/// A topic that somebody in the group wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub name: String,
    pub partitions: i32,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    /// Of the latest change, and of the assignment that answers it.
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub members: BTreeMap<MemberId, Member>,
    /// What the group wants of what there is, at its epoch.
    pub subscribed: BTreeMap<TopicId, Subscribed>,
    pub(super) statics: BTreeMap<String, MemberId>,
    pub(super) holders: HashMap<TopicPartition, MemberId>,
    /// The topics at which it looked last.
    seen: Option<Arc<TopicView>>,
    pub(super) limits: ConsumerLimits,
}

impl ConsumerGroup {
    /// A group without members; `epoch` is the generation of the classic group that it was, or 0.
    #[must_use]
    pub fn new(limits: ConsumerLimits, epoch: i32) -> Self {
        Self {
            epoch,
            assignment_epoch: epoch,
            members: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            statics: BTreeMap::new(),
            holders: HashMap::new(),
            seen: None,
            limits,
        }
    }

    /// A group as it was stored; all timers start anew.
    #[must_use]
    pub fn restored(
        limits: ConsumerLimits,
        (epoch, assignment_epoch): (i32, i32),
        subscribed: BTreeMap<TopicId, Subscribed>,
        members: BTreeMap<MemberId, (Profile, Standing, Assignment)>,
        now: Millis,
    ) -> Self {
        let mut group = Self::new(limits, epoch);
        group.assignment_epoch = assignment_epoch;
        group.subscribed = subscribed;
        for (id, (profile, standing, target)) in members {
            if let Some(instance) = &profile.instance {
                group.statics.insert(instance.clone(), id.clone());
            }
            let revoking = standing.state == MemberState::Unrevoked;
            let revoked_by = now + profile.rebalance_timeout_ms;
            let session_deadline = now + limits.session_timeout_of(&profile);
            let mut member = Member::new(profile, (standing, target), session_deadline);
            member.revocation_deadline = revoking.then_some(revoked_by);
            group.hold(&id, &member.standing);
            group.members.insert(id, member);
        }
        group
    }

    #[must_use]
    pub fn state(&self) -> GroupState {
        let arrived = |member: &Member| {
            let standing = &member.standing;
            standing.epoch == self.assignment_epoch && standing.state == MemberState::Stable
        };
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self.members.values().all(arrived) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// The assignor that most members ask for.
    #[must_use]
    pub fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(assignor) = member.profile.assignor {
                *votes.entry(assignor).or_default() += 1;
            }
        }
        let most = votes.into_iter().max_by(|(a, x), (b, y)| x.cmp(y).then(b.cmp(a)));
        most.map_or_else(Assignor::default, |(assignor, _)| assignor)
    }

    /// # Errors
    /// A member that is unknown, fenced or one too many. Nothing has changed then.
    pub fn heartbeat(
        &mut self,
        now: Millis,
        topics: &Arc<TopicView>,
        beat: Beat,
    ) -> Result<(BeatReply, Step), GroupFault> {
        let admission = self.admit(&beat)?;
        let (id, is_full) = (beat.member.clone(), beat.is_full());
        let (moved, step) = self.take_in(now, topics, &admission, beat);
        let Some(Member { standing, .. }) = self.members.get(&id) else {
            return Err(GroupFault::UnknownMember);
        };
        let reply = BeatReply {
            epoch: standing.epoch,
            assignment: (is_full || moved).then(|| standing.assigned.clone()),
            member: id,
        };
        Ok((reply, step))
    }

    /// What an admitted member says of itself is taken over, and it is moved; whether what it is to have now is
    /// not what it was.
    pub(super) fn take_in(
        &mut self,
        now: Millis,
        topics: &Arc<TopicView>,
        admission: &Admission,
        beat: Beat,
    ) -> (bool, Step) {
        let mut step = Step::default();
        let id = beat.member.clone();
        match admission {
            Admission::Known => {}
            Admission::New => step.store = true,
            Admission::InPlaceOf(old) => {
                self.replace(old, &id);
                step.store = true;
            }
        }
        let is_new = matches!(admission, Admission::New);
        let owned = beat.owned.clone();
        let subscription_changed = self.take_profile(now, beat, is_new, &mut step);
        self.look(topics, subscription_changed, &mut step);
        let before = self.members.get(&id).map(|member| member.standing.clone());
        self.reconcile(now, &id, owned.as_ref());
        let after = self.members.get(&id).map(|member| &member.standing);
        step.store |= before.as_ref() != after;
        let moved = before.as_ref().map(|before| &before.assigned) != after.map(|after| &after.assigned);
        (moved, step)
    }

    /// Looks at the topics there are, if they are others than before, or anything `changed`.
    pub(super) fn look(&mut self, topics: &Arc<TopicView>, changed: bool, step: &mut Step) {
        let looked = self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, topics));
        if changed || !looked {
            self.seen = Some(Arc::clone(topics));
            self.assign(topics, changed, step);
        }
    }

    /// Takes over what the member says of itself; whether that changes what it wants. Another assignor alone
    /// changes nothing yet, as in Kafka: it counts when the group is assigned next.
    fn take_profile(&mut self, now: Millis, beat: Beat, is_new: bool, step: &mut Step) -> bool {
        let limits = self.limits;
        if is_new && let Some(instance) = &beat.instance {
            self.statics.insert(instance.clone(), beat.member.clone());
        }
        let member = self.members.entry(beat.member).or_insert_with(|| {
            let profile = Profile {
                instance: None,
                rack: None,
                client_id: String::new(),
                client_host: String::new(),
                rebalance_timeout_ms: 0,
                subscription: Subscription::default(),
                assignor: None,
                classic: None,
            };
            Member::new(profile, Default::default(), now)
        });
        let before = member.profile.clone();
        let profile = &mut member.profile;
        profile.classic = beat.classic;
        if is_new {
            profile.instance = beat.instance;
        }
        profile.client_id = beat.client_id;
        profile.client_host = beat.client_host;
        if beat.rack.is_some() {
            profile.rack = beat.rack;
        }
        if let Some(timeout) = beat.rebalance_timeout_ms {
            profile.rebalance_timeout_ms = timeout;
        }
        if let Some(names) = beat.names {
            profile.subscription.names = names;
        }
        if let Some(pattern) = beat.pattern {
            profile.subscription.pattern = pattern;
        }
        if beat.assignor.is_some() {
            profile.assignor = beat.assignor;
        }
        step.store |= *profile != before;
        let changed = profile.subscription != before.subscription;
        member.session_deadline = now + limits.session_timeout_of(profile);
        member.rejoin_deadline = None;
        member.sync_deadline = None;
        is_new || changed
    }

    /// Looks at what the group wants of the topics there are; if that, or a member, changed, everybody gets a
    /// new target in a new epoch.
    fn assign(&mut self, topics: &TopicView, changed: bool, step: &mut Step) {
        let members = self.members.values();
        let wants = resolve(members.map(|member| &member.profile.subscription), topics);
        let wanted: BTreeSet<TopicId> = wants.iter().flatten().copied().collect();
        let all = topics.0.iter().filter(|(_, topic)| wanted.contains(&topic.id));
        let subscribed: BTreeMap<TopicId, Subscribed> = all
            .map(|(name, topic)| {
                let (name, partitions) = (name.clone(), topic.partitions);
                (topic.id, Subscribed { name, partitions })
            })
            .collect();
        if !changed && subscribed == self.subscribed {
            return;
        }
        self.subscribed = subscribed;
        self.epoch = self.epoch.saturating_add(1);
        self.assignment_epoch = self.epoch;
        let counts = self.subscribed.iter().map(|(id, topic)| (*id, topic.partitions));
        let counts: BTreeMap<TopicId, i32> = counts.collect();
        let wishes: Vec<Wish<'_>> = self
            .members
            .iter()
            .zip(&wants)
            .map(|((id, member), topics)| Wish {
                rank: member.profile.instance.as_deref().unwrap_or(id),
                topics,
                had: &member.target,
            })
            .collect();
        let targets = self.assignor().assign(&wishes, &counts);
        for (member, target) in self.members.values_mut().zip(targets) {
            member.target = target;
        }
        step.store = true;
        step.rebalanced = true;
    }

    fn reconcile(&mut self, now: Millis, id: &str, owned: Option<&Assignment>) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        let to = (self.assignment_epoch, &member.target);
        let next = member
            .standing
            .reconciled(to, owned, |partition| self.holders.contains_key(&partition));
        if next == member.standing {
            return;
        }
        let before = member.standing.clone();
        self.release(&before);
        self.hold(id, &next);
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.revocation_deadline = (next.state == MemberState::Unrevoked).then(|| {
            // The same revocation goes on; another one has its own time.
            let going_on = before.revoking == next.revoking;
            let fresh = now + member.profile.rebalance_timeout_ms;
            member.revocation_deadline.filter(|_| going_on).unwrap_or(fresh)
        });
        member.standing = next;
    }

    pub(super) fn hold(&mut self, id: &str, standing: &Standing) {
        for partition in standing.held() {
            self.holders.insert(partition, id.to_owned());
        }
    }

    pub(super) fn release(&mut self, standing: &Standing) {
        for partition in standing.held() {
            self.holders.remove(&partition);
        }
    }

    /// Whoever has this instance id.
    #[must_use]
    pub fn holder(&self, instance: &str) -> Option<&MemberId> {
        self.statics.get(instance)
    }

    /// A member leaves for good, or, if it is static, for a while (`epoch` [`AWAY`]).
    ///
    /// # Errors
    /// [`GroupFault::UnknownMember`], [`GroupFault::FencedInstance`].
    pub fn leave(&mut self, member: &str, instance: Option<&str>, epoch: i32) -> Result<Step, GroupFault> {
        match instance.map(|instance| self.holder(instance)) {
            Some(None) => return Err(GroupFault::UnknownMember),
            Some(Some(holder)) if holder != member => return Err(GroupFault::FencedInstance),
            Some(Some(_)) | None => {}
        }
        let id = member.to_owned();
        let mut step = Step::default();
        let Some(leaving) = self.members.get_mut(&id) else {
            return Err(GroupFault::UnknownMember);
        };
        if epoch == AWAY && leaving.profile.instance.is_some() {
            // Until its session ends.
            let away = leaving.standing.away();
            let before = std::mem::replace(&mut leaving.standing, away);
            leaving.revocation_deadline = None;
            for partition in before.revoking.partitions() {
                self.holders.remove(&partition);
            }
            step.store = true;
            return Ok(step);
        }
        self.remove(&[id], &mut step);
        Ok(step)
    }

    fn remove(&mut self, ids: &[MemberId], step: &mut Step) {
        for id in ids {
            if let Some(member) = self.members.remove(id) {
                self.release(&member.standing);
            }
        }
        self.statics.retain(|_, holder| !ids.contains(holder));
        // Whoever stays is judged by the topics known; a heartbeat brings newer ones.
        let topics = self.seen.clone().unwrap_or_else(|| Arc::new(self.remembered()));
        self.assign(&topics, true, step);
    }

    /// What the topics of these partitions are called; without those that are not known any more.
    pub(in crate::group) fn named(&self, partitions: impl Iterator<Item = TopicPartition>) -> Named {
        let mut named: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for TopicPartition { topic, partition } in partitions {
            let subscribed = self.subscribed.get(&topic);
            let subscribed = subscribed.map(|topic| topic.name.as_str());
            // What nobody wants any more somebody may still have.
            let seen = || self.seen.iter().flat_map(|seen| &seen.0);
            let found = || seen().find(|(_, known)| known.id == topic);
            if let Some(name) = subscribed.or_else(|| found().map(|(name, _)| name.as_str())) {
                named.entry(name).or_default().push(partition);
            }
        }
        let named = named.into_iter();
        named
            .map(|(name, partitions)| (name.to_owned(), partitions))
            .collect()
    }

    /// The topics that were wanted when the group was stored.
    fn remembered(&self) -> TopicView {
        let topics = self.subscribed.iter().map(|(id, topic)| {
            let (id, partitions) = (*id, topic.partitions);
            let known = super::subscription::KnownTopic { id, partitions };
            (topic.name.clone(), known)
        });
        TopicView(topics.collect())
    }

    /// Lets time pass: members that were not heard of, did not give up in time what they had to, or did not
    /// come back when they were told to.
    pub fn tick(&mut self, now: Millis) -> Step {
        let mut step = Step::default();
        let late = |member: &Member| member.deadlines().any(|deadline| deadline <= now);
        let members = self.members.iter().filter(|(_, member)| late(member));
        let gone: Vec<MemberId> = members.map(|(id, _)| id.clone()).collect();
        if !gone.is_empty() {
            let lapsed = gone.iter().filter_map(|id| {
                let profile = &self.members.get(id)?.profile;
                Some(Lapsed {
                    member: id.clone(),
                    client_id: profile.client_id.clone(),
                    client_host: profile.client_host.clone(),
                })
            });
            step.lapsed = lapsed.collect();
            self.remove(&gone, &mut step);
        }
        step
    }

    /// When [`Self::tick`] has to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.members.values().flat_map(Member::deadlines).min()
    }
}
