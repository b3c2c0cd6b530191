//! Topics and what is configured for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{StoreTime, TopicId};

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

/// Which clock a record's timestamp comes from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// What was set for a topic, under Kafka's names; what is not set has the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    pub entries: BTreeMap<String, String>,
}

/// Why a configuration entry is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicConfigError {
    #[error("unknown topic config {0}")]
    Unknown(String),
    #[error("{name}={value} is not supported: {why}")]
    Unsupported {
        name: String,
        value: String,
        why: &'static str,
    },
    #[error("{name}={value}: {expected} expected")]
    Invalid {
        name: String,
        value: String,
        expected: &'static str,
    },
}

/// How many topics and partitions a cluster may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    pub topics_max: u32,
    pub partitions_max: u32,
}

/// Kafka's default for `max.message.bytes`.
const MAX_MESSAGE_BYTES_DEFAULT: u32 = 1_048_588;
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

/// What values an entry may have.
enum Check {
    /// A whole number from here on; -1 too when the flag is set ("no limit").
    AtLeast(i64, bool),
    /// 0.0 ..= 1.0.
    Ratio,
    Boolean,
    /// Only these are supported; why others are not.
    OneOf(&'static [&'static str], &'static str),
}

/// Every entry that is understood. All but `max.message.bytes` and `message.timestamp.type` are only
/// kept, either because other code reads them or because they tune files which do not exist here.
fn check_of(name: &str) -> Option<Check> {
    Some(match name {
        "max.message.bytes" => Check::AtLeast(0, false),
        "message.timestamp.type" => Check::OneOf(
            &["CreateTime", "LogAppendTime"],
            "there are CreateTime and LogAppendTime",
        ),
        "compression.type" => Check::OneOf(
            &["producer"],
            "batches are stored as the producer compressed them",
        ),
        "cleanup.policy" => Check::OneOf(&["delete"], "topics are not compacted yet"),
        "retention.ms" | "retention.bytes" => Check::AtLeast(0, true),
        "segment.bytes" => Check::AtLeast(14, false),
        "segment.ms" | "max.compaction.lag.ms" | "min.insync.replicas" | "flush.messages" => {
            Check::AtLeast(1, false)
        }
        "delete.retention.ms"
        | "file.delete.delay.ms"
        | "flush.ms"
        | "index.interval.bytes"
        | "message.timestamp.difference.max.ms"
        | "message.timestamp.after.max.ms"
        | "message.timestamp.before.max.ms"
        | "min.compaction.lag.ms"
        | "segment.jitter.ms" => Check::AtLeast(0, false),
        "segment.index.bytes" => Check::AtLeast(4, false),
        "min.cleanable.dirty.ratio" => Check::Ratio,
        "preallocate" => Check::Boolean,
        "unclean.leader.election.enable" => Check::Boolean,
        _ => return None,
    })
}

/// Kafka keeps these in 32 bits.
fn is_int(name: &str) -> bool {
    matches!(
        name,
        "max.message.bytes"
            | "segment.bytes"
            | "min.insync.replicas"
            | "index.interval.bytes"
            | "segment.index.bytes"
    )
}

impl TopicConfig {
    /// Sets one entry, as CreateTopics names it.
    ///
    /// # Errors
    /// An unknown name, a value that cannot be read, or one that is not supported; nothing is changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), TopicConfigError> {
        let check = check_of(name).ok_or_else(|| TopicConfigError::Unknown(name.to_owned()))?;
        let value = value.trim();
        let invalid = |expected| {
            Err(TopicConfigError::Invalid {
                name: name.to_owned(),
                value: value.to_owned(),
                expected,
            })
        };
        match check {
            Check::AtLeast(least, unlimited) => {
                let most = if is_int(name) {
                    i64::from(i32::MAX)
                } else {
                    i64::MAX
                };
                let fits = |n: i64| (least..=most).contains(&n) || (unlimited && n == -1);
                if !value.parse().is_ok_and(fits) {
                    return invalid(match (least, unlimited) {
                        (_, true) => "a whole number from -1 on",
                        (0, _) => "a whole number from 0 on, within range,",
                        (1, _) => "a whole number from 1 on, within range,",
                        (4, _) => "a whole number from 4 on, within range,",
                        _ => "a whole number from 14 on, within range,",
                    });
                }
            }
            Check::Ratio => {
                if !value.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio)) {
                    return invalid("a number from 0 to 1");
                }
            }
            Check::Boolean => {
                if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") {
                    return invalid("true or false");
                }
            }
            Check::OneOf(values, why) => {
                if !values.contains(&value) {
                    let (name, value) = (name.to_owned(), value.to_owned());
                    return Err(TopicConfigError::Unsupported { name, value, why });
                }
            }
        }
        self.entries.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// The largest record batch that the topic takes, bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> u32 {
        let set = self
            .entries
            .get("max.message.bytes")
            .and_then(|value| value.parse().ok());
        set.unwrap_or(MAX_MESSAGE_BYTES_DEFAULT)
    }

    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        match self.entries.get("message.timestamp.type").map(String::as_str) {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        TimestampType, TopicConfig, TopicConfigError, TopicNameError, check_topic_name, topic_names_collide,
    };

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

    #[test]
    fn configs_are_checked_by_name_and_value() {
        let mut config = TopicConfig::default();
        assert_eq!(
            (config.max_message_bytes(), config.timestamp_type()),
            (1_048_588, TimestampType::CreateTime)
        );
        for (name, value) in [
            ("max.message.bytes", "2000"),
            ("message.timestamp.type", "LogAppendTime"),
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("retention.ms", "-1"),
            ("min.cleanable.dirty.ratio", "0.5"),
            ("preallocate", "True"),
        ] {
            assert_eq!(config.set(name, value), Ok(()), "{name}={value}");
        }
        assert_eq!(
            (config.max_message_bytes(), config.timestamp_type()),
            (2_000, TimestampType::LogAppendTime)
        );
        let before = config.clone();
        for (name, value) in [
            ("max.message.bytes", "-1"),
            ("max.message.bytes", "2147483648"),
            ("retention.ms", "-2"),
            ("segment.ms", "0"),
            ("min.cleanable.dirty.ratio", "1.1"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("preallocate", "yes"),
            ("retention.bytes", "many"),
        ] {
            let refused = config.set(name, value);
            assert!(
                matches!(refused, Err(TopicConfigError::Invalid { .. })),
                "{name}={value}: {refused:?}"
            );
        }
        for (name, value) in [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "compact,delete"),
            ("compression.type", "gzip"),
        ] {
            let refused = config.set(name, value);
            assert!(
                matches!(refused, Err(TopicConfigError::Unsupported { .. })),
                "{name}={value}: {refused:?}"
            );
        }
        assert_eq!(
            config.set("no.such", "1"),
            Err(TopicConfigError::Unknown("no.such".to_owned()))
        );
        assert_eq!(config, before, "what is refused changes nothing");
    }
}
