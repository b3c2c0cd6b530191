//! The read cache: look-ups of reads that need stored bytes. Tail reads are no look-ups, and a
//! look-up that joins another's read in flight is a miss.

use crate::registry::{Counter, Family, Gauge, Kind, Registry, Sample, closed_label};

closed_label! {
    /// Whether the cache had the bytes.
    CacheResult, "result" {
        Hit = "hit",
        Miss = "miss",
    }
}

/// Bytes held, asked of the cache itself at each scrape; a second call takes the first one's place.
pub(super) fn register_size(registry: &Registry, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
    registry.computed(
        "streamhouse_cache_size_bytes",
        "Bytes the read cache holds.",
        Kind::Gauge,
        &[],
        move || {
            vec![Sample {
                values: Vec::new(),
                value: bytes() as f64,
            }]
        },
    );
}

/// The cache's handles. Its size is computed: see [`super::Metrics::register_cache_size`].
pub struct CacheMetrics {
    pub hits: Counter,
    pub misses: Counter,
    /// Bytes the cache may hold.
    pub limit_bytes: Gauge,
    /// Entries that made room for others; replaced and removed ones do not count.
    pub evictions: Counter,
    bytes: [Counter; 2],
}

impl CacheMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.family::<(), Counter>(name, help, ()).get(&());
        let gauge = |name, help| registry.family::<(), Gauge>(name, help, ()).get(&());
        register_size(registry, || 0);
        let bytes: Family<(CacheResult,), Counter> = registry.family(
            "streamhouse_cache_bytes_total",
            "Bytes asked of the cache: served from it (hit) or loaded (miss).",
            (),
        );
        Self {
            hits: counter(
                "streamhouse_cache_hits_total",
                "Look-ups that the read cache answered.",
            ),
            misses: counter(
                "streamhouse_cache_misses_total",
                "Look-ups that had to load what they asked for, or joined such a load.",
            ),
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
