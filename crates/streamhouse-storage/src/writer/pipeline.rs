//! The one task that moves batches: it seals, lets uploads overlap, and commits the longest durable
//! prefix of the sealed queue, one commit at a time (DESIGN §2.5, TRACES 8, 9, 11).
//!
//! Invariants: an object is acknowledged only after a definite answer to its commit; a commit whose
//! answer is unknown is repeated with its number and without anything new; an object that was given up
//! has left the queue before its batches are refused.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use object_store::{ObjectStoreExt, PutPayload};
use streamhouse_metadata::ids::{ObjectName, StoreTime};
use streamhouse_metadata::model::commit::{BatchOutcome, CommitAnswer, CommitRequest, ObjectOutcomes};
use streamhouse_metadata::store::{CommitError, StoreError};
use streamhouse_observability::families::{BatchCount, ProducerErrorType, SealReason, Stage};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::append::{AppendError, Appended, Pending};
use super::policy::{self, Verdict, View};
use super::sealed::{Place, Sealed};
use super::{Identity, Shared, WriterOptions, WriterParts};
use crate::object::{Counters, key_of};

/// How long after its earliest batch's deadline a commit may still take effect (TRACES 8).
const COMMIT_GRACE: Duration = Duration::from_secs(5);
/// How long objects are uploaded that could go inline, after the store had no room for them.
const INLINE_PAUSE: Duration = Duration::from_secs(1);
const REPEAT_AFTER_MIN: Duration = Duration::from_millis(20);
const REPEAT_AFTER_MAX: Duration = Duration::from_secs(1);

/// The commit under way: the front `objects` of the queue.
struct Committing {
    objects: usize,
    /// Set while an attempt runs.
    attempt: Option<BoxFuture<'static, Result<CommitAnswer, CommitError>>>,
    began_at: Instant,
    repeat_at: Instant,
    repeat_after: Duration,
}

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
        let (buffered_bytes, closing) = {
            let buffer = self.shared.buffer.lock();
            (buffer.bytes(), buffer.is_closed())
        };
        let inline_paused = self.inline_paused_until.is_some_and(|until| now < until);
        View {
            now,
            buffered_bytes,
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

    fn counters(&self) -> Arc<Counters> {
        self.identity.borrow().counters.clone()
    }

    // --- sealing and uploading ----------------------------------------------------------------

    fn seal(&mut self, reason: SealReason, inline: bool) {
        let now = Instant::now();
        let batches = self.shared.buffer.lock().take(self.options.flush_bytes);
        let sealed = Sealed::new(self.counters().next(), inline, batches, now);
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
        let key = key_of(&ObjectName {
            incarnation: self.identity.borrow().incarnation,
            counter,
        });
        let payload: PutPayload = sealed.payload.iter().cloned().collect();
        let objects = self.parts.objects.clone();
        let put = tokio::spawn(async move { objects.put(&key, payload).await.map(|_| ()) });
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
                let sealed = &mut self.queue[at];
                sealed.place = Place::Stored;
                sealed.durable_at = Instant::now();
                self.parts
                    .metrics
                    .produce
                    .stage(Stage::Upload)
                    .observe(sealed.durable_at - sealed.sealed_at);
            }
            Err(error) => {
                // It never was in a commit: only durable objects are. It leaves the queue first.
                let Some(mut sealed) = self.queue.remove(at) else {
                    return;
                };
                let incarnation = self.identity.borrow().incarnation;
                let name = ObjectName {
                    incarnation,
                    counter: sealed.counter,
                };
                tracing::error!(object_id = %name, %error, operation = "PUT", "upload given up");
                sealed.refuse(&AppendError::Storage, count_refusal(&self.parts));
                (self.parts.hooks.abandoned)(name);
            }
        }
    }

    // --- committing ---------------------------------------------------------------------------

    /// Begins the next commit, or the next attempt at the one under way.
    fn commit(&mut self) {
        let now = Instant::now();
        if self.committing.is_none() {
            let objects = self.queue.iter().take_while(|sealed| sealed.is_durable()).count();
            if objects == 0 {
                return;
            }
            for sealed in self.queue.iter().take(objects) {
                self.parts
                    .metrics
                    .produce
                    .stage(Stage::CommitWait)
                    .observe(now - sealed.durable_at);
            }
            self.committing = Some(Committing {
                objects,
                attempt: None,
                began_at: now,
                repeat_at: now,
                repeat_after: REPEAT_AFTER_MIN,
            });
        }
        let Some(committing) = &mut self.committing else {
            return;
        };
        if committing.attempt.is_some() || now < committing.repeat_at {
            return;
        }
        let front = self.queue.iter().take(committing.objects);
        let deadline = front
            .clone()
            .filter_map(Sealed::earliest_deadline)
            .min()
            .unwrap_or(now);
        let identity = self.identity.borrow();
        let request = CommitRequest {
            incarnation: identity.incarnation,
            number: self.committed_number + 1,
            valid_until: self.store_clock.at(deadline + COMMIT_GRACE),
            objects: front.map(Sealed::to_commit).collect(),
            lowest_undecided: identity.counters.lowest_undecided(),
        };
        let metadata = self.parts.metadata.clone();
        committing.attempt = Some(Box::pin(async move { metadata.commit(request).await }));
    }

    async fn answered(&mut self, answer: Result<CommitAnswer, CommitError>) {
        match answer {
            Ok(answer) => self.committed(&answer),
            Err(CommitError::Expired) => {
                // Nothing was changed. What has expired is withdrawn before the next attempt.
                self.committing = None;
            }
            Err(CommitError::InlineFull) => self.upload_inline(),
            Err(CommitError::Fenced(incarnation)) => {
                tracing::error!(%incarnation, "this agent was fenced: it starts anew");
                self.start_anew(&AppendError::Fenced).await;
            }
            Err(error @ (CommitError::NumberGap { .. } | CommitError::Forgotten(_))) => {
                tracing::error!(%error, "the store remembers other commits than this agent made");
                self.start_anew(&AppendError::TimedOut).await;
            }
            Err(CommitError::Store(error @ StoreError::Damaged(_))) => {
                tracing::error!(%error, "the metadata store cannot be trusted");
                self.give_up(&error);
            }
            Err(CommitError::Store(error @ (StoreError::Unavailable(_) | StoreError::Unknown(_)))) => {
                tracing::warn!(%error, operation = "commit", "commit will be repeated");
                if let Some(committing) = &mut self.committing {
                    committing.repeat_at = Instant::now() + committing.repeat_after;
                    committing.repeat_after = (committing.repeat_after * 2).min(REPEAT_AFTER_MAX);
                }
            }
        }
    }

    /// Ends the writer and asks the process to stop. What is held is not acknowledged: whether it was
    /// stored is not known.
    fn give_up(&mut self, why: &dyn Display) {
        (self.parts.hooks.fatal)(why);
        self.committing = None;
        self.queue.clear();
        let mut buffer = self.shared.buffer.lock();
        buffer.close();
        buffer.take(u64::MAX);
    }

    fn committed(&mut self, answer: &CommitAnswer) {
        let Some(committing) = self.committing.take() else {
            return;
        };
        let now = Instant::now();
        self.committed_number = answer.number;
        self.store_clock = (answer.committed_at, now);
        self.parts
            .metrics
            .produce
            .stage(Stage::Commit)
            .observe(now - committing.began_at);
        let counters = self.counters();
        let done: Vec<_> = self.queue.drain(..committing.objects).collect();
        for sealed in &done {
            counters.decided(sealed.counter);
            let outcomes = answer
                .objects
                .iter()
                .find(|object| object.counter == sealed.counter);
            self.publish(sealed, outcomes);
        }
        // Readable first, acknowledged then: who was told of a record finds it.
        for sealed in done {
            let outcomes = answer
                .objects
                .iter()
                .find(|object| object.counter == sealed.counter);
            self.acknowledge(sealed, outcomes);
        }
        (self.parts.hooks.committed)();
    }

    /// Hands what was appended to the tail cache, which wakes the fetches that wait for it.
    fn publish(&self, sealed: &Sealed, outcomes: Option<&ObjectOutcomes>) {
        for batch in &sealed.batches {
            if let Some(BatchOutcome::Appended {
                base_offset,
                log_start_offset,
            }) = outcome(outcomes, batch.index)
            {
                let pending = &batch.pending;
                self.parts
                    .tail
                    .append(pending.partition, *base_offset, *log_start_offset, &pending.batch);
            }
        }
    }

    fn acknowledge(&self, sealed: Sealed, outcomes: Option<&ObjectOutcomes>) {
        for segment in &sealed.segments {
            segment.writes.segment_flushes.inc();
        }
        for mut batch in sealed.batches {
            let pending = &mut batch.pending;
            let records = pending.batch.header.record_count as u64;
            let bytes = pending.batch.bytes.len() as u64;
            let topic = &pending.handles.topic;
            let log_append_time = pending.batch.log_append_time;
            let result = match outcome(outcomes, batch.index) {
                Some(BatchOutcome::Appended {
                    base_offset,
                    log_start_offset,
                }) => {
                    topic.records.add(records);
                    topic.bytes.add(bytes);
                    Ok(appended(*base_offset, *log_start_offset, log_append_time, false))
                }
                Some(BatchOutcome::Duplicate {
                    base_offset,
                    log_start_offset,
                }) => Ok(appended(*base_offset, *log_start_offset, log_append_time, true)),
                Some(BatchOutcome::Refused(refusal)) => Err(AppendError::Refused(refusal.clone())),
                None => Err(AppendError::TimedOut),
            };
            let Some(reply) = pending.reply.take() else {
                continue; // answered at its deadline
            };
            match &result {
                Ok(appended) => {
                    topic.batch_size.observe_value(records);
                    let count = if appended.duplicate {
                        BatchCount::Duplicate
                    } else {
                        BatchCount::Ok
                    };
                    self.parts.metrics.produce.batches(count).inc();
                }
                Err(error) => count_refusal(&self.parts)(pending, error),
            }
            reply.send(result);
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
        for mut pending in expired {
            if let Some(reply) = pending.reply.take() {
                count_refusal(&self.parts)(&pending, &AppendError::TimedOut);
                reply.send(Err(AppendError::TimedOut));
            }
        }
        for sealed in &mut self.queue {
            if sealed.earliest_deadline().is_none_or(|deadline| now < deadline) {
                continue;
            }
            for batch in sealed
                .batches
                .iter_mut()
                .filter(|batch| batch.pending.deadline <= now)
            {
                if let Some(reply) = batch.pending.reply.take() {
                    count_refusal(&self.parts)(&batch.pending, &AppendError::TimedOut);
                    reply.send(Err(AppendError::TimedOut));
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
        self.committing = None;
        self.uploads.clear();
        for sealed in &mut self.queue {
            sealed.refuse(error, count_refusal(&self.parts));
        }
        self.queue.clear();
        let buffered = self.shared.buffer.lock().take(u64::MAX);
        for mut pending in buffered {
            if let Some(reply) = pending.reply.take() {
                count_refusal(&self.parts)(&pending, error);
                reply.send(Err(error.clone()));
            }
        }
        let mut wait = REPEAT_AFTER_MIN;
        loop {
            match self.parts.metadata.register(&self.options.advertised).await {
                Ok(registered) => {
                    self.committed_number = 0;
                    let incarnation = registered.incarnation;
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
                    tracing::warn!(%error, operation = "register", "registration will be repeated");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(REPEAT_AFTER_MAX);
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

/// The answer to the attempt under way; never resolves while there is none.
async fn attempt(committing: &mut Option<Committing>) -> Result<CommitAnswer, CommitError> {
    match committing
        .as_mut()
        .and_then(|committing| committing.attempt.as_mut())
    {
        Some(attempt) => {
            let answer = attempt.await;
            if let Some(committing) = committing {
                committing.attempt = None;
            }
            answer
        }
        None => std::future::pending().await,
    }
}

trait StoreClock {
    fn at(&self, moment: Instant) -> StoreTime;
}

impl StoreClock for (StoreTime, Instant) {
    /// Never later than the store's own time at that moment.
    fn at(&self, moment: Instant) -> StoreTime {
        let (time, seen) = self;
        StoreTime(time.0 + moment.saturating_duration_since(*seen).as_millis() as i64)
    }
}

fn outcome(outcomes: Option<&ObjectOutcomes>, index: u32) -> Option<&BatchOutcome> {
    let batches = &outcomes?.batches;
    batches
        .binary_search_by_key(&index, |(at, _)| *at)
        .ok()
        .map(|at| &batches[at].1)
}

fn appended(
    base_offset: i64,
    log_start_offset: i64,
    log_append_time: Option<i64>,
    duplicate: bool,
) -> Appended {
    Appended {
        base_offset,
        log_start_offset,
        log_append_time,
        duplicate,
    }
}

/// Counts a batch that is not acknowledged: whose fault it was, and of which kind.
fn count_refusal(parts: &WriterParts) -> impl Fn(&Pending, &AppendError) + '_ {
    |pending, error| {
        let (outcome, error_type) = error.classes();
        parts.metrics.produce.batches(outcome).inc();
        pending.handles.topic.errors(error_type).inc();
    }
}

impl AppendError {
    fn classes(&self) -> (BatchCount, ProducerErrorType) {
        use streamhouse_metadata::model::commit::AppendRefusal as Refusal;
        match self {
            Self::Refused(Refusal::UnknownPartition) => {
                (BatchCount::ClientError, ProducerErrorType::UnknownTopic)
            }
            Self::Refused(Refusal::GapPending { .. } | Refusal::OutOfOrder { .. }) => {
                (BatchCount::ClientError, ProducerErrorType::Sequence)
            }
            Self::Refused(Refusal::StaleEpoch { .. }) => (BatchCount::ClientError, ProducerErrorType::Fenced),
            Self::TimedOut | Self::Storage | Self::Fenced | Self::Stopping => {
                (BatchCount::ServerError, ProducerErrorType::AgentError)
            }
        }
    }
}
