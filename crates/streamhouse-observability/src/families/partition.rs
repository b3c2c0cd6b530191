//! What the writer counts for one partition. Writes and flushes are born together, so that their
//! difference is never a lie; this is also the metric that folds when there are too many partitions.

use crate::registry::{Counter, Family, Partition, Registry, Topic};

/// What the writer counts for one partition. Cloned into the partition's state, so that an append
/// costs one relaxed addition and no label lookup.
#[derive(Clone, Debug)]
pub struct PartitionWriteMetrics {
    /// Segments sealed, inline or not. A retried upload is no second write.
    pub segment_writes: Counter,
    /// Sealed segments whose fate is committed, duplicates included.
    pub segment_flushes: Counter,
}

pub(super) struct PartitionFamilies {
    writes: Family<(Topic, Partition), Counter>,
    flushes: Family<(Topic, Partition), Counter>,
}

impl PartitionFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            writes: registry.family(
                "streamhouse_segment_writes_total",
                "Segments sealed by the writer.",
                (),
            ),
            flushes: registry.family(
                "streamhouse_segment_flushes_total",
                "Sealed segments whose fate is committed, duplicates included.",
                (),
            ),
        }
    }

    pub(super) fn partition(&self, topic: &str, partition: i32) -> PartitionWriteMetrics {
        let key = (Topic::new(topic), Partition::Number(partition));
        PartitionWriteMetrics {
            segment_writes: self.writes.get(&key),
            segment_flushes: self.flushes.get(&key),
        }
    }
}
