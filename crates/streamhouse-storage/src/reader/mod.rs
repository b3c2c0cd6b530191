//! The read path: the tail from memory, older segments through a bounded cache, all as slices of the
//! stored bytes. `tail` holds what was committed last and wakes the fetches that wait, `segments` loads
//! and caches older ones, `records` frames batches for the wire, `fetch` and `offsets` are the two
//! questions that can be asked.
//!
//! Caches may only say yes (TRACES 2): out of range, unknown partition and every offset query are
//! answered by a metadata read that began after the question came.

mod fetch;
mod offsets;
mod records;
mod segments;
mod tail;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod transaction_tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use object_store::ObjectStore;
use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::partition::PartitionSnapshot;
use streamhouse_metadata::store::{LookupError, MetadataStore, StoreError};
use streamhouse_observability::Metrics;
use streamhouse_observability::families::VerifyResult;

pub use fetch::{FetchPartition, FetchRequest, Fetched};
pub use offsets::{FoundOffset, OffsetQuery};
pub use records::Records;
pub use tail::Tail;

use segments::Segments;

/// Bounds of the read path.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// Loaded segments kept in memory.
    pub cache_bytes: u64,
    /// Loaded bytes that responses under way may hold beyond the cache.
    pub fetch_bytes: u64,
    /// How far a sequential read is run ahead of; 0 = not at all.
    pub read_ahead_bytes: u64,
}

/// Why a partition cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("no such partition")]
    UnknownPartition,
    #[error("offset {offset} is outside {} .. {}", snapshot.log_start_offset, snapshot.high_watermark)]
    OutOfRange {
        offset: i64,
        snapshot: PartitionSnapshot,
    },
    #[error(transparent)]
    Metadata(#[from] StoreError),
    #[error("object {object}: {error}")]
    ObjectStore { object: String, error: String },
    /// The metadata named it before and after the object store had none: something acknowledged is lost.
    #[error("object {object} is gone, yet the metadata names it")]
    Missing { object: String },
    /// Not lost, as far as anybody knows: the next try may find them.
    #[error("the segments were moved or deleted each time they were read")]
    Moving,
    #[error("{partition}: the stored bytes at offset {offset} are damaged")]
    Damaged { partition: TopicPartition, offset: i64 },
    /// Too many loaded bytes are held by responses that their clients do not take.
    #[error("no memory for the read")]
    Busy,
}

impl ReadError {
    /// As the log calls it; empty for what is an answer and no failure.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::UnknownPartition | Self::OutOfRange { .. } => "",
            Self::Metadata(error) => error.error_type(),
            Self::ObjectStore { .. } | Self::Moving => "object_store",
            Self::Missing { .. } => "missing",
            Self::Damaged { .. } => "corrupt",
            Self::Busy => "busy",
        }
    }
}

impl From<LookupError> for ReadError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::UnknownPartition => Self::UnknownPartition,
        }
    }
}

/// Answers fetches and offset queries.
pub struct Reader {
    metadata: Arc<dyn MetadataStore>,
    tail: Arc<Tail>,
    segments: Arc<Segments>,
    metrics: Arc<Metrics>,
    options: ReaderOptions,
    /// Where the next fetch begins among its partitions, so that none starves behind another.
    rotation: AtomicUsize,
}

impl Reader {
    #[must_use]
    pub fn new(
        options: ReaderOptions,
        metadata: Arc<dyn MetadataStore>,
        objects: Arc<dyn ObjectStore>,
        tail: Arc<Tail>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let segments = Segments::new(&options, metadata.clone(), objects, metrics.clone());
        Self {
            metadata,
            tail,
            segments: Arc::new(segments),
            metrics,
            options,
            rotation: AtomicUsize::new(0),
        }
    }

    /// What verification would find of these bytes, whoever reads them has found.
    fn count_damage(&self, error: &ReadError) {
        let result = match error {
            ReadError::Missing { .. } => VerifyResult::Missing,
            ReadError::Damaged { .. } => VerifyResult::Corrupt,
            _ => return,
        };
        self.metrics.verify.segments(result).inc();
    }

    /// A partition's log begins at `offset` now, says the metadata store.
    pub fn raise_log_start(&self, partition: TopicPartition, offset: i64) {
        self.tail.raise_log_start(partition, offset);
    }

    /// Drops what is held of a deleted topic and wakes the fetches that wait for it.
    pub fn forget(&self, topic: TopicId) {
        self.tail.forget(topic);
    }
}
