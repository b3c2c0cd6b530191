//! Whatever may happen to a group that members of both protocols come to and go from, in any order, with a
//! coordinator that may be replaced between any two requests: no partition is ever with two clients, and in the
//! end everybody has its share.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::group::StoredGroup;

use super::any::AnyGroup;
use super::classic::Group;
use super::consumer::subscription::TopicView;
use super::consumer::{Assignment, Beat};
use super::embedded;
use super::migration_tests::{REBALANCE_MS, RULES, TOPIC, joining, view};
use super::step::{Answer, JoinReply, Step, Ticket};
use super::{GroupFault, MemberId};

const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Client {
    Newer {
        id: MemberId,
        epoch: i32,
        has: BTreeSet<i32>,
        /// Told to have this; takes it up at its next step.
        told: Option<BTreeSet<i32>>,
        /// An answer did not arrive: next time it says all it can.
        unsure: bool,
    },
    Classic {
        id: MemberId,
        generation: i32,
        has: BTreeSet<i32>,
        at: At,
    },
}

/// Where a member of the classic protocol is.
#[derive(Clone, Debug)]
enum At {
    /// About to join (again).
    Outside,
    Joining(Ticket),
    Joined(JoinReply),
    Syncing(Ticket),
    /// Assigned this; takes it up at its next step.
    Told(BTreeSet<i32>),
    Inside,
}

impl Client {
    fn id(&self) -> &str {
        match self {
            Self::Newer { id, .. } | Self::Classic { id, .. } => id,
        }
    }

    fn has(&self) -> &BTreeSet<i32> {
        match self {
            Self::Newer { has, .. } | Self::Classic { has, .. } => has,
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Newer(usize),
    Classic(usize),
    /// Its next step; `true` when the answer to a heartbeat of the newer protocol is lost.
    Act(usize, bool),
    Leave(usize),
    Grow,
    Restart,
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let client = 0..CLIENTS;
    let event = prop_oneof![
        2 => client.clone().prop_map(Event::Newer),
        2 => client.clone().prop_map(Event::Classic),
        16 => (client.clone(), proptest::bool::weighted(0.1)).prop_map(|(c, lost)| Event::Act(c, lost)),
        1 => client.prop_map(Event::Leave),
        1 => Just(Event::Grow),
        1 => Just(Event::Restart),
        2 => (1..400_u64).prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 1..150)
}

struct World {
    group: AnyGroup,
    stored: Option<StoredGroup>,
    clients: Vec<Option<Client>>,
    cooperative: bool,
    partitions: i32,
    topics: Arc<TopicView>,
    now: u64,
    count: u64,
}

fn stored(group: &AnyGroup) -> StoredGroup {
    super::migration_tests::stored(group)
}

fn numbers(assignment: &Assignment) -> BTreeSet<i32> {
    assignment.partitions().map(|p| p.partition).collect()
}

fn assignment(partitions: &BTreeSet<i32>) -> Assignment {
    let topic = TOPIC;
    let all = partitions.iter();
    all.map(|partition| TopicPartition {
        topic,
        partition: *partition,
    })
    .collect()
}

fn embedded_numbers(bytes: &Bytes) -> BTreeSet<i32> {
    let partitions = match bytes.is_empty() {
        true => Vec::new(),
        false => embedded::assignment(bytes).unwrap().partitions,
    };
    partitions.into_iter().flat_map(|(_, numbers)| numbers).collect()
}

impl World {
    fn new(cooperative: bool) -> Self {
        let partitions = 6;
        Self {
            group: AnyGroup::Classic(Group::new(RULES.classic)),
            stored: None,
            clients: vec![None; CLIENTS],
            cooperative,
            partitions,
            topics: view(partitions),
            now: 0,
            count: 0,
        }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// What the coordinator does with a step: stores, then answers.
    fn apply(&mut self, step: Step) {
        if step.store {
            self.stored = Some(stored(&self.group));
        }
        for (ticket, answer) in step.answers {
            for client in self.clients.iter_mut().flatten() {
                let Client::Classic {
                    id,
                    generation,
                    has,
                    at,
                } = client
                else {
                    continue;
                };
                match (&*at, &answer) {
                    (At::Joining(mine), Answer::Join(reply)) if *mine == ticket => match reply {
                        Ok(reply) => {
                            id.clone_from(&reply.member);
                            *generation = reply.generation;
                            *at = At::Joined(reply.clone());
                        }
                        Err((GroupFault::MemberIdRequired(given), _)) => {
                            id.clone_from(given);
                            *at = At::Outside;
                        }
                        Err((fault, _)) => begin_anew(fault, id, has, at),
                    },
                    (At::Syncing(mine), Answer::Sync(reply)) if *mine == ticket => match reply {
                        Ok(reply) => *at = At::Told(embedded_numbers(&reply.assignment)),
                        Err(fault) => begin_anew(fault, id, has, at),
                    },
                    _ => {}
                }
            }
        }
    }

    fn join_newer(&mut self, client: usize) {
        let id = format!("n{}", self.next());
        let beat = Beat {
            member: id.clone(),
            rebalance_timeout_ms: Some(REBALANCE_MS),
            names: Some(["t".to_owned()].into()),
            owned: Some(Assignment::default()),
            ..Beat::default()
        };
        let joined = self
            .group
            .consumer_heartbeat(self.now, &RULES, &self.topics, beat);
        match joined {
            Ok((reply, step)) => {
                self.clients[client] = Some(Client::Newer {
                    id,
                    epoch: reply.epoch,
                    has: BTreeSet::new(),
                    told: reply.assignment.as_ref().map(numbers),
                    unsure: false,
                });
                self.apply(step);
            }
            Err(fault) => assert_eq!(fault, GroupFault::Full, "every such group can go over"),
        }
    }

    fn beat(&mut self, client: usize, lost: bool) {
        let Some(Client::Newer {
            id,
            epoch,
            has,
            told,
            unsure,
        }) = &mut self.clients[client]
        else {
            return;
        };
        let takes = told.take();
        if let Some(told) = &takes {
            has.clone_from(told);
        }
        let beat = Beat {
            member: id.clone(),
            epoch: *epoch,
            rebalance_timeout_ms: unsure.then_some(REBALANCE_MS),
            names: unsure.then(|| ["t".to_owned()].into()),
            owned: (*unsure || takes.is_some()).then(|| assignment(has)),
            ..Beat::default()
        };
        let beat = self
            .group
            .consumer_heartbeat(self.now, &RULES, &self.topics, beat);
        match beat {
            Ok((reply, step)) => {
                *unsure = lost;
                if !lost {
                    *epoch = reply.epoch;
                    *told = reply.assignment.as_ref().map(numbers);
                }
                self.apply(step);
            }
            // It gives everything up and is gone until it joins again.
            Err(_) => self.clients[client] = None,
        }
    }

    /// The next step of a member of the classic protocol.
    fn act(&mut self, client: usize) {
        let ticket = self.next();
        let Some(Client::Classic {
            id,
            generation,
            has,
            at,
        }) = &mut self.clients[client]
        else {
            return;
        };
        match at.clone() {
            At::Outside => {
                if !self.cooperative {
                    has.clear();
                }
                let join = joining(id, &format!("c{ticket}"), has, self.cooperative);
                *at = At::Joining(ticket);
                let step = self.group.join(self.now, &RULES, &self.topics, (ticket, join));
                self.apply(step);
            }
            At::Joined(reply) => {
                let given = match reply.leader == *id {
                    true => lead(&reply, self.partitions, self.cooperative),
                    false => Vec::new(),
                };
                *at = At::Syncing(ticket);
                let (id, generation) = (id.clone(), *generation);
                let asked = (ticket, (id.as_str(), None, generation));
                let protocol = (Some(reply.protocol_type.as_str()), Some(reply.protocol.as_str()));
                let step = self.group.sync(self.now, asked, protocol, given);
                self.apply(step);
            }
            At::Told(told) => {
                let gave_up = has.difference(&told).next().is_some();
                *has = told;
                // Who gave something up says so at once.
                *at = match gave_up {
                    true => At::Outside,
                    false => At::Inside,
                };
            }
            At::Inside => {
                let identity = (id.as_str(), None, *generation);
                let (beat, step) = self.group.heartbeat(self.now, &self.topics, identity);
                if let Err(fault) = beat {
                    begin_anew(&fault, id, has, at);
                }
                self.apply(step);
            }
            At::Joining(_) | At::Syncing(_) => {}
        }
    }

    fn leave(&mut self, client: usize) {
        match self.clients[client].take() {
            None => {}
            Some(Client::Newer { id, .. }) => {
                let left = self.group.consumer_leave(self.now, &RULES, (&id, None, -1));
                if let Ok(step) = left {
                    self.apply(step);
                }
            }
            Some(Client::Classic { id, .. }) => {
                let (_, step) = self.group.leave(self.now, &RULES, (&id, None));
                self.apply(step);
            }
        }
    }

    fn pass(&mut self, time: u64) {
        self.now += time;
        let before = self.members();
        let step = self.group.tick(self.now, &RULES);
        self.apply(step);
        let after = self.members();
        // Whoever was removed learns of it before anybody else is given what it had: sessions of clients are
        // shorter than the coordinator's.
        for client in &mut self.clients {
            let removed = |id: &str| before.contains(id) && !after.contains(id);
            match client {
                Some(Client::Newer { id, .. }) if removed(id) => *client = None,
                Some(Client::Classic { id, has, at, .. }) if removed(id) => {
                    begin_anew(&GroupFault::UnknownMember, id, has, at);
                }
                _ => {}
            }
        }
    }

    fn members(&self) -> BTreeSet<MemberId> {
        match &self.group {
            AnyGroup::Classic(group) => group.members.keys().cloned().collect(),
            AnyGroup::Consumer(group) => group.members.keys().cloned().collect(),
        }
    }

    /// Another coordinator takes over what is stored; whoever waited asks again.
    fn restart(&mut self) {
        self.group = match &self.stored {
            Some(stored) => AnyGroup::restore(stored, &RULES, self.now).unwrap(),
            None => AnyGroup::Classic(Group::new(RULES.classic)),
        };
        for client in self.clients.iter_mut().flatten() {
            if let Client::Classic { at, .. } = client
                && matches!(at, At::Joining(_) | At::Syncing(_))
            {
                *at = At::Outside;
            }
        }
    }

    fn step(&mut self, event: &Event) {
        match event {
            Event::Newer(client) if self.clients[*client].is_none() => self.join_newer(*client),
            Event::Classic(client) if self.clients[*client].is_none() => {
                self.clients[*client] = Some(Client::Classic {
                    id: String::new(),
                    generation: -1,
                    has: BTreeSet::new(),
                    at: At::Outside,
                });
            }
            Event::Newer(_) | Event::Classic(_) => {}
            Event::Act(client, lost) => match &self.clients[*client] {
                Some(Client::Newer { .. }) => self.beat(*client, *lost),
                Some(Client::Classic { .. }) => self.act(*client),
                None => {}
            },
            Event::Leave(client) => self.leave(*client),
            Event::Grow => {
                self.partitions = (self.partitions + 1).min(12);
                self.topics = view(self.partitions);
            }
            Event::Restart => self.restart(),
            Event::Pass(time) => self.pass(*time),
        }
        self.check();
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for client in self.clients.iter().flatten() {
            for partition in client.has() {
                assert!(
                    seen.insert(*partition),
                    "{partition} is with two clients: {:?}",
                    self.clients
                );
            }
        }
        if let AnyGroup::Consumer(group) = &self.group {
            let mut held = BTreeSet::new();
            for member in group.members.values() {
                for partition in member.standing.held() {
                    assert!(held.insert(partition), "{partition} is held twice");
                }
            }
        }
    }

    /// Everybody alive goes on until nothing changes; who went without a word is forgotten meanwhile.
    fn settle(&mut self) {
        for _ in 0..60 {
            for client in 0..CLIENTS {
                for _ in 0..3 {
                    self.step(&Event::Act(client, false));
                }
            }
            self.step(&Event::Pass(100));
        }
        let alive: Vec<&Client> = self.clients.iter().flatten().collect();
        let ids: BTreeSet<MemberId> = alive.iter().map(|client| client.id().to_owned()).collect();
        assert_eq!(self.members(), ids);
        let has: BTreeSet<i32> = alive.iter().flat_map(|client| client.has()).copied().collect();
        let all: BTreeSet<i32> = match alive.is_empty() {
            true => BTreeSet::new(),
            false => (0..self.partitions).collect(),
        };
        // A classic group's leader would have to look at the topics; this one's does when it leads.
        let grown: BTreeSet<i32> = all.difference(&has).copied().collect();
        match &self.group {
            AnyGroup::Consumer(_) => assert_eq!(has, all),
            AnyGroup::Classic(_) => assert!(grown.iter().all(|partition| *partition >= 6), "{grown:?}"),
        }
        let newer = alive.iter().any(|client| matches!(client, Client::Newer { .. }));
        assert_eq!(
            matches!(self.group, AnyGroup::Consumer(_)) && !alive.is_empty(),
            newer,
            "{:?}",
            self.clients
        );
    }
}

/// What a client of the classic protocol does with a refusal.
fn begin_anew(fault: &GroupFault, id: &mut MemberId, has: &mut BTreeSet<i32>, at: &mut At) {
    match fault {
        GroupFault::RebalanceInProgress | GroupFault::NotCoordinator => {}
        GroupFault::IllegalGeneration => has.clear(),
        GroupFault::UnknownMember | GroupFault::Full => {
            has.clear();
            id.clear();
        }
        other => panic!("no client expects {other:?}"),
    }
    *at = At::Outside;
}

/// A leader's assignor: partitions in turn; a cooperative one gives nobody what another one joined with.
fn lead(reply: &JoinReply, partitions: i32, cooperative: bool) -> Vec<(MemberId, Bytes)> {
    let members: Vec<(&MemberId, BTreeSet<i32>, &Bytes)> = reply
        .members
        .iter()
        .map(|(id, _, metadata)| {
            let owned = embedded::subscription(metadata).unwrap().owned;
            let owned = owned.into_iter().flat_map(|(_, numbers)| numbers).collect();
            (id, owned, metadata)
        })
        .collect();
    let given = members.iter().enumerate().map(|(nth, (id, owned, metadata))| {
        let mine = (0..partitions).filter(|partition| *partition as usize % members.len() == nth);
        let free = |partition: &i32| {
            let owner = members.iter().find(|(_, owned, _)| owned.contains(partition));
            owned.contains(partition) || owner.is_none() || !cooperative
        };
        let mine = vec![("t".to_owned(), mine.filter(free).collect())];
        ((*id).clone(), embedded::encode_assignment(metadata, mine))
    });
    given.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_is_ever_with_two_members_of_whichever_protocol(
        cooperative in proptest::bool::ANY, events in events(),
    ) {
        let mut world = World::new(cooperative);
        for event in &events {
            world.step(event);
        }
        world.settle();
    }
}
