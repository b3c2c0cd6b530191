//! Transactions: records and a consumer's offsets that become visible together, or not at all.
//!
//! [`TransactionalProducer::begin`] borrows the producer, so that one transaction is open at a time and nothing
//! is sent outside of one: what Kafka forbids does not compile. A [`Transaction`] that is dropped is aborted.
//! The blocking calls are made by one thread (`worker`), in order; so a future that is dropped midway leaves
//! nothing undecided, it only does not hear the outcome.

mod error;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::consumer::{Consumer, Position};
use crate::metrics::ClientMetrics;
use crate::producer::{Core, Delivered, Delivery, SendError};
use crate::record::Record;

pub use error::{CommitError, TransactionError};
use worker::{Job, Worker};

/// A producer whose records all belong to transactions.
pub struct TransactionalProducer {
    core: Arc<Core>,
    worker: Worker,
    limit: Duration,
}

impl TransactionalProducer {
    pub(crate) async fn start(core: Arc<Core>, id: &str, limit: Duration) -> Result<Self, TransactionError> {
        let worker = Worker::spawn(core.clone(), id, limit)?;
        worker.ask(Job::Init).await?;
        Ok(Self { core, worker, limit })
    }

    /// How long the calls of a transaction may take before their outcome is called unknown; at first what
    /// `build_transactional` was given.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Opens a transaction. What an earlier one left undecided is decided first.
    ///
    /// # Errors
    /// A newer producer has taken over, or the broker does not answer.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, TransactionError> {
        let limit = self.limit;
        self.worker.ask(|reply| Job::Begin { limit, reply }).await?;
        Ok(Transaction {
            producer: self,
            moved: Mutex::default(),
            is_open: true,
        })
    }

    /// Ends what is left, and stops.
    ///
    /// # Errors
    /// What was left undecided could not be decided; the broker aborts it after its timeout.
    pub async fn close(self, limit: Duration) -> Result<(), TransactionError> {
        self.core.refuse();
        self.worker.ask(|reply| Job::Settle { limit, reply }).await
    }

    #[must_use]
    pub fn metrics(&self) -> &ClientMetrics {
        self.core.metrics()
    }
}

/// An open transaction. Dropped without [`commit`](Self::commit) it is aborted.
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'p> {
    producer: &'p mut TransactionalProducer,
    /// How far this transaction moves its consumers, once it is committed.
    moved: Mutex<Vec<Position>>,
    is_open: bool,
}

impl Transaction<'_> {
    /// As [`Producer::send`](crate::Producer::send): acknowledged, but visible only when committed.
    ///
    /// # Errors
    /// As there. A transaction with a record that failed cannot be committed any more.
    pub async fn send(&self, record: Record) -> Result<Delivered, SendError> {
        self.enqueue(record).await?.await
    }

    /// As [`Producer::enqueue`](crate::Producer::enqueue). Deliveries need not be awaited before the commit,
    /// which waits for all of them and fails if one failed.
    ///
    /// # Errors
    /// As there.
    pub async fn enqueue(&self, record: Record) -> Result<Delivery, SendError> {
        self.producer.core.enqueue(record).await
    }

    /// Makes what this consumer has marked as processed part of the transaction. The consumer must be built
    /// with [`Commits::InTransactions`](crate::Commits::InTransactions).
    ///
    /// # Errors
    /// The consumer is no longer the member it was: then the transaction must be aborted, which dropping it
    /// does.
    pub async fn send_offsets(&self, consumer: &Consumer) -> Result<(), TransactionError> {
        let Some((positions, offsets, member)) = consumer.offsets_for_transaction()? else {
            return Ok(());
        };
        let limit = self.producer.limit;
        let job = |reply| Job::Offsets {
            offsets,
            member,
            limit,
            reply,
        };
        self.producer.worker.ask(job).await?;
        self.moved.lock().extend(positions);
        Ok(())
    }

    /// Waits for every record's acknowledgement and commits.
    ///
    /// # Errors
    /// [`CommitError::Aborted`]: nothing of it is visible, it can be done again. [`CommitError::Unknown`]: no
    /// answer came in time; the next [`TransactionalProducer::begin`] finds out first.
    pub async fn commit(mut self) -> Result<(), CommitError> {
        self.is_open = false;
        let limit = self.producer.limit;
        let span = tracing::debug_span!("commit_transaction");
        let asked = self.producer.worker.ask(|reply| Job::Commit { limit, reply });
        tracing::Instrument::instrument(asked, span).await?;
        self.moved
            .lock()
            .drain(..)
            .for_each(|position| position.is_committed());
        Ok(())
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// The broker did not answer; it aborts the transaction after its timeout.
    pub async fn abort(mut self) -> Result<(), TransactionError> {
        self.is_open = false;
        let limit = self.producer.limit;
        self.producer
            .worker
            .ask(|reply| Job::Abort { limit, reply })
            .await
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.producer.worker.abort_unheard(self.producer.limit);
        }
    }
}
