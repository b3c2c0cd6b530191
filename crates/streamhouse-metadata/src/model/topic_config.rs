//! What is configured for a topic: which entries there are, what values they take, and how they change.
//!
//! One table holds every entry that is understood, under Kafka's names and with Kafka's defaults. An entry
//! outside of it, or a value that is not kept, is refused by name and changes nothing. Some entries tune
//! files that do not exist here: they are checked, kept and reported, and nothing reads them; the table
//! says which. Not here: who may change them, and what the wire calls errors.

mod change;
mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use change::{ConfigChange, ConfigOp};
pub use table::{ENTRIES, Entry, Kind, Use, entry};

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
    #[error("nothing can be appended to or subtracted from {0}: it is no list")]
    NoList(String),
}

/// How much of a log is kept (`retention.ms`, `retention.bytes`); `None` is without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub age_ms_max: Option<i64>,
    pub bytes_max: Option<u64>,
}

impl TopicConfig {
    /// Sets one entry, as CreateTopics names it.
    ///
    /// # Errors
    /// An unknown name, a value that cannot be read, or one that is not supported; nothing is changed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), TopicConfigError> {
        let entry = entry(name).ok_or_else(|| TopicConfigError::Unknown(name.to_owned()))?;
        let value = value.trim();
        entry.check(value)?;
        self.entries.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// The value of an entry of the table: as set, or its default.
    #[must_use]
    pub fn value<'a>(&'a self, entry: &'a Entry) -> &'a str {
        self.entries.get(entry.name).map_or(entry.default, String::as_str)
    }

    /// A number from the table; a stored value was checked when it was set.
    fn number(&self, name: &str) -> i64 {
        let known = entry(name);
        let own = known.and_then(|entry| self.value(entry).parse().ok());
        own.or_else(|| known?.default.parse().ok()).unwrap_or(-1)
    }

    /// The largest record batch that the topic takes, bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> u32 {
        u32::try_from(self.number("max.message.bytes")).unwrap_or(0)
    }

    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        match self.entries.get("message.timestamp.type").map(String::as_str) {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        }
    }

    /// How far a record's timestamp may lie behind and ahead of the clock, milliseconds (KIP-937).
    #[must_use]
    pub fn timestamp_before_after_max_ms(&self) -> (i64, i64) {
        (
            self.number("message.timestamp.before.max.ms"),
            self.number("message.timestamp.after.max.ms"),
        )
    }

    #[must_use]
    pub fn retention(&self) -> Retention {
        let limit = |name| Some(self.number(name)).filter(|limit| *limit >= 0);
        Retention {
            age_ms_max: limit("retention.ms"),
            bytes_max: limit("retention.bytes").and_then(|bytes| u64::try_from(bytes).ok()),
        }
    }
}

#[cfg(test)]
mod tests;
