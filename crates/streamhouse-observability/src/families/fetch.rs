//! The read path: what a read costs by where it came from, and how fresh a waiting consumer is.

use super::buckets;
use super::topic::FetchSource;
use crate::registry::{Family, Histogram, Registry};

/// The read path's handles.
pub struct FetchMetrics {
    seconds: Vec<Histogram>,
    /// From a commit to the response written to a fetch that waited for it.
    pub wakeup_seconds: Histogram,
}

impl FetchMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let seconds: Family<(FetchSource,), Histogram> = registry.family(
            "streamhouse_fetch_seconds",
            "Reads of one partition's records for a fetch, look-up included, long-poll wait not.",
            &buckets::FINE,
        );
        Self {
            seconds: FetchSource::ALL
                .iter()
                .map(|source| seconds.get(&(*source,)))
                .collect(),
            wakeup_seconds: registry
                .family::<(), Histogram>(
                    "streamhouse_fetch_wakeup_seconds",
                    "From a commit to the response written to a fetch that waited for it.",
                    &buckets::FINE,
                )
                .get(&()),
        }
    }

    #[must_use]
    pub fn seconds(&self, source: FetchSource) -> &Histogram {
        &self.seconds[source as usize]
    }
}
