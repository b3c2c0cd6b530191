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
