//! Who is to consume what: the assignors that this server offers. Pure, and the same for the same input.
//!
//! `uniform` evens out how many partitions each member has and moves as few as it can; `range` gives each
//! member a run of every topic's partitions, so that the same numbers of several topics meet in one member.

use std::collections::{BTreeMap, BTreeSet};

use streamhouse_metadata::ids::{TopicId, TopicPartition};

use super::Assignment;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    #[default]
    Uniform,
    Range,
}

impl Assignor {
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// One assignment a member, in the order given. `partitions`: how many each topic has.
    #[must_use]
    pub fn assign(self, members: &[Wish<'_>], partitions: &BTreeMap<TopicId, i32>) -> Vec<Assignment> {
        match self {
            Self::Uniform => uniform(members, partitions),
            Self::Range => range(members, partitions),
        }
    }
}

/// What is known of a member when it is assigned.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// What members are sorted by: the instance id where there is one, so that it keeps its place.
    pub rank: &'a str,
    pub topics: &'a BTreeSet<TopicId>,
    /// Its last target.
    pub had: &'a Assignment,
}

fn range(members: &[Wish<'_>], partitions: &BTreeMap<TopicId, i32>) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|at| members[*at].rank);
    let mut given = vec![Assignment::default(); members.len()];
    for (topic, count) in partitions {
        let wanting = order.iter().filter(|at| members[**at].topics.contains(topic));
        let wanting: Vec<usize> = wanting.copied().collect();
        let (count, sharers) = (usize::try_from(*count).unwrap_or(0), wanting.len());
        if sharers == 0 {
            continue;
        }
        let mut next = 0;
        for (nth, at) in wanting.into_iter().enumerate() {
            let share = count / sharers + usize::from(nth < count % sharers);
            for partition in next..next + share {
                given[at].insert(*topic, partition as i32);
            }
            next += share;
        }
    }
    given
}

/// Everybody keeps what they may; what is left goes to who has least; then whoever has two more than another
/// who may have it gives one away, until nobody has.
fn uniform(members: &[Wish<'_>], partitions: &BTreeMap<TopicId, i32>) -> Vec<Assignment> {
    let mut shares = Shares::new(members);
    let mut taken: BTreeSet<TopicPartition> = BTreeSet::new();
    for (at, member) in members.iter().enumerate() {
        for kept in member.had.partitions() {
            let exists = partitions.get(&kept.topic).is_some_and(|n| kept.partition < *n);
            if exists && member.topics.contains(&kept.topic) && taken.insert(kept) {
                shares.give(at, kept);
            }
        }
    }
    for (topic, count) in partitions {
        for partition in 0..*count {
            let free = TopicPartition {
                topic: *topic,
                partition,
            };
            if !taken.contains(&free)
                && let Some((_, lightest)) = shares.lightest(*topic)
            {
                shares.give(lightest, free);
            }
        }
    }
    shares.level();
    shares.given
}

/// What each member has so far, and who has least.
struct Shares {
    given: Vec<Assignment>,
    load: Vec<usize>,
    /// Members that want the same topics are of one class.
    class_of: Vec<usize>,
    /// Load and member, by class.
    by_load: Vec<BTreeSet<(usize, usize)>>,
    classes_of: BTreeMap<TopicId, Vec<usize>>,
}

impl Shares {
    fn new(members: &[Wish<'_>]) -> Self {
        let mut classes: BTreeMap<&BTreeSet<TopicId>, usize> = BTreeMap::new();
        let mut by_load: Vec<BTreeSet<(usize, usize)>> = Vec::new();
        let mut classes_of: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        let mut class_of = Vec::with_capacity(members.len());
        for (at, member) in members.iter().enumerate() {
            let class = *classes.entry(member.topics).or_insert_with(|| {
                by_load.push(BTreeSet::new());
                for topic in member.topics {
                    classes_of.entry(*topic).or_default().push(by_load.len() - 1);
                }
                by_load.len() - 1
            });
            by_load[class].insert((0, at));
            class_of.push(class);
        }
        Self {
            given: vec![Assignment::default(); members.len()],
            load: vec![0; members.len()],
            class_of,
            by_load,
            classes_of,
        }
    }

    fn lightest(&self, topic: TopicId) -> Option<(usize, usize)> {
        let classes = self.classes_of.get(&topic)?.iter();
        classes
            .filter_map(|class| self.by_load[*class].first().copied())
            .min()
    }

    fn weigh(&mut self, at: usize, load: usize) {
        let class = &mut self.by_load[self.class_of[at]];
        class.remove(&(self.load[at], at));
        class.insert((load, at));
        self.load[at] = load;
    }

    fn give(&mut self, at: usize, partition: TopicPartition) {
        self.given[at].insert(partition.topic, partition.partition);
        self.weigh(at, self.load[at] + 1);
    }

    fn take(&mut self, at: usize, partition: TopicPartition) {
        self.given[at].remove(partition.topic, partition.partition);
        self.weigh(at, self.load[at] - 1);
    }

    /// Always the heaviest gives first, so that nothing is given that is then given on. Each move lowers the
    /// sum of the squares of all loads, so this ends.
    fn level(&mut self) {
        loop {
            let mut moved = false;
            let loads = self.load.iter().copied().enumerate();
            let mut givers: BTreeSet<(usize, usize)> = loads.map(|(at, load)| (load, at)).collect();
            while let Some((load, at)) = givers.pop_last() {
                if load != self.load[at] {
                    givers.insert((self.load[at], at));
                } else if let Some((partition, other)) = self.movable(at) {
                    self.take(at, partition);
                    self.give(other, partition);
                    givers.insert((self.load[at], at));
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// A partition of this member's, and who is better off with it. The last ones go first, so that what a
    /// member keeps is one piece.
    fn movable(&self, at: usize) -> Option<(TopicPartition, usize)> {
        let mut topics = self.given[at].topics().rev();
        topics.find_map(|(topic, partitions)| {
            let (least, other) = self.lightest(topic)?;
            let partition = *partitions.last()?;
            (self.load[at] > least + 1).then_some((TopicPartition { topic, partition }, other))
        })
    }
}
