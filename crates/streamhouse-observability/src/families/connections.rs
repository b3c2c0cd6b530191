//! Connections of the Kafka listener.

use crate::registry::{Counter, Family, Gauge, Registry, closed_label};

closed_label! {
    /// Why a connection was refused or closed by us.
    RejectReason, "reason" {
        /// Too many connections.
        Limit = "limit",
        /// A frame announced more bytes than are allowed, or its answer would have more.
        FrameTooLarge = "frame_too_large",
        /// Bytes that are no request.
        Malformed = "malformed",
        /// Nothing was asked for too long.
        Idle = "idle",
        /// A frame was begun and did not go on, or a response was not read.
        Stalled = "stalled",
    }
}

/// The listener's handles.
pub struct ConnectionMetrics {
    pub active: Gauge,
    rejected: Vec<Counter>,
}

impl ConnectionMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let rejected: Family<(RejectReason,), Counter> = registry.family(
            "streamhouse_connections_rejected_total",
            "Kafka connections refused or closed by the server, by reason.",
            (),
        );
        Self {
            active: registry
                .family::<(), Gauge>("streamhouse_connections_active", "Open Kafka connections.", ())
                .get(&()),
            rejected: RejectReason::ALL
                .iter()
                .map(|reason| rejected.get(&(*reason,)))
                .collect(),
        }
    }

    #[must_use]
    pub fn rejected(&self, reason: RejectReason) -> &Counter {
        &self.rejected[reason as usize]
    }
}
