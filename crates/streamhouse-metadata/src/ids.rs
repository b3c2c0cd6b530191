//! The identifiers of the system, each a type of its own so that none can stand in for another.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A map keyed by identifiers. A commit asks maps some ten times a batch, and the hasher of the standard
/// library was the largest part of that; this one is seeded per process, too.
pub type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// See [`IdMap`].
pub type IdSet<K> = HashSet<K, foldhash::fast::RandomState>;

/// Identifies a topic for its whole life; a recreated name gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub Uuid);

/// One partition of one topic. Ordered by topic id, then partition: the lock order of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: i32,
}

/// One start of an agent. A tombstoned incarnation can commit nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IncarnationId(pub Uuid);

/// The row number of an object in the metadata store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(pub i64);

/// What makes an object's key: `objects/<incarnation>/<zero-padded counter>`. Unique, not ordered
/// between incarnations; the counter is given by the incarnation itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    pub incarnation: IncarnationId,
    pub counter: u64,
}

/// Milliseconds since the Unix epoch as the metadata store tells them. All deadlines that a store
/// judges are in its time, never in an agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreTime(pub i64);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Display for IncarnationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The object's key below the store's prefix.
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "objects/{}/{:020}", self.incarnation, self.counter)
    }
}
