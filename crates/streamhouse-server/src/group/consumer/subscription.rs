//! Which topics a member wants: those it names, and those whose whole name its pattern matches.
//!
//! Not here: how patterns match (`pattern`), who gets what (`assignor`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::topic::Topic;

use super::pattern::Pattern;

/// A topic as far as assignments go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    pub id: TopicId,
    pub partitions: i32,
}

/// The topics of the cluster at one moment, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicView(pub BTreeMap<String, KnownTopic>);

impl FromIterator<Topic> for TopicView {
    fn from_iter<I: IntoIterator<Item = Topic>>(topics: I) -> Self {
        let known = |topic: Topic| {
            let Topic { id, partitions, .. } = topic;
            (topic.name, KnownTopic { id, partitions })
        };
        Self(topics.into_iter().map(known).collect())
    }
}

/// What a member is subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub names: BTreeSet<String>,
    pub pattern: Option<Pattern>,
}

impl Subscription {
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        let pattern = self.pattern.as_ref();
        self.names.contains(name) || pattern.is_some_and(|pattern| pattern.matches(name))
    }
}

/// The topics that each of these subscriptions wants of those that exist. A pattern is matched once, however
/// many members have it.
pub fn resolve<'a>(
    subscriptions: impl Iterator<Item = &'a Subscription>,
    topics: &TopicView,
) -> Vec<BTreeSet<TopicId>> {
    let mut matching: HashMap<&str, Vec<TopicId>> = HashMap::new();
    let resolved = subscriptions.map(|subscription| {
        let names = subscription.names.iter();
        let mut wanted: BTreeSet<TopicId> = names
            .filter_map(|name| topics.0.get(name))
            .map(|topic| topic.id)
            .collect();
        if let Some(pattern) = &subscription.pattern {
            let found = matching.entry(pattern.text()).or_insert_with(|| {
                let all = topics.0.iter().filter(|(name, _)| pattern.matches(name));
                all.map(|(_, topic)| topic.id).collect()
            });
            wanted.extend(found.iter().copied());
        }
        wanted
    });
    resolved.collect()
}
