//! Objects: keys in the object store, or inline payloads in the metadata.

use crate::ids::{ObjectId, ObjectName, StoreTime};
use crate::model::segment::Segment;

/// Where the bytes of an object lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLocation {
    pub id: ObjectId,
    pub name: ObjectName,
    /// True when the bytes lie in the object's own metadata row.
    pub inline: bool,
    pub length_bytes: u64,
}

/// An object that no segment names any more; its key may be deleted once the grace period is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletingObject {
    pub location: ObjectLocation,
    pub since: StoreTime,
}

/// A stored object that segments name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredObject {
    pub location: ObjectLocation,
    /// How many segments name it.
    pub segments: u64,
}

/// Some objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub objects: u64,
    pub bytes: u64,
}

impl Amount {
    pub fn add(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }

    /// Takes off what was added before.
    pub fn sub(&mut self, other: Self) {
        self.objects = self.objects.saturating_sub(other.objects);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// What is kept, and what waits for upkeep, at one moment. A store answers it without counting rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageUsage {
    /// In the object store, named by segments.
    pub live: Amount,
    /// In the metadata.
    pub inline: Amount,
    /// In the object store, named by nothing; its key may still be there.
    pub deleting: Amount,
    /// Segments not yet in the ordered tables.
    pub unsettled_segments: u64,
    /// Deleted topics that have rows left.
    pub deleted_topics: u64,
    /// Partitions that may have segments below their log's start.
    pub untrimmed_partitions: u64,
}

/// How much lies inline, and since when: what decides that compaction runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InlineBacklog {
    pub objects: u64,
    pub bytes: u64,
    /// Commit time of the oldest inline object, `None` when there is none.
    pub oldest: Option<StoreTime>,
}

/// Inline objects chosen for compaction, oldest first, with every segment row that names them.
#[derive(Clone, Debug, Default)]
pub struct InlineBatch {
    pub objects: Vec<ObjectLocation>,
    pub segments: Vec<Segment>,
}

/// A compaction's result: these rows become those rows (TRACES 17).
#[derive(Clone, Debug)]
pub struct Swap {
    /// The stored object that the new segments name. Its incarnation must be live.
    pub name: ObjectName,
    pub length_bytes: u64,
    /// One entry a partition. A partition of which any replaced row is missing, or stands
    /// differently, is skipped whole.
    pub partitions: Vec<SwapPartition>,
}

/// The rows of one partition in a swap. `replaced` and `added` cover the same offsets.
#[derive(Clone, Debug)]
pub struct SwapPartition {
    pub replaced: Vec<Segment>,
    pub added: Vec<crate::model::segment::NewSegment>,
}

/// How many partitions took the swap and how many had changed meanwhile. When none took it, the new
/// object is registered as deleting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwapResult {
    pub swapped: usize,
    pub skipped: usize,
}
