//! Groups that go over from one protocol to the other while they have members: single stories. What may happen in
//! any order is in `migration_world`.

mod back;
mod over;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BufMut as _;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::consumer_protocol_subscription::{
    ConsumerProtocolSubscription, TopicPartition,
};
use kafka_protocol::protocol::Encodable as _;
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::ids::{self, TopicId};
use streamhouse_metadata::model::group::{GroupState, StoredGroup};
use uuid::Uuid;

use super::any::{AnyGroup, Rules};
use super::classic::{Group, Join, Limits, Profile};
use super::consumer::subscription::{KnownTopic, TopicView};
use super::consumer::{Assignment, Beat, BeatReply, ConsumerGroup, ConsumerLimits};
use super::migration::MigrationPolicy;
use super::step::{Answer, JoinReply, Step, SyncReply};
use super::{Committing, GroupFault, embedded};

pub(super) const REBALANCE_MS: u64 = 300;

pub(super) const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

pub(super) const RULES: Rules = Rules {
    classic: Limits {
        initial_delay_ms: 0,
        members_max: 12,
    },
    consumer: ConsumerLimits {
        session_timeout_ms: 1_000,
        heartbeat_interval_ms: 100,
        members_max: 12,
    },
    migration: MigrationPolicy::Bidirectional,
};

/// One topic, "t".
pub(super) fn view(partitions: i32) -> Arc<TopicView> {
    let topic = KnownTopic {
        id: TOPIC,
        partitions,
    };
    Arc::new(TopicView([("t".to_owned(), topic)].into()))
}

/// What a consumer subscribes with that has `owned`.
fn subscribing(owned: &BTreeSet<i32>) -> Bytes {
    let topic = || TopicName(StrBytes::from_static_str("t"));
    let owned = TopicPartition::default()
        .with_topic(topic())
        .with_partitions(owned.iter().copied().collect());
    let message = ConsumerProtocolSubscription::default()
        .with_topics(vec![topic().0])
        .with_owned_partitions(vec![owned]);
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    message.encode(&mut bytes, 1).unwrap();
    bytes.freeze()
}

pub(super) fn joining(member: &str, new: &str, owned: &BTreeSet<i32>, cooperative: bool) -> Join {
    let protocol = if cooperative {
        "cooperative-sticky"
    } else {
        "range"
    };
    Join {
        member: member.to_owned(),
        new_member: new.to_owned(),
        protocol_type: "consumer".to_owned(),
        profile: Profile {
            instance: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms: 1_000,
            rebalance_timeout_ms: REBALANCE_MS,
            protocols: vec![(protocol.to_owned(), subscribing(owned))],
        },
        needs_known_member: true,
        may_skip_assignment: true,
    }
}

pub(super) fn stored(group: &AnyGroup) -> StoredGroup {
    StoredGroup {
        group: "g".to_owned(),
        coordinator_epoch: 1,
        summary: group.summary(),
        payload: group.payload(),
        members: group.member_payloads().into_iter().collect(),
        empty_since: None,
    }
}

/// An assignment of no partitions that tells its member something.
const TELLING: Bytes = Bytes::from_static(b"\0\x01\0\0\0\0\0\0\0\x01x");

/// A group and the topics there are.
struct Story {
    group: AnyGroup,
    rules: Rules,
    topics: Arc<TopicView>,
    now: u64,
    ticket: u64,
}

impl Story {
    fn new() -> Self {
        Self {
            group: AnyGroup::Classic(Group::new(RULES.classic)),
            rules: RULES,
            topics: view(4),
            now: 0,
            ticket: 0,
        }
    }

    fn join_step(&mut self, mut join: Join) -> (u64, Step) {
        self.ticket += 1;
        join.needs_known_member = false;
        let step = self
            .group
            .join(self.now, &self.rules, &self.topics, (self.ticket, join));
        (self.ticket, step)
    }

    /// Joins; `None` while others are waited for.
    fn join(&mut self, join: Join) -> Option<Result<JoinReply, GroupFault>> {
        let (ticket, step) = self.join_step(join);
        let mut answers = step.answers.into_iter();
        match answers.find(|(answered, _)| *answered == ticket)?.1 {
            Answer::Join(reply) => Some(reply.map_err(|(fault, _)| fault)),
            Answer::Sync(reply) => panic!("{reply:?}"),
        }
    }

    /// Joins again with what it has; its generation.
    fn rejoin(&mut self, member: &str, owned: &[i32]) -> i32 {
        let join = joining(member, member, &owned.iter().copied().collect(), true);
        self.join(join).unwrap().unwrap().generation
    }

    fn sync(
        &mut self,
        member: &str,
        generation: i32,
        given: Vec<(String, Bytes)>,
    ) -> Result<SyncReply, GroupFault> {
        self.ticket += 1;
        let asked = (self.ticket, (member, None, generation));
        let step = self.group.sync(self.now, asked, (Some("consumer"), None), given);
        match step.answers.into_iter().next() {
            Some((_, Answer::Sync(reply))) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn synced(&mut self, member: &str, generation: i32) -> Vec<i32> {
        let reply = self.sync(member, generation, Vec::new()).unwrap();
        let partitions = embedded::assignment(&reply.assignment).unwrap().partitions;
        partitions.into_iter().flat_map(|(_, numbers)| numbers).collect()
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupFault> {
        let (beat, _) = self
            .group
            .heartbeat(self.now, &self.topics, (member, None, generation));
        beat
    }

    fn beat(&mut self, beat: Beat) -> Result<BeatReply, GroupFault> {
        let beat = self
            .group
            .consumer_heartbeat(self.now, &self.rules, &self.topics, beat);
        beat.map(|(reply, _)| reply)
    }

    fn may_commit(&mut self, member: &str, generation: i32, partitions: &[i32]) -> Result<(), GroupFault> {
        let partitions = partitions.iter().map(|partition| ids::TopicPartition {
            topic: TOPIC,
            partition: *partition,
        });
        let committing = Committing::Plain { knows_epochs: true };
        self.group
            .may_commit(self.now, (member, None, generation), committing, partitions)
    }

    /// A stable classic group in generation 1; the first is its leader.
    fn classic(members: &[(&str, &[i32])]) -> Self {
        let mut story = Self::new();
        let mut leading = None;
        for (id, _) in members {
            let joined = story.join(joining("", id, &BTreeSet::new(), true));
            leading = leading.or(joined);
        }
        // All others make it rebalance once more.
        for (id, _) in &members[..members.len().min(1)] {
            if members.len() > 1 {
                story.join(joining(id, id, &BTreeSet::new(), true));
            }
        }
        let given = members.iter().map(|(id, numbers)| {
            let named = vec![("t".to_owned(), numbers.to_vec())];
            (
                (*id).to_owned(),
                embedded::encode_assignment(&subscribing(&BTreeSet::new()), named),
            )
        });
        let given: Vec<_> = given.collect();
        let generation = story.group.generation();
        story.sync(members[0].0, generation, given).unwrap();
        assert_eq!(story.group.state(), GroupState::Stable);
        story
    }

    fn consumer(&self) -> &ConsumerGroup {
        match &self.group {
            AnyGroup::Consumer(group) => group,
            AnyGroup::Classic(group) => panic!("{group:?}"),
        }
    }

    fn is_classic(&self) -> bool {
        matches!(self.group, AnyGroup::Classic(_))
    }

    fn restart(&mut self) {
        self.group = AnyGroup::restore(&stored(&self.group), &self.rules, self.now).unwrap();
    }
}

fn newer(member: &str) -> Beat {
    Beat {
        member: member.to_owned(),
        rebalance_timeout_ms: Some(REBALANCE_MS),
        names: Some(["t".to_owned()].into()),
        owned: Some(Assignment::default()),
        ..Beat::default()
    }
}

fn beating(member: &str, epoch: i32) -> Beat {
    Beat {
        member: member.to_owned(),
        epoch,
        ..Beat::default()
    }
}

fn numbers(reply: BeatReply) -> Vec<i32> {
    let assignment = reply.assignment.unwrap_or_default();
    assignment.partitions().map(|p| p.partition).collect()
}
