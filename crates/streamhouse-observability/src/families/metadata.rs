//! The metadata store, seen from its callers: how long each operation takes and how it fails.

use super::buckets;
use crate::registry::{Counter, Family, Histogram, Registry, closed_label, static_label};

static_label! {
    /// A method of the metadata store, by its name.
    MetadataOperation, "operation"
}

closed_label! {
    /// How a metadata operation failed. A refusal by the rules (fenced, unknown topic) is an answer,
    /// not a failure.
    MetadataErrorType, "error_type" {
        /// Nothing was changed.
        Unavailable = "unavailable",
        /// Nothing was changed: the disk is full.
        Full = "full",
        /// Sent, and the fate is not known.
        Unknown = "unknown",
        /// What is stored cannot be trusted.
        Damaged = "damaged",
    }
}

/// One operation's handles: resolve once, all of them are born at zero.
#[derive(Clone)]
pub struct MetadataOperationMetrics {
    pub seconds: Histogram,
    errors: [Counter; 4],
}

impl MetadataOperationMetrics {
    #[must_use]
    pub fn errors(&self, error_type: MetadataErrorType) -> &Counter {
        &self.errors[error_type as usize]
    }
}

/// The metadata store's families.
pub struct MetadataMetrics {
    seconds: Family<(MetadataOperation,), Histogram>,
    errors: Family<(MetadataOperation, MetadataErrorType), Counter>,
}

impl MetadataMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            seconds: registry.family(
                "streamhouse_metadata_operation_seconds",
                "Metadata store operations, as their callers see them; pool_wait is their wait for a connection alone.",
                &buckets::FINE,
            ),
            errors: registry.family(
                "streamhouse_metadata_errors_total",
                "Metadata store operations that failed, by how.",
                (),
            ),
        }
    }

    /// How long operations wait for a connection before they begin; part of what each of them takes.
    #[must_use]
    pub fn pool_wait(&self) -> Histogram {
        self.seconds.get(&(MetadataOperation("pool_wait"),))
    }

    /// Everything about one operation, resolved at once.
    #[must_use]
    pub fn operation(&self, name: &'static str) -> MetadataOperationMetrics {
        let types = [
            MetadataErrorType::Unavailable,
            MetadataErrorType::Full,
            MetadataErrorType::Unknown,
            MetadataErrorType::Damaged,
        ];
        MetadataOperationMetrics {
            seconds: self.seconds.get(&(MetadataOperation(name),)),
            errors: types.map(|error_type| self.errors.get(&(MetadataOperation(name), error_type))),
        }
    }
}
