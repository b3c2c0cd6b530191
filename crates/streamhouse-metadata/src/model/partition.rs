//! What one fetch reports of a partition, always read in one piece (TRACES 3).

/// One consistent view of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSnapshot {
    pub log_start_offset: i64,
    /// One past the last readable offset.
    pub high_watermark: i64,
    /// Smallest first offset of an open transaction; the high watermark while there is none.
    pub last_stable_offset: i64,
    /// The cluster epoch: constant while the metadata is not restored from a backup.
    pub leader_epoch: i32,
}
