//! The read cache: look-ups of reads that need stored bytes. Tail reads are no look-ups, and a
//! look-up that joins another's read in flight is a miss.

use crate::registry::{Counter, Family, Gauge, Registry, closed_label};

closed_label! {
    /// Whether the cache had the bytes.
    CacheResult, "result" {
        Hit = "hit",
        Miss = "miss",
    }
}

/// The cache's handles.
pub struct CacheMetrics {
    pub hits: Counter,
    pub misses: Counter,
    /// Bytes held, in memory and on disk.
    pub size_bytes: Gauge,
    /// Bytes the cache may hold.
    pub limit_bytes: Gauge,
    pub evictions: Counter,
    bytes: [Counter; 2],
}

impl CacheMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.family::<(), Counter>(name, help, ()).get(&());
        let gauge = |name, help| registry.family::<(), Gauge>(name, help, ()).get(&());
        let bytes: Family<(CacheResult,), Counter> = registry.family(
            "streamhouse_cache_bytes_total",
            "Bytes asked of the cache: served from it (hit) or read from the object store (miss).",
            (),
        );
        Self {
            hits: counter(
                "streamhouse_cache_hits_total",
                "Look-ups that the read cache answered.",
            ),
            misses: counter(
                "streamhouse_cache_misses_total",
                "Look-ups that went to the object store.",
            ),
            size_bytes: gauge("streamhouse_cache_size_bytes", "Bytes the read cache holds."),
            limit_bytes: gauge("streamhouse_cache_limit_bytes", "Bytes the read cache may hold."),
            evictions: counter(
                "streamhouse_cache_evictions_total",
                "Entries that made room for others.",
            ),
            bytes: [CacheResult::Hit, CacheResult::Miss].map(|result| bytes.get(&(result,))),
        }
    }

    #[must_use]
    pub fn bytes_total(&self, result: CacheResult) -> &Counter {
        &self.bytes[result as usize]
    }
}
