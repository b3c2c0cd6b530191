//! In which epochs members are, and in which they commit and read what (KIP-1251).

use super::member::AWAY;
use super::state::{Beat, ConsumerGroup};
use super::tests::{LIMITS, beat, beating, joining, numbers, owning, topic, view};
use crate::group::GroupFault;
use streamhouse_metadata::ids::TopicPartition;

const STALE: Result<(), GroupFault> = Err(GroupFault::StaleEpoch);

fn commits(group: &ConsumerGroup, member: &str, epoch: i32, partitions: &[i32]) -> Result<(), GroupFault> {
    let partitions = partitions.iter().map(|partition| TopicPartition {
        topic: topic(1),
        partition: *partition,
    });
    group.may_commit((member, epoch), true, partitions)
}

/// `a` had all four partitions in epoch 1 and has 0 and 1 in epoch 2, since `b` came, which waits for the others.
fn shared() -> ConsumerGroup {
    let topics = view(&[("t", 1, 4)]);
    let mut group = ConsumerGroup::new(LIMITS, 0);
    beat(&mut group, 0, &topics, joining("a", &["t"]));
    beat(&mut group, 0, &topics, joining("b", &["t"]));
    let kept = beat(&mut group, 0, &topics, beating("a", 1)).assignment.unwrap();
    assert_eq!(numbers(&kept), [0, 1]);
    assert_eq!(beat(&mut group, 0, &topics, owning("a", 1, &kept)).epoch, 2);
    group
}

#[test]
fn what_a_member_has_had_since_an_older_epoch_it_commits_there_and_nothing_else() {
    let group = shared();
    assert_eq!(commits(&group, "a", 1, &[0, 1]), Ok(()));
    assert_eq!(commits(&group, "a", 1, &[2]), STALE, "it has given it up");
    assert_eq!(commits(&group, "a", 1, &[0, 2]), STALE, "all of it, or nothing");
    assert_eq!(commits(&group, "a", 0, &[0]), STALE, "before it had it");
    assert_eq!(commits(&group, "a", -1, &[0]), STALE);
    assert_eq!(commits(&group, "a", 3, &[0]), STALE, "not yet");
    // In its own epoch nobody asks for what.
    assert_eq!(commits(&group, "a", 2, &[0, 3, 9]), Ok(()));
    assert_eq!(commits(&group, "c", 1, &[0]), Err(GroupFault::UnknownMember));
    assert_eq!(commits(&group, "", -1, &[0]), Err(GroupFault::UnknownMember));
    let none = || std::iter::empty();
    assert_eq!(
        group.may_commit(("a", 2), false, none()),
        Err(GroupFault::NoEpochs)
    );
    assert_eq!(
        group.may_commit(("c", 2), false, none()),
        Err(GroupFault::UnknownMember)
    );
}

#[test]
fn what_a_member_is_giving_up_it_commits_in_the_epoch_in_which_it_was_assigned() {
    let topics = view(&[("t", 1, 4)]);
    let mut group = shared();
    for other in ["c", "d"] {
        beat(&mut group, 0, &topics, joining(other, &["t"]));
    }
    let kept = beat(&mut group, 0, &topics, beating("a", 2)).assignment.unwrap();
    let [kept] = numbers(&kept)[..] else {
        panic!("{kept:?}")
    };
    let given_up = 1 - kept;
    assert_eq!(commits(&group, "a", 1, &[kept, given_up]), Ok(()));
    let has = [TopicPartition {
        topic: topic(1),
        partition: kept,
    }];
    let has = has.into_iter().collect();
    assert_eq!(beat(&mut group, 0, &topics, owning("a", 2, &has)).epoch, 4);
    for epoch in [1, 2, 3] {
        assert_eq!(commits(&group, "a", epoch, &[kept]), Ok(()));
        assert_eq!(commits(&group, "a", epoch, &[given_up]), STALE);
    }
}

#[test]
fn who_has_still_more_to_give_up_stays_in_its_epoch() {
    let topics = view(&[("t", 1, 4)]);
    let mut group = ConsumerGroup::new(LIMITS, 0);
    beat(&mut group, 0, &topics, joining("a", &["t"]));
    beat(&mut group, 0, &topics, joining("b", &["t"]));
    let two = beat(&mut group, 0, &topics, beating("a", 1)).assignment.unwrap();
    for other in ["c", "d"] {
        beat(&mut group, 0, &topics, joining(other, &["t"]));
    }
    let told = beat(&mut group, 0, &topics, owning("a", 1, &two));
    let one = told.assignment.unwrap();
    assert_eq!((told.epoch, one.len()), (1, 1));
    assert_eq!(beat(&mut group, 0, &topics, owning("a", 1, &two)).epoch, 1);
    assert_eq!(beat(&mut group, 0, &topics, owning("a", 1, &one)).epoch, 4);
}

#[test]
fn what_comes_back_to_a_member_it_has_had_since_then_only() {
    let topics = view(&[("t", 1, 4)]);
    // Given up for good, or about to be: the client has said that it is rid of it.
    for was_free in [true, false] {
        let mut group = shared();
        if was_free {
            assert_eq!(
                numbers(&beat(&mut group, 0, &topics, beating("b", 2)).assignment.unwrap()),
                [2, 3]
            );
        }
        group.leave("b", None, -1).unwrap();
        let back = beat(&mut group, 0, &topics, beating("a", 2));
        assert_eq!(
            (back.epoch, numbers(&back.assignment.unwrap())),
            (3, vec![0, 1, 2, 3])
        );
        assert_eq!(commits(&group, "a", 2, &[0, 1]), Ok(()));
        assert_eq!(commits(&group, "a", 2, &[2]), STALE);
        assert_eq!(commits(&group, "a", 3, &[2]), Ok(()));
    }
    let mut group = ConsumerGroup::new(LIMITS, 0);
    beat(&mut group, 0, &topics, joining("a", &["t"]));
    beat(&mut group, 0, &topics, joining("b", &["t"]));
    let kept = beat(&mut group, 0, &topics, beating("a", 1)).assignment.unwrap();
    group.leave("b", None, -1).unwrap();
    let back = beat(&mut group, 0, &topics, owning("a", 1, &kept));
    assert_eq!(
        (back.epoch, numbers(&back.assignment.unwrap())),
        (3, vec![0, 1, 2, 3])
    );
    assert_eq!(commits(&group, "a", 1, &[0, 1]), Ok(()));
    assert_eq!(commits(&group, "a", 1, &[2]), STALE);
}

#[test]
fn who_comes_back_to_a_static_member_s_place_is_not_asked_since_when() {
    let topics = view(&[("t", 1, 4)]);
    let mut group = shared();
    let fixed = |id: &str| Beat {
        instance: Some("i".to_owned()),
        ..joining(id, &["t"])
    };
    group.leave("a", None, -1).unwrap();
    let before = beat(&mut group, 0, &topics, fixed("s"));
    let had = numbers(&before.assignment.unwrap());
    group.leave("b", None, -1).unwrap();
    let epoch = beat(&mut group, 0, &topics, beating("s", before.epoch)).epoch;
    let [new, ..] = (0..4).filter(|each| !had.contains(each)).collect::<Vec<_>>()[..] else {
        panic!("{had:?}")
    };
    assert_eq!(commits(&group, "s", epoch - 1, &[new]), STALE);
    group.leave("s", Some("i"), AWAY).unwrap();
    assert_eq!(commits(&group, "s", epoch, &[new]), STALE, "away");
    assert_eq!(commits(&group, "s", AWAY, &[new]), Ok(()));
    assert_eq!(beat(&mut group, 0, &topics, fixed("s2")).epoch, epoch);
    assert_eq!(commits(&group, "s2", epoch - 1, &[new]), Ok(()));
    assert_eq!(
        commits(&group, "s", epoch, &[new]),
        Err(GroupFault::UnknownMember)
    );
}

#[test]
fn offsets_are_read_in_the_member_s_own_epoch_alone() {
    let group = shared();
    assert_eq!(group.may_fetch("a", 2), Ok(()));
    for epoch in [-1, 0, 1, 3] {
        assert_eq!(group.may_fetch("a", epoch), STALE);
    }
    let empty = ConsumerGroup::new(LIMITS, 0);
    for epoch in [-1, 0] {
        assert_eq!(group.may_fetch("c", epoch), Err(GroupFault::UnknownMember));
        assert_eq!(empty.may_fetch("c", epoch), Err(GroupFault::UnknownMember));
    }
}
