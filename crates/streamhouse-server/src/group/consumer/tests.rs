//! The machine of the newer protocol: single stories first, then whatever may happen in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::group::GroupState;
use uuid::Uuid;

use super::Assignment;
use super::assignor::{Assignor, Wish};
use super::member::{AWAY, MemberState};
use super::pattern::Pattern;
use super::state::{Beat, BeatReply, ConsumerGroup, ConsumerLimits};
use super::subscription::{KnownTopic, TopicView};
use crate::group::GroupFault;

pub(super) const LIMITS: ConsumerLimits = ConsumerLimits {
    session_timeout_ms: 1_000,
    heartbeat_interval_ms: 100,
    members_max: 5,
};
const REBALANCE_MS: u64 = 300;

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

/// What a client of the model has, and knows.
#[derive(Clone, Debug, Default)]
struct Client {
    epoch: i32,
    has: Assignment,
    /// Told to have this; takes it up at its next step.
    told: Option<Assignment>,
    /// An answer did not arrive: next time it says all it can, as clients do.
    unsure: bool,
    names: BTreeSet<String>,
}

#[derive(Clone, Debug)]
enum Event {
    Join(usize, BTreeSet<usize>),
    /// A heartbeat; `true` when the answer is lost.
    Beat(usize, bool),
    /// Takes up what it was told and says what it has.
    Report(usize),
    Leave(usize),
    Grow(usize),
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let client = 0..4_usize;
    let event = prop_oneof![
        2 => (client.clone(), proptest::collection::btree_set(0..3_usize, 1..=3)).prop_map(|(c, t)| Event::Join(c, t)),
        6 => (client.clone(), proptest::bool::weighted(0.2)).prop_map(|(c, lost)| Event::Beat(c, lost)),
        6 => client.clone().prop_map(Event::Report),
        1 => client.prop_map(Event::Leave),
        1 => (0..3_usize).prop_map(Event::Grow),
        1 => (1..400_u64).prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 1..80)
}

struct World {
    group: ConsumerGroup,
    clients: Vec<Option<Client>>,
    sizes: [i32; 3],
    topics: Arc<TopicView>,
    now: u64,
}

const NAMES: [&str; 3] = ["t0", "t1", "t2"];

impl World {
    fn new() -> Self {
        let mut world = Self {
            group: ConsumerGroup::new(LIMITS, 0),
            clients: vec![None; 4],
            sizes: [3; 3],
            topics: Arc::default(),
            now: 0,
        };
        world.look();
        world
    }

    fn look(&mut self) {
        let sizes = self.sizes;
        let topics: Vec<_> = (0..3).map(|at| (NAMES[at], at as u128 + 1, sizes[at])).collect();
        self.topics = view(&topics);
    }

    fn send(&mut self, client: usize, beat: Beat, lost: bool) {
        let answer = self.group.heartbeat(self.now, &self.topics, beat);
        let known = self.clients[client].as_mut().unwrap();
        match answer {
            Ok(_) if lost => {
                // What it was told before may not hold any more.
                known.unsure = true;
                known.told = None;
            }
            Ok((reply, _)) => {
                known.epoch = reply.epoch;
                known.unsure = false;
                if reply.assignment.is_some() {
                    known.told = reply.assignment;
                }
            }
            // Fenced or forgotten: it gives everything up and is gone until it joins again.
            Err(_) => self.clients[client] = None,
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Join(client, names) => {
                let names: Vec<&str> = names.into_iter().map(|at| NAMES[at]).collect();
                self.clients[client] = Some(Client {
                    names: names.iter().map(|name| (*name).to_owned()).collect(),
                    ..Client::default()
                });
                self.send(client, joining(&format!("m{client}"), &names), false);
            }
            Event::Beat(client, lost) => {
                if let Some(known) = self.clients[client].clone() {
                    self.send(client, owning_or_not(client, &known, false), lost);
                }
            }
            Event::Report(client) => {
                if let Some(known) = self.clients[client].as_mut() {
                    if let Some(told) = known.told.take() {
                        known.has = told;
                    }
                    let known = known.clone();
                    self.send(client, owning_or_not(client, &known, true), false);
                }
            }
            Event::Leave(client) => {
                if self.clients[client].take().is_some() {
                    let _ = self.group.leave(&format!("m{client}"), None, -1);
                }
            }
            Event::Grow(at) => {
                self.sizes[at] += 1;
                self.look();
            }
            Event::Pass(time) => {
                self.now += time;
                self.group.tick(self.now);
                // Whoever was removed learns of it before anybody else is given what it had: sessions of
                // clients are shorter than the coordinator's.
                for client in 0..4 {
                    if !self.group.members.contains_key(&format!("m{client}")) {
                        self.clients[client] = None;
                    }
                }
            }
        }
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for known in self.clients.iter().flatten() {
            for partition in known.has.partitions() {
                assert!(seen.insert(partition), "{partition} is with two members");
            }
        }
        let mut held = BTreeSet::new();
        for member in self.group.members.values() {
            for partition in member.standing.held() {
                assert!(held.insert(partition), "{partition} is held twice");
            }
        }
        self.check_commits();
    }

    /// Whatever answers were lost: members commit what they have in the epoch that they know, and what others have
    /// in no epoch but their newest.
    fn check_commits(&self) {
        let clients = || (0..4).filter_map(|at| Some((at, self.clients[at].as_ref()?)));
        for (at, client) in clients() {
            let id = format!("m{at}");
            let Some(member) = self.group.members.get(&id) else {
                continue;
            };
            let commits = |partitions: &Assignment| {
                let identity = (id.as_str(), client.epoch);
                self.group.may_commit(identity, true, partitions.partitions())
            };
            assert_eq!(commits(&client.has), Ok(()), "{client:?}, {:?}", member.standing);
            for (_, other) in clients().filter(|(other, _)| *other != at) {
                if client.epoch < member.standing.epoch && !other.has.is_empty() {
                    assert_eq!(commits(&other.has), Err(GroupFault::StaleEpoch));
                }
            }
        }
    }

    /// Everybody alive does what it is told until nothing changes.
    fn settle(&mut self) {
        for _ in 0..40 {
            for client in 0..4 {
                self.step(Event::Report(client));
                self.check();
                if self.clients[client].is_none() {
                    // Whoever was fenced and did not come back is gone in the end.
                    let _ = self.group.leave(&format!("m{client}"), None, -1);
                }
            }
        }
        let members = &self.group.members;
        if members.is_empty() {
            assert_eq!(self.group.state(), GroupState::Empty);
            return;
        }
        assert_eq!(self.group.state(), GroupState::Stable);
        let mut wanted: BTreeSet<TopicPartition> = BTreeSet::new();
        for (id, topic) in &self.group.subscribed {
            wanted.extend((0..topic.partitions).map(|partition| TopicPartition {
                topic: *id,
                partition,
            }));
        }
        let given: BTreeSet<_> = members
            .values()
            .flat_map(|m| m.standing.assigned.partitions())
            .collect();
        assert_eq!(given, wanted, "all of it is given, and nothing else");
        for member in members.values() {
            assert_eq!(
                (member.standing.state, &member.standing.assigned),
                (MemberState::Stable, &member.target)
            );
            let subscription = &member.profile.subscription;
            let names = member
                .target
                .topics()
                .map(|(id, _)| &self.group.subscribed[&id].name);
            assert!(names.into_iter().all(|name| subscription.wants(name)));
        }
    }
}

fn owning_or_not(client: usize, known: &Client, says: bool) -> Beat {
    let id = format!("m{client}");
    if known.unsure {
        Beat {
            rebalance_timeout_ms: Some(REBALANCE_MS),
            names: Some(known.names.clone()),
            ..owning(&id, known.epoch, &known.has)
        }
    } else if says {
        owning(&id, known.epoch, &known.has)
    } else {
        beating(&id, known.epoch)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_is_ever_with_two_members_and_everybody_arrives(events in events()) {
        let mut world = World::new();
        for event in events {
            world.step(event);
            world.check();
        }
        world.settle();
    }

    #[test]
    fn uniform_is_even_and_moves_no_more_than_it_must(
        first in 1..8_usize, second in 1..8_usize, partitions in 0..60_i32,
    ) {
        let topics: BTreeSet<TopicId> = [topic(1), topic(2)].into();
        let counts = BTreeMap::from([(topic(1), partitions), (topic(2), partitions / 2)]);
        let total = (partitions + partitions / 2) as usize;
        let none = Assignment::default();
        let wish = |had| Wish { rank: "", topics: &topics, had };
        let even = |given: &[Assignment]| {
            let sizes = given.iter().map(Assignment::len);
            let (least, most) = (sizes.clone().min().unwrap(), sizes.clone().max().unwrap());
            assert!(most - least <= 1 && sizes.sum::<usize>() == total);
        };
        let before = Assignor::Uniform.assign(&vec![wish(&none); first], &counts);
        even(&before);
        let had: Vec<&Assignment> = before.iter().chain(std::iter::repeat(&none)).take(second).collect();
        let wishes: Vec<Wish<'_>> = had.iter().map(|had| wish(had)).collect();
        let after = Assignor::Uniform.assign(&wishes, &counts);
        even(&after);
        let kept: usize = had.iter().zip(&after).map(|(had, now)| {
            had.partitions().filter(|p| now.holds(p.topic, p.partition)).count()
        }).sum();
        // Nobody has to have more than its share, rounded up: all up to that may stay.
        let floor = total / second;
        let least_kept: usize = had.iter().map(|had| had.len().min(floor)).sum();
        prop_assert!(kept >= least_kept, "{kept} of {least_kept} kept");
    }
}
