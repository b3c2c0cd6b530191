//! The machine of the newer protocol: whatever may happen, in any order, to members whose answers get lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::group::GroupState;

use super::Assignment;
use super::assignor::{Assignor, Wish};
use super::member::MemberState;
use super::state::{Beat, ConsumerGroup};
use super::subscription::TopicView;
use super::tests::{LIMITS, REBALANCE_MS, beating, joining, owning, topic, view};
use crate::group::GroupFault;

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
