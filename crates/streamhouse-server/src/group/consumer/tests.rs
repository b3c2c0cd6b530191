//! The machine of the newer protocol: single stories. What may happen in any order is in `model_tests`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::group::GroupState;
use uuid::Uuid;

use super::Assignment;
use super::assignor::{Assignor, Wish};
use super::member::AWAY;
use super::pattern::Pattern;
use super::state::{Beat, BeatReply, ConsumerGroup, ConsumerLimits};
use super::subscription::{KnownTopic, TopicView};
use crate::group::GroupFault;

pub(super) const LIMITS: ConsumerLimits = ConsumerLimits {
    session_timeout_ms: 1_000,
    heartbeat_interval_ms: 100,
    members_max: 5,
};
pub(super) const REBALANCE_MS: u64 = 300;

pub(super) fn topic(n: u128) -> TopicId {
    TopicId(Uuid::from_u128(n))
}

pub(super) fn view(topics: &[(&str, u128, i32)]) -> Arc<TopicView> {
    let known = |(name, id, partitions): &(&str, u128, i32)| {
        let (id, partitions) = (topic(*id), *partitions);
        ((*name).to_owned(), KnownTopic { id, partitions })
    };
    Arc::new(TopicView(topics.iter().map(known).collect()))
}

pub(super) fn joining(member: &str, names: &[&str]) -> Beat {
    Beat {
        member: member.to_owned(),
        rebalance_timeout_ms: Some(REBALANCE_MS),
        names: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        owned: Some(Assignment::default()),
        ..Beat::default()
    }
}

pub(super) fn beating(member: &str, epoch: i32) -> Beat {
    Beat {
        member: member.to_owned(),
        epoch,
        ..Beat::default()
    }
}

pub(super) fn owning(member: &str, epoch: i32, owned: &Assignment) -> Beat {
    Beat {
        owned: Some(owned.clone()),
        ..beating(member, epoch)
    }
}

pub(super) fn beat(group: &mut ConsumerGroup, now: u64, topics: &Arc<TopicView>, beat: Beat) -> BeatReply {
    group.heartbeat(now, topics, beat).unwrap().0
}

pub(super) fn numbers(assignment: &Assignment) -> Vec<i32> {
    assignment.partitions().map(|p| p.partition).collect()
}

#[test]
fn a_second_member_gets_its_share_only_when_the_first_has_given_it_up() {
    let topics = view(&[("t", 1, 4)]);
    let mut group = ConsumerGroup::new(LIMITS, 0);
    let first = beat(&mut group, 0, &topics, joining("a", &["t"]));
    assert_eq!(
        (first.epoch, numbers(&first.assignment.unwrap())),
        (1, vec![0, 1, 2, 3])
    );
    let second = beat(&mut group, 0, &topics, joining("b", &["t"]));
    assert_eq!((second.epoch, numbers(&second.assignment.unwrap())), (2, vec![]));
    assert_eq!(group.state(), GroupState::Reconciling);
    // Told to give up, still in its epoch; nothing moves while it does not say that it did.
    let told = beat(&mut group, 0, &topics, beating("a", 1));
    let kept = told.assignment.unwrap();
    assert_eq!((told.epoch, numbers(&kept)), (1, vec![0, 1]));
    assert_eq!(beat(&mut group, 0, &topics, beating("a", 1)).assignment, None);
    assert_eq!(beat(&mut group, 0, &topics, beating("b", 2)).assignment, None);
    let given_up = beat(&mut group, 0, &topics, owning("a", 1, &kept));
    assert_eq!((given_up.epoch, given_up.assignment), (2, None));
    let got = beat(&mut group, 0, &topics, beating("b", 2));
    assert_eq!(numbers(&got.assignment.unwrap()), vec![2, 3]);
    assert_eq!(group.state(), GroupState::Stable);
}

#[test]
fn who_does_not_give_up_in_time_is_removed_and_fenced() {
    let topics = view(&[("t", 1, 2)]);
    let mut group = ConsumerGroup::new(LIMITS, 0);
    beat(&mut group, 0, &topics, joining("a", &["t"]));
    beat(&mut group, 0, &topics, joining("b", &["t"]));
    beat(&mut group, 10, &topics, beating("a", 1));
    // Heartbeats do not buy it more time.
    beat(&mut group, 200, &topics, beating("a", 1));
    assert_eq!(group.next_deadline(), Some(10 + REBALANCE_MS));
    assert!(!group.tick(9 + REBALANCE_MS).store);
    assert!(group.tick(10 + REBALANCE_MS).store);
    let refused = group.heartbeat(400, &topics, beating("a", 1));
    assert_eq!(refused.unwrap_err(), GroupFault::UnknownMember);
    let all = beat(&mut group, 400, &topics, beating("b", 2));
    assert_eq!(numbers(&all.assignment.unwrap()), vec![0, 1]);
}

#[test]
fn a_silent_member_is_removed_when_its_session_ends() {
    let topics = view(&[("t", 1, 2)]);
    let mut group = ConsumerGroup::new(LIMITS, 0);
    beat(&mut group, 0, &topics, joining("a", &["t"]));
    beat(&mut group, 500, &topics, beating("a", 1));
    assert_eq!(group.next_deadline(), Some(1_500));
    assert!(!group.tick(1_499).store);
    let step = group.tick(1_500);
    assert!(step.store && !step.lapsed.is_empty());
    assert_eq!(group.state(), GroupState::Empty);
    assert_eq!(group.next_deadline(), None);
}

#[test]
fn epochs_other_than_the_member_s_own_are_fenced() {
    let topics = view(&[("t", 1, 2)]);
    let mut group = ConsumerGroup::new(LIMITS, 0);
    let all = beat(&mut group, 0, &topics, joining("a", &["t"]))
        .assignment
        .unwrap();
    let grown = view(&[("t", 1, 3)]);
    let moved = beat(&mut group, 0, &grown, beating("a", 1));
    assert_eq!(
        (moved.epoch, numbers(&moved.assignment.unwrap())),
        (2, vec![0, 1, 2])
    );
    // The answer was lost: it asks again as it was, and has nothing it was not given.
    assert_eq!(beat(&mut group, 0, &grown, owning("a", 1, &all)).epoch, 2);
    for fenced in [
        beating("a", 3),
        beating("a", 1),
        owning(
            "a",
            1,
            &[TopicPartition {
                topic: topic(9),
                partition: 0,
            }]
            .into_iter()
            .collect(),
        ),
    ] {
        assert_eq!(
            group.heartbeat(0, &grown, fenced).unwrap_err(),
            GroupFault::FencedEpoch
        );
    }
    assert_eq!(
        group.heartbeat(0, &grown, beating("b", 1)).unwrap_err(),
        GroupFault::UnknownMember
    );
}

#[test]
fn a_refused_heartbeat_changes_nothing() {
    let topics = view(&[("t", 1, 2)]);
    let mut group = ConsumerGroup::new(LIMITS, 0);
    for id in ["a", "b", "c", "d", "e"] {
        beat(&mut group, 0, &topics, joining(id, &["t"]));
    }
    let before = (group.epoch, group.members.len());
    let full = group.heartbeat(0, &topics, joining("f", &["t"]));
    assert_eq!(full.unwrap_err(), GroupFault::Full);
    assert_eq!((group.epoch, group.members.len()), before);
    assert!(
        beat(&mut group, 0, &topics, joining("a", &["t"])).epoch > 0,
        "its first answer may have been lost"
    );
    let moved = owning("a", 1, &Assignment::default());
    assert!(beat(&mut group, 0, &topics, moved).epoch > 1);
    assert_eq!(
        group.heartbeat(0, &topics, joining("a", &["t"])).unwrap_err(),
        GroupFault::FencedEpoch
    );
}

#[test]
fn a_static_member_comes_back_to_what_it_had_under_another_id() {
    let topics = view(&[("t", 1, 4)]);
    let mut group = ConsumerGroup::new(LIMITS, 0);
    let fixed = |id: &str| Beat {
        instance: Some("i".to_owned()),
        ..joining(id, &["t"])
    };
    let had = beat(&mut group, 0, &topics, fixed("a")).assignment.unwrap();
    let taken = group.heartbeat(0, &topics, fixed("b"));
    assert_eq!(taken.unwrap_err(), GroupFault::UnreleasedInstance);
    for other in ["b", ""] {
        assert_eq!(
            group.leave(other, Some("i"), AWAY).unwrap_err(),
            GroupFault::FencedInstance
        );
    }
    assert!(group.leave("a", Some("i"), AWAY).unwrap().store);
    let epoch = group.epoch;
    let back = beat(&mut group, 10, &topics, fixed("b"));
    assert_eq!((back.epoch, back.assignment.unwrap()), (epoch, had));
    assert_eq!(group.epoch, epoch, "nobody else notices");
    // Nor may it, or a new one, take the id of a member that is there.
    beat(&mut group, 10, &topics, joining("c", &["t"]));
    group.leave("b", Some("i"), AWAY).unwrap();
    for instance in ["i", "new"] {
        let taken = Beat {
            instance: Some(instance.to_owned()),
            ..joining("c", &["t"])
        };
        assert_eq!(
            group.heartbeat(10, &topics, taken).unwrap_err(),
            GroupFault::FencedInstance
        );
    }
    group.leave("c", None, -1).unwrap();
    let epoch = beat(&mut group, 10, &topics, fixed("b")).epoch;
    let old = Beat {
        instance: Some("i".to_owned()),
        ..beating("a", epoch)
    };
    assert_eq!(
        group.heartbeat(10, &topics, old).unwrap_err(),
        GroupFault::FencedInstance
    );
    group.leave("b", Some("i"), AWAY).unwrap();
    assert!(group.tick(1_010).store, "away for too long");
    assert_eq!(group.state(), GroupState::Empty);
}

#[test]
fn topics_that_come_grow_and_go_lead_to_new_assignments() {
    let mut group = ConsumerGroup::new(LIMITS, 0);
    let none = view(&[("other", 9, 3)]);
    let mut by_pattern = joining("a", &[]);
    by_pattern.pattern = Some(Some(Pattern::new("log-.*").unwrap()));
    let joined = beat(&mut group, 0, &none, by_pattern);
    assert!(joined.assignment.unwrap().is_empty());
    let epoch = group.epoch;
    assert_eq!(
        beat(&mut group, 0, &view(&[("other", 9, 7)]), beating("a", epoch)).assignment,
        None
    );
    assert_eq!(group.epoch, epoch, "what nobody wants is no change");
    let come = beat(
        &mut group,
        0,
        &view(&[("log-1", 1, 1), ("my-log-1", 2, 1)]),
        beating("a", epoch),
    );
    assert_eq!(
        come.assignment
            .unwrap()
            .partitions()
            .map(|p| p.topic)
            .collect::<Vec<_>>(),
        [topic(1)]
    );
    let grown = beat(&mut group, 0, &view(&[("log-1", 1, 3)]), beating("a", come.epoch));
    assert_eq!(numbers(&grown.assignment.unwrap()), [0, 1, 2]);
    let gone = beat(&mut group, 0, &view(&[]), beating("a", grown.epoch));
    assert!(gone.assignment.unwrap().is_empty());
}

#[test]
fn range_gives_runs_that_meet_across_topics() {
    let topics: BTreeSet<TopicId> = [topic(1), topic(2)].into();
    let only_second: BTreeSet<TopicId> = [topic(2)].into();
    let none = Assignment::default();
    let wish = |rank, topics| Wish {
        rank,
        topics,
        had: &none,
    };
    let members = [wish("b", &topics), wish("a", &topics), wish("c", &only_second)];
    let counts = BTreeMap::from([(topic(1), 3), (topic(2), 4)]);
    let given = Assignor::Range.assign(&members, &counts);
    let of = |at: usize, id| {
        let mut topics = given[at].topics();
        topics
            .find(|(topic, _)| *topic == id)
            .map(|(_, p)| p.iter().copied().collect::<Vec<_>>())
    };
    assert_eq!(
        (of(1, topic(1)), of(0, topic(1)), of(2, topic(1))),
        (Some(vec![0, 1]), Some(vec![2]), None)
    );
    assert_eq!(
        (of(1, topic(2)), of(0, topic(2)), of(2, topic(2))),
        (Some(vec![0, 1]), Some(vec![2]), Some(vec![3]))
    );
}
