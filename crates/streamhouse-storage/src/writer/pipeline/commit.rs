//! Committing: one commit at a time, of the longest durable prefix of the queue; its answer, and what
//! follows from it for each batch.
//!
//! A commit whose answer is unknown is built again from the same objects, without the batches whose time
//! is over: it keeps its number and adds nothing (TRACES 8, 9). Not here: what is sealed and uploaded.

use std::time::Duration;

use futures::future::BoxFuture;
use streamhouse_metadata::ids::StoreTime;
use streamhouse_metadata::model::commit::{BatchOutcome, CommitAnswer, CommitRequest, ObjectOutcomes};
use streamhouse_metadata::store::{CommitError, StoreError};
use streamhouse_observability::families::{BatchCount, Stage};
use streamhouse_observability::logging;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::super::append::{AppendError, Appended};
use super::super::journey::Moments;
use super::super::sealed::Sealed;
use super::super::spans;
use super::publish::publish;
use super::{COMMIT_GRACE, Pipeline, REPEAT_AFTER_MAX, REPEAT_AFTER_MIN, count_refusal};

/// The commit under way: the front `objects` of the queue.
pub(super) struct Committing {
    pub(super) objects: usize,
    /// Set while an attempt runs.
    pub(super) attempt: Option<BoxFuture<'static, Result<CommitAnswer, CommitError>>>,
    pub(super) began_at: Instant,
    pub(super) repeat_at: Instant,
    repeat_after: Duration,
}

impl Pipeline {
    /// Begins the next commit, or the next attempt at the one under way.
    pub(super) fn commit(&mut self) {
        let now = Instant::now();
        if self.committing.is_none() {
            let objects = self.queue.iter().take_while(|sealed| sealed.is_durable()).count();
            if objects == 0 {
                return;
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
        let span = spans::commit(front.clone());
        let identity = self.identity.borrow();
        let request = CommitRequest {
            incarnation: identity.incarnation,
            number: self.committed_number + 1,
            valid_until: self.store_clock.at(deadline + COMMIT_GRACE),
            objects: front.map(Sealed::to_commit).collect(),
            lowest_undecided: identity.counters.lowest_undecided(),
        };
        let metadata = self.parts.metadata.clone();
        let commit = async move { metadata.commit(request).await };
        committing.attempt = Some(Box::pin(commit.instrument(span)));
    }

    pub(super) async fn answered(&mut self, answer: Result<CommitAnswer, CommitError>) {
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
            Err(CommitError::Store(
                error @ (StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Unknown(_)),
            )) => {
                if let Some(suppressed) = logging::admit("commit", error.error_type(), "") {
                    let error_type = error.error_type();
                    tracing::warn!(
                        %error,
                        error_type,
                        operation = "commit",
                        suppressed,
                        "commit will be repeated"
                    );
                }
                if let Some(committing) = &mut self.committing {
                    committing.repeat_at = Instant::now() + committing.repeat_after;
                    committing.repeat_after = (committing.repeat_after * 2).min(REPEAT_AFTER_MAX);
                }
            }
        }
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
            // Here and not when it began: an object may be in several commits, of which one is carried out.
            let waited = committing.began_at.saturating_duration_since(sealed.durable_at);
            self.parts
                .metrics
                .produce
                .stage(Stage::CommitWait)
                .observe(waited);
        }
        publish(&self.parts.tail, &done, answer);
        // Readable first, acknowledged then: who was told of a record finds it.
        for sealed in done {
            let outcomes = outcomes_of(answer, &sealed);
            let moments = sealed.moments(self.name_of(sealed.counter), Some(committing.began_at));
            tracing::debug!(
                object_id = %moments.object,
                operation = "commit",
                batches = sealed.batches.len(),
                duration_ms = logging::milliseconds(now - committing.began_at),
                "object committed"
            );
            self.acknowledge(sealed, outcomes, moments, now);
        }
        (self.parts.hooks.committed)();
    }

    fn acknowledge(&self, sealed: Sealed, outcomes: Option<&ObjectOutcomes>, moments: Moments, now: Instant) {
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
            reply.send(result, moments.journey(pending.accepted_at, now));
        }
    }
}

/// The answer to the attempt under way; never resolves while there is none.
pub(super) async fn attempt(committing: &mut Option<Committing>) -> Result<CommitAnswer, CommitError> {
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

pub(super) fn outcomes_of<'a>(answer: &'a CommitAnswer, sealed: &Sealed) -> Option<&'a ObjectOutcomes> {
    let mut objects = answer.objects.iter();
    objects.find(|object| object.counter == sealed.counter)
}

pub(super) fn outcome(outcomes: Option<&ObjectOutcomes>, index: u32) -> Option<&BatchOutcome> {
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
