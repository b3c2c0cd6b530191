//! The write path as a whole: what became of batches, where their time went, how full the agent is.
//!
//! `flush_oldest_seconds` and `inflight_bytes` are computed at the scrape: see
//! [`super::Metrics::register_flush_oldest`] and [`super::Metrics::register_inflight`].

use super::buckets;
use crate::registry::{Counter, Family, Gauge, Histogram, Registry, SecondsCounter, closed_label};

closed_label! {
    /// What became of a produced batch: under which outcome it is counted.
    BatchCount, "outcome" {
        Ok = "ok",
        /// Acknowledged with the offset it had got before.
        Duplicate = "duplicate",
        ClientError = "client_error",
        ServerError = "server_error",
    }
}

closed_label! {
    /// Where a batch spends its time, in this order.
    Stage, "stage" {
        /// Waiting for room in the in-flight budget.
        Queue = "queue",
        /// In the buffer, until its object is sealed.
        Buffer = "buffer",
        Upload = "upload",
        /// Durable, behind earlier objects.
        CommitWait = "commit_wait",
        Commit = "commit",
        /// From the commit's answer to the response written.
        Ack = "ack",
    }
}

closed_label! {
    /// Why an object was sealed.
    SealReason, "reason" {
        Bytes = "bytes",
        Interval = "interval",
        Slot = "slot",
        Inline = "inline",
        Shutdown = "shutdown",
    }
}

/// The write path's handles.
pub struct ProduceMetrics {
    batches: Vec<Counter>,
    stages: Vec<Histogram>,
    flush_object_bytes: Vec<Histogram>,
    pub inflight_limit_bytes: Gauge,
    /// Time that requests spent waiting for room in the in-flight budget.
    pub backpressure_seconds_total: SecondsCounter,
}

impl ProduceMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let batches: Family<(BatchCount,), Counter> = registry.family(
            "streamhouse_produce_batches_total",
            "Batches answered, by outcome: the promise is ok + duplicate against server_error.",
            (),
        );
        let stages: Family<(Stage,), Histogram> = registry.family(
            "streamhouse_produce_stage_seconds",
            "Time in each stage of the write path.",
            &buckets::FINE,
        );
        let objects: Family<(SealReason,), Histogram> = registry.family(
            "streamhouse_flush_object_bytes",
            "Size of sealed objects, by why they were sealed.",
            &buckets::OBJECT_BYTES,
        );
        let gauge = |name, help| registry.family::<(), Gauge>(name, help, ()).get(&());
        Self {
            batches: BatchCount::ALL
                .iter()
                .map(|outcome| batches.get(&(*outcome,)))
                .collect(),
            stages: Stage::ALL.iter().map(|stage| stages.get(&(*stage,))).collect(),
            flush_object_bytes: SealReason::ALL
                .iter()
                .map(|reason| objects.get(&(*reason,)))
                .collect(),
            inflight_limit_bytes: gauge("streamhouse_inflight_limit_bytes", "Bytes that may be in flight."),
            backpressure_seconds_total: registry
                .family::<(), SecondsCounter>(
                    "streamhouse_backpressure_seconds_total",
                    "Time requests waited for room in the in-flight budget.",
                    (),
                )
                .get(&()),
        }
    }

    #[must_use]
    pub fn batches(&self, outcome: BatchCount) -> &Counter {
        &self.batches[outcome as usize]
    }

    #[must_use]
    pub fn stage(&self, stage: Stage) -> &Histogram {
        &self.stages[stage as usize]
    }

    /// Observe with `observe_value(bytes)`.
    #[must_use]
    pub fn flush_object_bytes(&self, reason: SealReason) -> &Histogram {
        &self.flush_object_bytes[reason as usize]
    }
}
