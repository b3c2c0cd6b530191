//! Sending records: what a program calls.
//!
//! A send waits for room in the queue, which is bounded in bytes, and is then in librdkafka's hands; its report
//! answers the [`Delivery`]. Nothing here blocks a thread of the runtime, and nothing spins.

mod builder;
mod core;
mod delivery;
mod reports;

use std::sync::Arc;
use std::time::Duration;

pub use builder::{ProducerBuilder, TraceHook};
pub(crate) use core::Core;
pub(crate) use delivery::Pending;
pub use delivery::{Delivered, Delivery, SendError};

use crate::metrics::ClientMetrics;
use crate::record::Record;

/// Sends records. Cloning shares it; the last clone that is dropped without [`close`](Self::close) gives up
/// what is not sent yet, and says so in the log.
#[derive(Clone)]
pub struct Producer {
    core: Arc<Core>,
}

/// Records that were not delivered when the time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} records were not delivered within the limit")]
pub struct FlushError {
    pub left: usize,
}

impl Producer {
    /// Idempotent, acknowledged by all: the settings that lose nothing are the ones that are not asked for.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder::default()
    }

    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Sends a record and waits for its fate. For many in flight: [`enqueue`](Self::enqueue), or several of
    /// these futures at once.
    ///
    /// # Errors
    /// Whether the record is certainly not stored, or may be, is what tells the variants of [`SendError`] apart.
    pub async fn send(&self, record: Record) -> Result<Delivered, SendError> {
        self.enqueue(record).await?.await
    }

    /// Waits for room in the queue and puts the record into it; the [`Delivery`] is its fate, and need not be
    /// awaited. Records that one task enqueues keep their order within a partition. Dropped before it is
    /// ready, this future has sent nothing.
    ///
    /// # Errors
    /// Only what is known before the record leaves: it is too large, the producer is closed.
    pub async fn enqueue(&self, record: Record) -> Result<Delivery, SendError> {
        self.core.enqueue(record).await
    }

    /// Sends what is queued at once, without lingering, and waits until everything has its answer.
    ///
    /// # Errors
    /// The time is over; what is left is still being sent.
    pub async fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        self.core.flush(limit).await
    }

    /// Takes nothing more, flushes, and stops. Every clone is closed with it.
    ///
    /// # Errors
    /// The time was over. What was left is given up: its senders are told whether it may be stored.
    pub async fn close(&self, limit: Duration) -> Result<(), FlushError> {
        self.core.close(limit).await
    }

    /// Bytes that wait in the queue, and what it may hold.
    #[must_use]
    pub fn queued_bytes(&self) -> (usize, usize) {
        self.core.queued_bytes()
    }

    #[must_use]
    pub fn metrics(&self) -> &ClientMetrics {
        self.core.metrics()
    }
}
