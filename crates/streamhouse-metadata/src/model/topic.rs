//! Topics and their names. What is configured for them stands in [`super::topic_config`].

use serde::{Deserialize, Serialize};

use crate::ids::{StoreTime, TopicId};
pub use crate::model::topic_config::{TimestampType, TopicConfig, TopicConfigError};

/// A topic as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub id: TopicId,
    pub name: String,
    /// Partitions are numbered 0 .. `partitions`.
    pub partitions: i32,
    pub config: TopicConfig,
    pub created_at: StoreTime,
}

/// A topic to be created; its name and configuration have been checked.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub config: TopicConfig,
}

/// How many topics and partitions a cluster may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    pub topics_max: u32,
    pub partitions_max: u32,
}

/// As long as Kafka allows a name to be.
const TOPIC_NAME_CHARS_MAX: usize = 249;
/// Names that Kafka keeps for itself.
const RESERVED_NAMES: [&str; 5] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
    "__cluster_metadata",
    "@metadata",
];

/// Why a name cannot be a topic's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    #[error("a topic name has 1 to {TOPIC_NAME_CHARS_MAX} characters, this one has {0}")]
    Length(usize),
    #[error("a topic cannot be named {0}")]
    Dots(String),
    #[error("topic name {0:?} holds other characters than letters, digits, '.', '_' and '-'")]
    Characters(String),
    #[error("topic name {0} is reserved")]
    Reserved(String),
}

/// Kafka's rules for topic names, and the names it reserves.
///
/// # Errors
/// The first rule that `name` breaks. That it collides with another topic's name only the store can tell.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    if RESERVED_NAMES.contains(&name) {
        return Err(TopicNameError::Reserved(name.to_owned()));
    }
    let length = name.chars().count();
    if length == 0 || length > TOPIC_NAME_CHARS_MAX {
        return Err(TopicNameError::Length(length));
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots(name.to_owned()));
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return Err(TopicNameError::Characters(name.to_owned()));
    }
    Ok(())
}

/// Whether two names collide: Kafka's metric names cannot tell '.' from '_'.
#[must_use]
pub fn topic_names_collide(one: &str, other: &str) -> bool {
    topic_name_key(one) == topic_name_key(other)
}

/// The same for names that collide.
#[must_use]
pub fn topic_name_key(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::{TopicNameError, check_topic_name, topic_names_collide};

    #[test]
    fn names_follow_kafkas_rules_and_reserved_ones_are_refused() {
        for name in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_topic_name(""), Err(TopicNameError::Length(0)));
        assert_eq!(
            check_topic_name(&"x".repeat(250)),
            Err(TopicNameError::Length(250))
        );
        for name in [".", ".."] {
            assert_eq!(check_topic_name(name), Err(TopicNameError::Dots(name.to_owned())));
        }
        for name in ["a b", "ä", "a/b", "a\0"] {
            assert_eq!(
                check_topic_name(name),
                Err(TopicNameError::Characters(name.to_owned()))
            );
        }
        for name in [
            "__consumer_offsets",
            "__transaction_state",
            "__share_group_state",
            "__cluster_metadata",
        ] {
            assert_eq!(
                check_topic_name(name),
                Err(TopicNameError::Reserved(name.to_owned()))
            );
        }
        assert!(topic_names_collide("a.b", "a_b") && !topic_names_collide("a.b", "a-b"));
    }
}
