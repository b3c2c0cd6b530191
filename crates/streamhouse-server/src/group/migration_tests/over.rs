//! Classic groups that members of the newer protocol join.

use std::collections::BTreeSet;

use bytes::Bytes;
use streamhouse_metadata::model::group::GroupState;

use super::{RULES, Story, TELLING, beating, joining, newer, numbers, subscribing};
use crate::group::any::AnyGroup;
use crate::group::classic::Group;
use crate::group::consumer::Beat;
use crate::group::migration::MigrationPolicy;
use crate::group::step::Answer;
use crate::group::{GroupFault, embedded};

#[test]
fn who_joins_with_the_newer_protocol_gets_what_a_classic_member_has_given_up() {
    let mut story = Story::classic(&[("a", &[0, 1, 2, 3])]);
    let joined = story.beat(newer("n")).unwrap();
    assert_eq!((joined.epoch, numbers(joined)), (2, vec![]));
    assert_eq!(story.may_commit("a", 1, &[0, 3]), Ok(()));
    assert_eq!(story.may_commit("a", 2, &[0]), Err(GroupFault::IllegalGeneration));
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
    for _ in 0..2 {
        // What it has had since it came, it commits in the generation in which it came.
        assert_eq!(story.may_commit("a", 1, &[0, 1]), Ok(()));
        assert_eq!(story.may_commit("a", 1, &[2]), Err(GroupFault::IllegalGeneration));
        assert_eq!(story.may_commit("a", 0, &[0]), Err(GroupFault::IllegalGeneration));
        story.restart();
    }
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
    assert_eq!(story.may_commit("a", 1, &[0, 1]), Ok(()), "its since before");
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
