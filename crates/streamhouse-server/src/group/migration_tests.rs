//! Groups that go over from one protocol to the other while they have members: single stories. What may happen in
//! any order is in `migration_world`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::consumer_protocol_subscription::{
    ConsumerProtocolSubscription, TopicPartition,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::group::{GroupState, StoredGroup};
use uuid::Uuid;

use super::any::{AnyGroup, Rules};
use super::classic::{Group, Join, Limits, Phase, Profile};
use super::consumer::member::AWAY;
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

    fn may_commit(&mut self, member: &str, generation: i32) -> Result<(), GroupFault> {
        let committing = Committing::Plain { knows_epochs: true };
        self.group
            .may_commit(self.now, (member, None, generation), committing)
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

#[test]
fn who_joins_with_the_newer_protocol_gets_what_a_classic_member_has_given_up() {
    let mut story = Story::classic(&[("a", &[0, 1, 2, 3])]);
    let joined = story.beat(newer("n")).unwrap();
    assert_eq!((joined.epoch, numbers(joined)), (2, vec![]));
    assert_eq!(story.may_commit("a", 1), Ok(()));
    assert_eq!(story.may_commit("a", 2), Err(GroupFault::IllegalGeneration));
    // It is told to join, and then to give up what is not its any more.
    assert_eq!(
        story.sync("a", 1, Vec::new()),
        Err(GroupFault::RebalanceInProgress)
    );
    assert_eq!(story.heartbeat("a", 1), Err(GroupFault::RebalanceInProgress));
    assert_eq!(story.rejoin("a", &[0, 1, 2, 3]), 1);
    assert_eq!(story.synced("a", 1), [0, 1]);
    for _ in 0..2 {
        assert_eq!(story.heartbeat("a", 1), Err(GroupFault::RebalanceInProgress));
        assert_eq!(story.beat(beating("n", 2)).unwrap().assignment, None);
        story.restart();
    }
    assert_eq!(story.rejoin("a", &[0, 1]), 2);
    assert_eq!(story.synced("a", 2), [0, 1]);
    assert_eq!(story.heartbeat("a", 2), Ok(()));
    assert_eq!(story.beat(beating("n", 2)).map(numbers), Ok(vec![2, 3]));
    assert_eq!(story.group.state(), GroupState::Stable);
    assert_eq!(story.heartbeat("a", 1), Err(GroupFault::IllegalGeneration));
    assert_eq!(
        story.heartbeat("n", 2),
        Err(GroupFault::UnknownMember),
        "it does not speak so"
    );
}

#[test]
fn who_gives_everything_up_before_it_joins_is_moved_at_once() {
    let mut story = Story::classic(&[("a", &[0, 1, 2, 3])]);
    story.beat(newer("n")).unwrap();
    assert_eq!(story.rejoin("a", &[]), 2);
    assert_eq!(story.beat(beating("n", 2)).map(numbers), Ok(vec![2, 3]));
    assert_eq!(story.synced("a", 2), [0, 1]);
}

#[test]
fn a_classic_member_is_told_when_what_it_waits_for_is_free() {
    let mut story = Story::new();
    assert_eq!(story.beat(newer("n")).map(numbers), Ok(vec![0, 1, 2, 3]));
    let generation = story
        .join(joining("", "a", &BTreeSet::new(), true))
        .unwrap()
        .unwrap()
        .generation;
    assert_eq!(story.synced("a", generation), Vec::<i32>::new());
    assert_eq!(story.heartbeat("a", generation), Ok(()), "it waits");
    let told = story.beat(beating("n", 1)).unwrap();
    let kept = told.assignment.unwrap();
    assert_eq!(story.heartbeat("a", generation), Ok(()), "n has it still");
    let given_up = Beat {
        owned: Some(kept),
        ..beating("n", 1)
    };
    story.beat(given_up).unwrap();
    assert_eq!(
        story.heartbeat("a", generation),
        Err(GroupFault::RebalanceInProgress)
    );
    let generation = story.rejoin("a", &[]);
    assert_eq!(story.synced("a", generation), [2, 3]);
    assert_eq!(story.heartbeat("a", generation), Ok(()));
}

#[test]
fn what_a_leader_has_just_taken_from_a_member_is_not_free_yet() {
    let mut story = Story::classic(&[("a", &[0, 1, 2, 3])]);
    // b comes; the leader takes 2 and 3 from a, to give them to b in the next generation.
    assert!(story.join(joining("", "b", &BTreeSet::new(), true)).is_none());
    let again = story
        .join(joining("a", "a", &[0, 1, 2, 3].into(), true))
        .unwrap()
        .unwrap();
    let kept =
        embedded::encode_assignment(&subscribing(&BTreeSet::new()), vec![("t".to_owned(), vec![0, 1])]);
    story
        .sync("a", again.generation, vec![("a".to_owned(), kept)])
        .unwrap();
    // Before a has heard of it, another coordinator has the group, and somebody else joins.
    story.restart();
    let epoch = story.beat(newer("n")).unwrap().epoch;
    assert_eq!(story.beat(beating("n", epoch)).map(numbers), Ok(vec![]));
    story.rejoin("b", &[]);
    assert_eq!(story.beat(beating("n", epoch)).map(numbers), Ok(vec![]));
    let mut generation = story.rejoin("a", &[0, 1, 2, 3]);
    assert_eq!(story.beat(beating("n", epoch)).map(numbers), Ok(vec![]));
    // Three members, of four partitions: it may have to give up another one.
    for _ in 0..2 {
        let has = story.synced("a", generation);
        generation = story.rejoin("a", &has);
    }
    let all = story.beat(beating("n", epoch)).map(numbers).unwrap();
    assert!(!all.is_empty());
}

#[test]
fn an_id_that_a_classic_member_was_given_and_has_not_used_keeps_nobody_out() {
    let mut story = Story::new();
    let given = |story: &mut Story, id: &str| {
        let join = joining("", id, &BTreeSet::new(), true);
        let step = story.group.join(0, &RULES, &story.topics, (9, join));
        assert!(matches!(
            &step.answers[..],
            [(_, Answer::Join(Err((GroupFault::MemberIdRequired(_), _))))]
        ));
        assert!(story.is_classic());
    };
    given(&mut story, "a");
    assert_eq!(numbers(story.beat(newer("n")).unwrap()), [0, 1, 2, 3]);
    // And where the group was of the newer protocol before.
    story.group.consumer_leave(0, &RULES, ("n", None, -1)).unwrap();
    given(&mut story, "b");
    assert_eq!(numbers(story.beat(newer("m")).unwrap()), [0, 1, 2, 3]);
}

#[test]
fn who_waits_in_a_classic_group_that_goes_over_is_told_to_join_again() {
    let mut story = Story::classic(&[("a", &[0, 1, 2, 3])]);
    let (waiting, step) = story.join_step(joining("", "b", &BTreeSet::new(), true));
    assert!(step.answers.is_empty());
    let (_, step) = story
        .group
        .consumer_heartbeat(0, &RULES, &story.topics.clone(), newer("n"))
        .unwrap();
    let refused = Answer::Join(Err((GroupFault::RebalanceInProgress, "b".to_owned())));
    assert_eq!(step.answers, [(waiting, refused)]);
    assert!(step.store);
    assert!(story.rejoin("b", &[]) > 1);
    // The same in the other half of a rebalance.
    let mut story = Story::new();
    for id in ["a", "b"] {
        story.join(joining("", id, &BTreeSet::new(), true));
    }
    story.join(joining("a", "a", &BTreeSet::new(), true));
    let generation = story.group.generation();
    let asked = (77, ("b", None, generation));
    assert!(
        story
            .group
            .sync(0, asked, (None, None), vec![])
            .answers
            .is_empty()
    );
    let (_, step) = story
        .group
        .consumer_heartbeat(0, &RULES, &story.topics.clone(), newer("n"))
        .unwrap();
    assert_eq!(
        step.answers,
        [(77, Answer::Sync(Err(GroupFault::RebalanceInProgress)))]
    );
}

#[test]
fn groups_that_cannot_go_over_stay_as_they_are() {
    let stable = || Story::classic(&[("a", &[0, 1, 2, 3])]);
    let mut kept: Vec<Story> = Vec::new();
    let mut story = stable();
    story.rules.migration = MigrationPolicy::Downgrade;
    kept.push(story);
    let mut story = stable();
    story.rules.consumer.members_max = 0;
    kept.push(story);
    let breakages: [fn(&mut Group); 4] = [
        |group| group.protocol_type = "connect".to_owned(),
        |group| group.members.get_mut("a").unwrap().profile.protocols[0].1 = Bytes::from_static(b"\0\x01?"),
        |group| group.members.get_mut("a").unwrap().assignment = Bytes::from_static(b"A"),
        |group| {
            group.members.get_mut("a").unwrap().profile.protocols[0].0 = "of-its-own".to_owned();
            group.protocol = Some("of-its-own".to_owned());
            group.members.get_mut("a").unwrap().assignment = TELLING;
        },
    ];
    for breakage in breakages {
        let mut story = stable();
        if let AnyGroup::Classic(group) = &mut story.group {
            breakage(group);
        }
        kept.push(story);
    }
    for (nth, mut story) in kept.into_iter().enumerate() {
        assert_eq!(story.beat(newer("n")), Err(GroupFault::OtherProtocol), "{nth}");
        assert!(story.is_classic());
        assert_eq!(story.heartbeat("a", 1), Ok(()));
    }
    // What an assignor tells that clients come with is of no use to anybody else.
    let mut story = stable();
    if let AnyGroup::Classic(group) = &mut story.group {
        group.members.get_mut("a").unwrap().assignment = TELLING;
    }
    assert!(story.beat(newer("n")).is_ok());
    // Refused for another reason, it has not gone over either.
    let mut story = stable();
    story.rules.consumer.members_max = 1;
    assert_eq!(story.beat(newer("n")), Err(GroupFault::Full));
    assert!(story.is_classic());
    // Who beats without having joined takes nothing over.
    assert_eq!(stable().beat(beating("n", 1)), Err(GroupFault::OtherProtocol));
}

#[test]
fn a_group_goes_back_when_its_last_member_of_the_newer_protocol_leaves_or_falls_silent() {
    for silent in [false, true] {
        let mut story = Story::classic(&[("a", &[0, 1, 2, 3])]);
        story.beat(newer("n")).unwrap();
        story.rejoin("a", &[]);
        assert_eq!(story.synced("a", 2), [0, 1]);
        let step = if silent {
            story.now = 900;
            assert_eq!(story.heartbeat("a", 2), Ok(()));
            story.now = 1_000;
            story.group.tick(1_000, &RULES)
        } else {
            story.group.consumer_leave(0, &RULES, ("n", None, -1)).unwrap()
        };
        assert!(step.store && story.is_classic());
        for _ in 0..2 {
            assert_eq!(story.group.state(), GroupState::PreparingRebalance);
            assert_eq!(story.heartbeat("a", 2), Err(GroupFault::RebalanceInProgress));
            assert_eq!(story.may_commit("a", 2), Ok(()), "what it has done counts");
            story.restart();
        }
        let again = story
            .join(joining("a", "a", &[0, 1].into(), true))
            .unwrap()
            .unwrap();
        assert_eq!((again.generation, again.leader.as_str()), (3, "a"));
        assert_eq!(story.beat(beating("n", 2)), Err(GroupFault::OtherProtocol));
    }
}

#[test]
fn members_that_were_behind_when_their_group_goes_back_begin_anew() {
    let mut story = Story::classic(&[("a", &[0, 1]), ("b", &[2, 3])]);
    let before = story.group.generation();
    let epoch = story.beat(newer("n")).unwrap().epoch;
    assert_eq!(story.rejoin("a", &[]), epoch);
    story.group.consumer_leave(0, &RULES, ("n", None, -1)).unwrap();
    assert_eq!(story.heartbeat("a", epoch), Err(GroupFault::RebalanceInProgress));
    assert_eq!(story.heartbeat("b", before), Err(GroupFault::IllegalGeneration));
    // And straight up again: nothing of it is free before both have joined.
    let epoch = story.beat(newer("m")).unwrap().epoch;
    story.rejoin("a", &[]);
    assert_eq!(story.beat(beating("m", epoch)).map(numbers), Ok(vec![]));
    story.rejoin("b", &[]);
    assert!(!story.beat(beating("m", epoch)).map(numbers).unwrap().is_empty());
}

#[test]
fn classic_members_may_come_to_a_group_of_the_newer_protocol() {
    let mut story = Story::new();
    story.beat(newer("n")).unwrap();
    let mut first = joining("", "a", &BTreeSet::new(), true);
    let step = story
        .group
        .join(0, &RULES, &story.topics.clone(), (1, first.clone()));
    let told = Answer::Join(Err((
        GroupFault::MemberIdRequired("a".to_owned()),
        "a".to_owned(),
    )));
    assert_eq!(step.answers, [(1, told)]);
    first.member = "a".to_owned();
    let joined = story.join(first.clone()).unwrap().unwrap();
    assert_eq!(
        (
            joined.protocol_type.as_str(),
            joined.protocol.as_str(),
            joined.leader.as_str()
        ),
        ("consumer", "cooperative-sticky", "")
    );
    assert!(joined.members.is_empty());
    let wrong = (Some("consumer"), Some("range"));
    let asked = (7, ("a", None, joined.generation));
    let step = story.group.sync(0, asked, wrong, vec![]);
    assert_eq!(
        step.answers,
        [(7, Answer::Sync(Err(GroupFault::InconsistentProtocol)))]
    );
    // Others need a protocol that all of them have, and one that can be read.
    let mut other = joining("", "b", &BTreeSet::new(), false);
    assert_eq!(
        story.join(other.clone()),
        Some(Err(GroupFault::InconsistentProtocol))
    );
    other.profile.protocols = vec![("cooperative-sticky".to_owned(), Bytes::new())];
    assert_eq!(
        story.join(other.clone()),
        Some(Err(GroupFault::InconsistentProtocol))
    );
    other.profile.protocols.clear();
    assert_eq!(story.join(other), Some(Err(GroupFault::InconsistentProtocol)));
    first.protocol_type = "connect".to_owned();
    assert_eq!(story.join(first), Some(Err(GroupFault::InconsistentProtocol)));
    assert_eq!(story.consumer().members.len(), 2);
}

#[test]
fn a_classic_member_that_does_not_come_back_when_told_is_removed() {
    for has_joined in [false, true] {
        let mut story = Story::classic(&[("a", &[0, 1, 2, 3])]);
        story.beat(newer("n")).unwrap();
        assert_eq!(story.heartbeat("a", 1), Err(GroupFault::RebalanceInProgress));
        if has_joined {
            story.now = 100;
            story.rejoin("a", &[]);
        }
        let deadline = story.now + REBALANCE_MS;
        assert_eq!(
            story.group.next_deadline(),
            Some(deadline),
            "heartbeats buy it no time"
        );
        assert!(!story.group.tick(deadline - 1, &RULES).store);
        assert!(story.group.tick(deadline, &RULES).store);
        assert_eq!(story.beat(beating("n", 2)).map(numbers), Ok(vec![0, 1, 2, 3]));
    }
}

#[test]
fn a_static_member_changes_its_protocol_in_its_place() {
    let fixed = |join: Join| Join {
        profile: Profile {
            instance: Some("i".to_owned()),
            ..join.profile
        },
        ..join
    };
    let newer_fixed = |id: &str| Beat {
        instance: Some("i".to_owned()),
        ..newer(id)
    };
    let mut story = Story::new();
    story.join(fixed(joining("", "a", &BTreeSet::new(), true)));
    let all = embedded::encode_assignment(
        &subscribing(&BTreeSet::new()),
        vec![("t".to_owned(), vec![0, 1, 2, 3])],
    );
    story.ticket += 1;
    let asked = (story.ticket, ("a", Some("i"), 1));
    story
        .group
        .sync(0, asked, (None, None), vec![("a".to_owned(), all)]);
    // A static member of the classic protocol does not leave: the next one takes its place at once.
    let joined = story.beat(newer_fixed("n")).unwrap();
    assert_eq!(numbers(joined), [0, 1, 2, 3]);
    assert_eq!(story.consumer().members.len(), 1);
    let asked = ("a", Some("i"), 1);
    let (old, _) = story.group.heartbeat(0, &story.topics.clone(), asked);
    assert_eq!(old, Err(GroupFault::FencedInstance));
    // Back again, in a group that stays what it is, and in one that thereby goes back.
    story.beat(newer("m")).unwrap();
    story
        .group
        .consumer_leave(0, &RULES, ("n", Some("i"), AWAY))
        .unwrap();
    let back = story
        .join(fixed(joining("", "b", &BTreeSet::new(), true)))
        .unwrap()
        .unwrap();
    assert_eq!((back.member.as_str(), story.consumer().members.len()), ("b", 2));
    story.beat(newer_fixed("n")).unwrap();
    story.group.consumer_leave(0, &RULES, ("m", None, -1)).unwrap();
    story
        .join(joining("", "c", &BTreeSet::new(), true))
        .unwrap()
        .unwrap();
    let (_, step) = story.join_step(fixed(joining("", "d", &BTreeSet::new(), true)));
    assert!(
        step.store && step.answers.is_empty() && story.is_classic(),
        "c has to join as well"
    );
    story
        .join(joining("c", "c", &BTreeSet::new(), true))
        .unwrap()
        .unwrap();
    assert_eq!(story.group.members(), 2);
    // The only member there is.
    let mut story = Story::new();
    let epoch = story.beat(newer_fixed("n")).unwrap().epoch;
    let back = story
        .join(fixed(joining("", "a", &BTreeSet::new(), true)))
        .unwrap()
        .unwrap();
    assert!(story.is_classic() && back.generation > epoch && back.leader == "a");
}

#[test]
fn a_group_that_may_not_go_back_stays_and_assigns_classic_members() {
    let mut story = Story::classic(&[("a", &[0, 1, 2, 3])]);
    story.rules.migration = MigrationPolicy::Upgrade;
    story.beat(newer("n")).unwrap();
    story.rejoin("a", &[]);
    story
        .group
        .consumer_leave(0, &story.rules.clone(), ("n", None, -1))
        .unwrap();
    assert!(story.consumer().is_all_classic());
    assert_eq!(story.heartbeat("a", 2), Err(GroupFault::RebalanceInProgress));
    let generation = story.rejoin("a", &[0, 1]);
    assert_eq!(story.synced("a", generation), [0, 1, 2, 3]);
    // Nobody of the newer protocol is there to look at the topics.
    story.topics = view(5);
    assert_eq!(
        story.heartbeat("a", generation),
        Err(GroupFault::RebalanceInProgress)
    );
    let generation = story.rejoin("a", &[0, 1, 2, 3]);
    assert_eq!(story.synced("a", generation), [0, 1, 2, 3, 4]);
    let (left, step) = story.group.leave(0, &story.rules.clone(), ("a", None));
    assert!(left.is_ok() && step.store && story.group.is_empty());
    let phase = |group: &AnyGroup| match group {
        AnyGroup::Classic(group) => Some(group.phase),
        AnyGroup::Consumer(_) => None,
    };
    assert_eq!(phase(&story.group), None);
    story
        .join(joining("", "b", &BTreeSet::new(), true))
        .unwrap()
        .unwrap();
    assert_eq!(phase(&story.group), Some(Phase::CompletingRebalance));
}
