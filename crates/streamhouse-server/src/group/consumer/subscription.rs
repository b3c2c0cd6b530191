//! Which topics a member wants: those it names, and those whose whole name its pattern matches.
//!
//! Patterns have the syntax and the guarantees of RE2: no pattern takes more than linear time. Their length
//! and what they take in memory are bounded. Not here: who gets what.

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexBuilder};
use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::topic::Topic;

use crate::group::GroupFault;

const PATTERN_BYTES_MAX: usize = 4_096;
const COMPILED_BYTES_MAX: usize = 1 << 20;

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

/// A pattern as a member gave it, ready to match.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// # Errors
    /// [`GroupFault::InvalidPattern`].
    pub fn new(text: &str) -> Result<Self, GroupFault> {
        let invalid = |why: String| GroupFault::InvalidPattern(why);
        if text.len() > PATTERN_BYTES_MAX {
            return Err(invalid(format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
        }
        // Alone first: a pattern such as "a)(b" must not become one by what is put around it.
        let bounded = |text: &str| {
            let mut builder = RegexBuilder::new(text);
            builder.size_limit(COMPILED_BYTES_MAX).build()
        };
        let whole = bounded(text).and_then(|_| bounded(&format!("^(?:{text})$")));
        let regex = whole.map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            text: text.to_owned(),
            regex,
        })
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
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
        self.names.contains(name) || pattern.is_some_and(|pattern| pattern.regex.is_match(name))
    }

    /// Those of its topics that exist.
    #[must_use]
    pub fn resolve(&self, topics: &TopicView) -> BTreeSet<TopicId> {
        let named = self.names.iter().filter_map(|name| topics.0.get(name));
        let matching = self.pattern.iter().flat_map(|pattern| {
            let all = topics.0.iter();
            all.filter(|(name, _)| pattern.regex.is_match(name))
                .map(|(_, topic)| topic)
        });
        named.chain(matching).map(|topic| topic.id).collect()
    }
}
