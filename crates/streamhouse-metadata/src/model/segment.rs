//! Segments: one partition's contiguous run of batches inside one object. Together they tile
//! [log start offset, high watermark) without gaps (TRACES 1).

use crate::ids::{ObjectId, StoreTime, TopicPartition};
use crate::model::object::ObjectLocation;
use crate::model::partition::PartitionSnapshot;
use crate::model::transaction::AbortedRange;

/// A segment row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub partition: TopicPartition,
    pub base_offset: i64,
    /// Inclusive.
    pub last_offset: i64,
    pub object: ObjectId,
    /// Where the segment begins in its object.
    pub position: u64,
    pub length_bytes: u32,
    pub record_count: u32,
    /// Largest record timestamp of the segment, milliseconds.
    pub max_timestamp: i64,
    /// Largest record timestamp of the partition up to and including this segment (TRACES 14).
    pub running_max_timestamp: i64,
    pub committed_at: StoreTime,
}

/// A segment row before the store has given its object a row number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSegment {
    pub partition: TopicPartition,
    pub base_offset: i64,
    pub last_offset: i64,
    pub position: u64,
    pub length_bytes: u32,
    pub record_count: u32,
    pub max_timestamp: i64,
    pub running_max_timestamp: i64,
    pub committed_at: StoreTime,
}

/// Asks for the segments from `offset` on.
#[derive(Clone, Copy, Debug)]
pub struct Lookup {
    pub partition: TopicPartition,
    pub offset: i64,
    /// Stop after the segment that reaches this many bytes; at least one segment is returned.
    pub max_bytes: u64,
    /// As a consumer with `isolation.level=read_committed` asks: no segment that begins at or beyond the
    /// last stable offset, and the aborted ranges that touch what is returned.
    pub read_committed: bool,
}

/// A segment and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct LocatedSegment {
    pub segment: Segment,
    pub object: ObjectLocation,
}

/// The snapshot and the segments belong to one moment. `segments` is empty when `offset` is outside
/// [log start offset, high watermark), or at or beyond the last stable offset of a look-up that reads
/// committed records only; else the first one contains `offset` and each next begins at
/// its predecessor's last offset + 1.
#[derive(Clone, Debug)]
pub struct Located {
    pub snapshot: PartitionSnapshot,
    pub segments: Vec<LocatedSegment>,
    /// Where asked for: the aborted ranges that overlap [offset, end of the segments or last stable offset,
    /// whichever is less), ascending by their last offset.
    pub aborted: Vec<AbortedRange>,
}

/// What a search by timestamp looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampQuery {
    /// The first segment whose own maximum timestamp reaches this.
    AtLeast(i64),
    /// The same among the segments from the one on that holds this offset.
    AtLeastFrom { timestamp: i64, offset: i64 },
    /// The first segment that holds the partition's largest timestamp.
    Max,
}
