//! Counting one attempt on an object store.
//!
//! Invariant: an attempt is counted when it begins and its duration when it ends, whichever way it
//! ends: answered, failed, or dropped by a caller whose patience was over.

use std::sync::Arc;

use streamhouse_observability::Metrics;
use streamhouse_observability::families::{Direction, Operation};
use tokio::time::Instant;

/// One attempt on its way; dropping it ends it.
pub(super) struct Attempt {
    metrics: Arc<Metrics>,
    operation: Operation,
    started: Instant,
}

impl Attempt {
    pub(super) fn begin(metrics: &Arc<Metrics>, operation: Operation) -> Self {
        metrics.object_store.requests(operation).inc();
        Self {
            metrics: Arc::clone(metrics),
            operation,
            started: Instant::now(),
        }
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.metrics.object_store.bytes(Direction::Out).add(bytes as u64);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.metrics.object_store.bytes(Direction::In).add(bytes as u64);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.metrics
            .object_store
            .observe(self.operation, self.started.elapsed());
    }
}
