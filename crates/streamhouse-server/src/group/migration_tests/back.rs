//! Groups of the newer protocol that classic members join, and what is left when the others have gone.

use std::collections::BTreeSet;

use bytes::Bytes;
use streamhouse_metadata::model::group::GroupState;

use super::{REBALANCE_MS, RULES, Story, beating, joining, newer, numbers, subscribing, view};
use crate::group::any::AnyGroup;
use crate::group::classic::{Join, Phase, Profile};
use crate::group::consumer::Beat;
use crate::group::consumer::member::AWAY;
use crate::group::migration::MigrationPolicy;
use crate::group::step::Answer;
use crate::group::{GroupFault, embedded};

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
            assert_eq!(
                story.may_commit("a", 2, &[0, 1]),
                Ok(()),
                "what it has done counts"
            );
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
