//! The one task that moves batches: it seals, lets uploads overlap, and commits the longest durable
//! prefix of the sealed queue, one commit at a time (DESIGN §2.5, TRACES 8, 9, 11).
//!
//! Invariants: an object is acknowledged only after a definite answer to its commit; a commit whose
//! answer is unknown is repeated with its number and without anything new; an object that was given up
//! has left the queue before its batches are refused.

mod commit;
mod publish;

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use object_store::{ObjectStoreExt, PutPayload};
use streamhouse_metadata::ids::{ObjectName, StoreTime};
use streamhouse_metadata::store::StoreError;
use streamhouse_observability::families::{BatchCount, ProducerErrorType, SealReason, Stage};
use streamhouse_observability::{Metrics, logging};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::append::{AppendError, Pending};
use super::journey::Journey;
use super::policy::{self, Verdict, View};
use super::sealed::{Place, Sealed};
use super::{Identity, Shared, WriterOptions, WriterParts, spans};
use crate::object::{Counters, key_of};
use commit::{Committing, attempt};

/// How long after its earliest batch's deadline a commit may still take effect (TRACES 8).
const COMMIT_GRACE: Duration = Duration::from_secs(5);
/// How long objects are uploaded that could go inline, after the store had no room for them.
const INLINE_PAUSE: Duration = Duration::from_secs(1);
const REPEAT_AFTER_MIN: Duration = Duration::from_millis(20);
const REPEAT_AFTER_MAX: Duration = Duration::from_secs(1);

struct Uploaded {
    counter: u64,
    result: Result<(), object_store::Error>,
}

pub(super) struct Pipeline {
    options: WriterOptions,
    parts: WriterParts,
    shared: Arc<Shared>,
    identity: watch::Sender<Identity>,
    /// The number of the last commit that was answered.
    committed_number: u64,
    queue: VecDeque<Sealed>,
    uploads: FuturesUnordered<BoxFuture<'static, Uploaded>>,
    committing: Option<Committing>,
    last_upload_began: Option<Instant>,
    inline_paused_until: Option<Instant>,
    /// A moment of the store's time, and when (at the latest) it was that moment.
    store_clock: (StoreTime, Instant),
}

impl Pipeline {
    pub(super) fn new(
        options: WriterOptions,
        parts: WriterParts,
        shared: Arc<Shared>,
        identity: watch::Sender<Identity>,
        store_now: StoreTime,
    ) -> Self {
        Self {
            options,
            parts,
            shared,
            identity,
            committed_number: 0,
            queue: VecDeque::new(),
            uploads: FuturesUnordered::new(),
            committing: None,
            last_upload_began: None,
            inline_paused_until: None,
            store_clock: (store_now, Instant::now()),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.withdraw_expired();
            let due = self.advance();
            if self.is_finished() {
                return;
            }
            let wake_at = self.next_deadline().into_iter().chain(due).min();
            tokio::select! {
                biased;
                answer = attempt(&mut self.committing) => self.answered(answer).await,
                Some(uploaded) = self.uploads.next() => self.uploaded(uploaded),
                () = self.shared.wake.notified() => {}
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
            }
        }
    }

    /// Starts all that can be started now; returns when to look again, if time alone decides.
    fn advance(&mut self) -> Option<Instant> {
        let due = loop {
            self.commit();
            match policy::decide(&self.view()) {
                Verdict::Seal { reason, inline } => self.seal(reason, inline),
                Verdict::At(due) => break Some(due),
                Verdict::Wait => break None,
            }
        };
        let repeat = self
            .committing
            .as_ref()
            .filter(|c| c.attempt.is_none())
            .map(|c| c.repeat_at);
        *self.shared.queue_oldest.lock() = self.queue.iter().filter_map(Sealed::oldest).min();
        due.into_iter().chain(repeat).min()
    }

    fn is_finished(&self) -> bool {
        let buffer = self.shared.buffer.lock();
        buffer.is_closed() && buffer.bytes() == 0 && self.queue.is_empty()
    }

    fn view(&self) -> View {
        let now = Instant::now();
        let (buffered_bytes, front_bytes, closing) = {
            let buffer = self.shared.buffer.lock();
            (buffer.bytes(), buffer.front_bytes(), buffer.is_closed())
        };
        let inline_paused = self.inline_paused_until.is_some_and(|until| now < until);
        View {
            now,
            buffered_bytes,
            front_bytes,
            flush_bytes: self.options.flush_bytes,
            flush_interval: self.options.flush_interval,
            inline_bytes_max: if inline_paused {
                0
            } else {
                self.options.inline_bytes_max
            },
            queued: self.queue.len(),
            uploading: self.uploads.len(),
            slots: self.options.upload_slots,
            last_upload_began: self.last_upload_began,
            closing,
        }
    }

    /// The name of an object of this incarnation.
    fn name_of(&self, counter: u64) -> ObjectName {
        ObjectName {
            incarnation: self.identity.borrow().incarnation,
            counter,
        }
    }

    fn counters(&self) -> Arc<Counters> {
        self.identity.borrow().counters.clone()
    }

    // --- sealing and uploading ----------------------------------------------------------------

    fn seal(&mut self, reason: SealReason, inline: bool) {
        let now = Instant::now();
        let batches = {
            let mut buffer = self.shared.buffer.lock();
            match inline {
                true => buffer.take_below(self.options.inline_bytes_max),
                false => buffer.take(self.options.flush_bytes),
            }
        };
        let mut sealed = Sealed::new(self.counters().next(), inline, batches, now);
        sealed.span = spans::flush(&sealed, &self.name_of(sealed.counter));
        let metrics = &self.parts.metrics.produce;
        metrics
            .flush_object_bytes(reason)
            .observe_value(sealed.length_bytes);
        if let Some(oldest) = sealed.oldest() {
            metrics.stage(Stage::Buffer).observe(now - oldest);
        }
        for segment in &sealed.segments {
            segment.writes.segment_writes.inc();
        }
        if !inline {
            self.upload(&sealed);
        }
        self.queue.push_back(sealed);
    }

    fn upload(&mut self, sealed: &Sealed) {
        self.last_upload_began = Some(Instant::now());
        let counter = sealed.counter;
        let key = key_of(&self.name_of(counter));
        let payload: PutPayload = sealed.payload.iter().cloned().collect();
        let objects = self.parts.objects.clone();
        let put = async move { objects.put(&key, payload).await.map(|_| ()) };
        let put = tokio::spawn(put.instrument(sealed.span.clone()));
        self.uploads.push(Box::pin(async move {
            let result = put.await.unwrap_or_else(|error| {
                Err(object_store::Error::Generic {
                    store: "upload",
                    source: Box::new(error),
                })
            });
            Uploaded { counter, result }
        }));
    }

    fn uploaded(&mut self, uploaded: Uploaded) {
        let Some(at) = self
            .queue
            .iter()
            .position(|sealed| sealed.counter == uploaded.counter)
        else {
            return; // of an incarnation that was fenced meanwhile
        };
        match uploaded.result {
            Ok(()) => {
                let object_id = self.name_of(uploaded.counter);
                let sealed = &mut self.queue[at];
                sealed.place = Place::Stored;
                sealed.durable_at = Instant::now();
                self.parts
                    .metrics
                    .produce
                    .stage(Stage::Upload)
                    .observe(sealed.durable_at - sealed.sealed_at);
                tracing::debug!(
                    %object_id,
                    operation = "PUT",
                    length_bytes = sealed.length_bytes,
                    batches = sealed.batches.len(),
                    duration_ms = logging::milliseconds(sealed.durable_at - sealed.sealed_at),
                    "object uploaded"
                );
            }
            Err(error) => {
                // It never was in a commit: only durable objects are. It leaves the queue first.
                let Some(mut sealed) = self.queue.remove(at) else {
                    return;
                };
                let name = self.name_of(sealed.counter);
                if let Some(suppressed) = logging::admit("upload", "failed", "") {
                    tracing::error!(
                        object_id = %name,
                        %error,
                        operation = "PUT",
                        error_type = "failed",
                        duration_ms = logging::milliseconds(sealed.sealed_at.elapsed()),
                        suppressed,
                        "upload given up"
                    );
                }
                let moments = sealed.moments(name, None);
                sealed.refuse(moments, &AppendError::Storage, count_refusal(&self.parts));
                (self.parts.hooks.abandoned)(name);
            }
        }
    }

    /// Ends the writer and asks the process to stop. What is held is not acknowledged: whether it was
    /// stored is not known.
    fn give_up(&mut self, why: &dyn Display) {
        (self.parts.hooks.fatal)(why);
        self.shared.buffer.lock().close();
        self.refuse_all(&AppendError::Stopping);
    }

    /// Answers every batch that is held.
    fn refuse_all(&mut self, error: &AppendError) {
        self.committing = None;
        let incarnation = self.identity.borrow().incarnation;
        for sealed in &mut self.queue {
            let object = ObjectName {
                incarnation,
                counter: sealed.counter,
            };
            let moments = sealed.moments(object, None);
            sealed.refuse(moments, error, count_refusal(&self.parts));
        }
        self.queue.clear();
        *self.shared.queue_oldest.lock() = None;
        let buffered = self.shared.buffer.lock().take(u64::MAX);
        for pending in buffered {
            let journey = Journey::in_buffer(pending.accepted_at, Instant::now());
            refuse(&self.parts.metrics, pending, error, journey);
        }
    }

    /// The store has no room for inline objects: those of the commit are uploaded like large ones.
    fn upload_inline(&mut self) {
        let Some(committing) = self.committing.take() else {
            return;
        };
        self.inline_paused_until = Some(Instant::now() + INLINE_PAUSE);
        for at in 0..committing.objects {
            if self.queue[at].place == Place::Inline {
                self.queue[at].place = Place::Uploading;
                self.upload_at(at);
            }
        }
    }

    fn upload_at(&mut self, at: usize) {
        let Some(sealed) = self.queue.remove(at) else {
            return;
        };
        self.upload(&sealed);
        self.queue.insert(at, sealed);
    }

    // --- deadlines, fencing -------------------------------------------------------------------

    /// Answers every batch whose deadline has come. One that is in a commit already may still be
    /// stored: its answer promises nothing (TRACES 8).
    fn withdraw_expired(&mut self) {
        let now = Instant::now();
        let expired = self.shared.buffer.lock().take_expired(now);
        for pending in expired {
            let journey = Journey::in_buffer(pending.accepted_at, now);
            refuse(&self.parts.metrics, pending, &AppendError::TimedOut, journey);
        }
        let incarnation = self.identity.borrow().incarnation;
        for (at, sealed) in self.queue.iter_mut().enumerate() {
            if sealed.earliest_deadline().is_none_or(|deadline| now < deadline) {
                continue;
            }
            let object = ObjectName {
                incarnation,
                counter: sealed.counter,
            };
            let committing = self.committing.as_ref().filter(|it| at < it.objects);
            let moments = sealed.moments(object, committing.map(|it| it.began_at));
            for batch in sealed
                .batches
                .iter_mut()
                .filter(|batch| batch.pending.deadline <= now)
            {
                if let Some(reply) = batch.pending.reply.take() {
                    count_refusal(&self.parts)(&batch.pending, &AppendError::TimedOut);
                    let journey = moments.journey(batch.pending.accepted_at, now);
                    reply.send(Err(AppendError::TimedOut), journey);
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let buffered = self.shared.buffer.lock().earliest_deadline();
        self.queue
            .iter()
            .filter_map(Sealed::earliest_deadline)
            .chain(buffered)
            .min()
    }

    /// Discards all that is held and registers a new incarnation (TRACES 8). Objects under way stay
    /// under the old prefix, whose tombstone makes them orphans.
    async fn start_anew(&mut self, error: &AppendError) {
        self.uploads.clear();
        self.refuse_all(error);
        let mut wait = REPEAT_AFTER_MIN;
        loop {
            match self.parts.metadata.register(&self.options.advertised).await {
                Ok(registered) => {
                    self.committed_number = 0;
                    let incarnation = registered.incarnation;
                    tracing::info!(%incarnation, "this agent started anew");
                    self.identity.send_replace(Identity {
                        incarnation,
                        counters: Arc::default(),
                    });
                    return;
                }
                Err(error @ StoreError::Damaged(_)) => {
                    tracing::error!(%error, "the metadata store cannot be trusted");
                    self.give_up(&error);
                    return;
                }
                Err(error) => {
                    if let Some(suppressed) = logging::admit("register", error.error_type(), "") {
                        let error_type = error.error_type();
                        tracing::warn!(
                            %error,
                            error_type,
                            operation = "register",
                            suppressed,
                            "registration will be repeated"
                        );
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(REPEAT_AFTER_MAX);
                    // What came meanwhile is not waited for longer than its producers do.
                    self.withdraw_expired();
                }
            }
        }
    }
}

impl Drop for Pipeline {
    /// Behind a door that stays open after a panic nobody works: clients would wait for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.give_up(&"the writer panicked");
        }
    }
}

/// Counts a batch that is not acknowledged: whose fault it was, and of which kind.
fn count_refusal(parts: &WriterParts) -> impl Fn(&Pending, &AppendError) + '_ {
    |pending, error| count(&parts.metrics, pending, error)
}

fn count(metrics: &Metrics, pending: &Pending, error: &AppendError) {
    let (outcome, error_type) = error.classes();
    metrics.produce.batches(outcome).inc();
    pending.handles.topic.errors(error_type).inc();
}

/// Answers a batch that is in no object yet, and counts it.
pub(super) fn refuse(metrics: &Metrics, mut pending: Pending, error: &AppendError, journey: Journey) {
    if let Some(reply) = pending.reply.take() {
        count(metrics, &pending, error);
        reply.send(Err(error.clone()), journey);
    }
}

impl AppendError {
    /// Whose fault it is and of which kind, as it is counted.
    #[must_use]
    pub fn classes(&self) -> (BatchCount, ProducerErrorType) {
        use streamhouse_metadata::model::commit::AppendRefusal as Refusal;
        match self {
            Self::Refused(Refusal::UnknownPartition) => {
                (BatchCount::ClientError, ProducerErrorType::UnknownTopic)
            }
            Self::Refused(Refusal::GapPending { .. } | Refusal::OutOfOrder { .. }) => {
                (BatchCount::ClientError, ProducerErrorType::Sequence)
            }
            Self::Refused(Refusal::StaleEpoch { .. }) => (BatchCount::ClientError, ProducerErrorType::Fenced),
            Self::Refused(Refusal::InvalidTransactionState | Refusal::NotTransactional(_)) => {
                (BatchCount::ClientError, ProducerErrorType::Transaction)
            }
            Self::Refused(Refusal::MarkersFull) => (BatchCount::ServerError, ProducerErrorType::AgentError),
            Self::TimedOut | Self::Storage | Self::Fenced | Self::Stopping => {
                (BatchCount::ServerError, ProducerErrorType::AgentError)
            }
        }
    }
}
