//! The write path: what all connections send is collected in one buffer, sealed into objects, uploaded
//! (overlapping) or kept inline, committed in the order of sealing, and only then acknowledged.
//!
//! `append` says what comes in and what goes back, `buffer` collects, `policy` decides when to seal,
//! `sealed` is an object on its way, `pipeline` is the one task that moves them. What a batch costs in
//! metrics from here on is counted here (OBSERVABILITY §2): records, bytes, batch size, outcomes,
//! errors, segments, stages. Batches that never enter the writer are counted by who refuses them.

mod append;
mod buffer;
mod journey;
mod pipeline;
mod policy;
mod sealed;
mod spans;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use parking_lot::Mutex;
use streamhouse_metadata::ids::{IncarnationId, ObjectName};
use streamhouse_metadata::store::{MetadataStore, StoreError};
use streamhouse_observability::Metrics;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use append::{Append, AppendError, Appended, PartitionHandles, PendingAppend, Progress, Results};
pub use journey::Journey;

use crate::object::Counters;
use crate::reader::Tail;
use append::Answers;
use buffer::Buffer;
use pipeline::{Pipeline, refuse};

/// How the writer seals, uploads and commits.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// An object is sealed when it holds this many bytes.
    pub flush_bytes: u64,
    /// … or when this much time has passed since the previous upload began.
    pub flush_interval: Duration,
    /// Objects up to this size go inline; 0 = never.
    pub inline_bytes_max: u64,
    /// Uploads under way at once.
    pub upload_slots: usize,
    /// Under which address the agent is registered, again after it was fenced.
    pub advertised: String,
}

/// Told why the process must stop.
pub type FatalHook = Box<dyn Fn(&dyn Display) + Send + Sync>;

/// What the writer tells the house.
pub struct WriterHooks {
    /// An upload was given up; its key is to be deleted after the PUT deadline, then decided.
    pub abandoned: Box<dyn Fn(ObjectName) + Send + Sync>,
    /// Something was committed: upkeep may have work.
    pub committed: Box<dyn Fn() + Send + Sync>,
    /// The metadata store is damaged, or the writer itself broke: the process must stop.
    pub fatal: FatalHook,
}

/// What the writer stands on.
pub struct WriterParts {
    pub objects: Arc<dyn ObjectStore>,
    pub metadata: Arc<dyn MetadataStore>,
    pub tail: Arc<Tail>,
    pub metrics: Arc<Metrics>,
    pub hooks: WriterHooks,
}

/// The identity under which the agent writes now, shared with upkeep.
#[derive(Clone, Debug)]
pub struct Identity {
    pub incarnation: IncarnationId,
    pub counters: Arc<Counters>,
}

struct Shared {
    buffer: Mutex<Buffer>,
    /// Rung when the buffer passes a mark that may make an object due.
    wake: Notify,
    /// When the oldest batch beyond the buffer was accepted.
    queue_oldest: Mutex<Option<Instant>>,
}

/// The door of the write path. Cheap to share; [`Writer::close`] ends it.
pub struct Writer {
    shared: Arc<Shared>,
    answers: Arc<Answers>,
    identity: watch::Receiver<Identity>,
    metrics: Arc<Metrics>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the pipeline for an incarnation that was just registered.
    pub async fn start(
        options: WriterOptions,
        parts: WriterParts,
        incarnation: IncarnationId,
    ) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared {
            buffer: Mutex::new(Buffer::new(options.flush_bytes, options.inline_bytes_max)),
            wake: Notify::new(),
            queue_oldest: Mutex::new(None),
        });
        let first = Identity {
            incarnation,
            counters: Arc::default(),
        };
        let (identity_sender, identity) = watch::channel(first);
        let now = parts.metadata.now().await?;
        let metrics = parts.metrics.clone();
        let pipeline = Pipeline::new(options, parts, shared.clone(), identity_sender, now);
        let task = Mutex::new(Some(tokio::spawn(pipeline.run())));
        Ok(Self {
            shared,
            answers: Arc::default(),
            identity,
            metrics,
            task,
        })
    }

    /// Takes batches in the order of the calls; the answer has one entry a batch, in order.
    pub fn append(&self, batches: Vec<Append>) -> PendingAppend {
        let (pending, answer) = append::pending(batches, &self.answers);
        let pushed = self.shared.buffer.lock().push(pending);
        match pushed {
            Ok(true) => self.shared.wake.notify_one(),
            Ok(false) => {}
            Err(late) => {
                for pending in late {
                    refuse(&self.metrics, pending, &AppendError::Stopping, Journey::default());
                }
            }
        }
        answer
    }

    /// Changes when the agent was fenced and started anew: its connections are to be closed.
    #[must_use]
    pub fn identity(&self) -> watch::Receiver<Identity> {
        self.identity.clone()
    }

    /// For how long the oldest unacknowledged batch has been here; `None` when nothing is.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        let queued = *self.shared.queue_oldest.lock();
        queued
            .or(self.shared.buffer.lock().oldest())
            .map(|since| since.elapsed())
    }

    /// What health is told: whether something waits, and whether anything moves.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.answers.progress()
    }

    /// Refuses new batches, flushes what is held, and returns when every batch has its answer.
    pub async fn close(&self) {
        self.shared.buffer.lock().close();
        self.shared.wake.notify_one();
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the writer ended abnormally");
        }
    }
}
