//! Requests to the object store, one count per attempt on the wire (the local directory counts the
//! same way; credential traffic and inline objects count nowhere). All series exist from the start.

use super::buckets;
use super::cost::{self, RequestPrices};
use crate::registry::{Counter, Family, Histogram, Registry, closed_label};

closed_label! {
    /// One kind of request, as the store bills it.
    Operation, "operation" {
        Put = "PUT",
        Get = "GET",
        Head = "HEAD",
        List = "LIST",
        Delete = "DELETE",
        DeleteBatch = "DELETE_BATCH",
        CreateMultipart = "CREATE_MULTIPART",
        PutMultipart = "PUT_MULTIPART",
        CompleteMultipart = "COMPLETE_MULTIPART",
        AbortMultipart = "ABORT_MULTIPART",
    }
}

closed_label! {
    /// What became of a failed attempt. Expected 404, 409 and 412 are no errors.
    StoreErrorType, "error_type" {
        /// It will be tried again.
        Retry = "retry",
        /// It was given up.
        Failed = "failed",
    }
}

closed_label! {
    /// Which way payload bytes went, seen from the agent.
    Direction, "direction" {
        In = "in",
        Out = "out",
    }
}

/// The object store's handles.
pub struct ObjectStoreMetrics {
    requests: Vec<Counter>,
    errors: Vec<[Counter; 2]>,
    latency: Vec<Histogram>,
    attempt_seconds: Vec<Histogram>,
    bytes: [Counter; 2],
}

impl ObjectStoreMetrics {
    pub(super) fn new(registry: &Registry, prices: RequestPrices) -> Self {
        let requests: Family<(Operation,), Counter> = registry.family(
            "streamhouse_s3_requests_total",
            "Object store requests, counted per attempt on the wire.",
            (),
        );
        let errors: Family<(Operation, StoreErrorType), Counter> = registry.family(
            "streamhouse_s3_errors_total",
            "Failed object store attempts: retry will be tried again, failed was given up.",
            (),
        );
        let latency: Family<(Operation,), Histogram> = registry.family(
            "streamhouse_s3_latency_seconds",
            "Object store attempts, to the last byte.",
            &buckets::S3_LATENCY,
        );
        let attempt_seconds: Family<(Operation,), Histogram> = registry.family(
            "streamhouse_object_store_attempt_seconds",
            "Object store attempts, to the last byte, in finer buckets.",
            &buckets::FINE,
        );
        let bytes: Family<(Direction,), Counter> = registry.family(
            "streamhouse_object_store_bytes_total",
            "Object bytes received (in) and sent (out), repeated attempts included.",
            (),
        );
        let all = Operation::ALL;
        let requests: Vec<Counter> = all.iter().map(|op| requests.get(&(*op,))).collect();
        cost::register(registry, prices, requests.clone());
        Self {
            requests,
            errors: all
                .iter()
                .map(|op| {
                    [StoreErrorType::Retry, StoreErrorType::Failed].map(|what| errors.get(&(*op, what)))
                })
                .collect(),
            latency: all.iter().map(|op| latency.get(&(*op,))).collect(),
            attempt_seconds: all.iter().map(|op| attempt_seconds.get(&(*op,))).collect(),
            bytes: [Direction::In, Direction::Out].map(|direction| bytes.get(&(direction,))),
        }
    }

    #[must_use]
    pub fn requests(&self, operation: Operation) -> &Counter {
        &self.requests[operation as usize]
    }

    #[must_use]
    pub fn errors(&self, operation: Operation, error_type: StoreErrorType) -> &Counter {
        &self.errors[operation as usize][error_type as usize]
    }

    /// In the user's buckets, from 10 ms. Observe the same duration in [`Self::attempt_seconds`], or
    /// both at once with [`Self::observe`].
    #[must_use]
    pub fn latency(&self, operation: Operation) -> &Histogram {
        &self.latency[operation as usize]
    }

    /// In buckets from 50 µs.
    #[must_use]
    pub fn attempt_seconds(&self, operation: Operation) -> &Histogram {
        &self.attempt_seconds[operation as usize]
    }

    /// One attempt's duration, to the last byte, in both histograms.
    pub fn observe(&self, operation: Operation, elapsed: std::time::Duration) {
        self.latency(operation).observe(elapsed);
        self.attempt_seconds(operation).observe(elapsed);
    }

    #[must_use]
    pub fn bytes(&self, direction: Direction) -> &Counter {
        &self.bytes[direction as usize]
    }
}
