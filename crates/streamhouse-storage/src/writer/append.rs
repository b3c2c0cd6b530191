//! What enters the writer and what comes back: one answer a request, one result a batch.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::commit::{AppendRefusal, BatchTransaction};
use streamhouse_observability::families::{PartitionWriteMetrics, TopicMetrics};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Span;

use super::journey::Journey;
use crate::batch::AdmittedBatch;

/// The metric handles of a partition, resolved once by who knows its topic's name.
#[derive(Clone)]
pub struct PartitionHandles {
    pub topic: Arc<TopicMetrics>,
    pub writes: PartitionWriteMetrics,
}

/// One batch for one partition.
pub struct Append {
    pub partition: TopicPartition,
    pub batch: AdmittedBatch,
    /// Set for a transactional batch.
    pub transaction: Option<BatchTransaction>,
    /// Not committed by then, it is withdrawn and answered with [`AppendError::TimedOut`].
    pub deadline: Instant,
    pub handles: PartitionHandles,
    /// Held as long as the batch's bytes are: its share of the in-flight budget. That may be beyond its
    /// answer, where it was withdrawn from an object that still waits for its commit.
    pub permit: Option<Arc<dyn Any + Send + Sync>>,
}

/// A batch that is durable and committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Of the first copy where this one was a duplicate.
    pub base_offset: i64,
    pub log_start_offset: i64,
    /// Milliseconds, where the topic's timestamps are LogAppendTime.
    pub log_append_time: Option<i64>,
    pub duplicate: bool,
}

/// Why a batch is not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Refused(#[from] AppendRefusal),
    /// Promises nothing: the batch may or may not have been stored.
    #[error("not committed in time")]
    TimedOut,
    #[error("the object store did not take the object")]
    Storage,
    #[error("this agent was fenced")]
    Fenced,
    #[error("the agent is stopping")]
    Stopping,
}

/// One result a batch, in the order given.
pub type Results = Vec<Result<Appended, AppendError>>;

/// Resolves when every batch of one append call has its result, in the order given.
pub struct PendingAppend(oneshot::Receiver<(Results, Journey)>, usize);

impl PendingAppend {
    /// The results, and how the last of them came about.
    pub async fn with_journey(self) -> (Results, Journey) {
        let Self(answer, count) = self;
        // The pipeline went down with the process' last breath: nothing was acknowledged.
        answer
            .await
            .unwrap_or_else(|_| (vec![Err(AppendError::Stopping); count], Journey::default()))
    }
}

impl Future for PendingAppend {
    type Output = Results;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let count = self.1;
        Pin::new(&mut self.0).poll(context).map(|answer| {
            answer.map_or_else(
                |_| vec![Err(AppendError::Stopping); count],
                |(results, _)| results,
            )
        })
    }
}

/// What went in and what has its answer, whatever that is: giving up and withdrawing are progress as well.
#[derive(Default)]
pub(super) struct Answers {
    accepted: AtomicU64,
    answered: AtomicU64,
    /// Of the last answered request, in nanoseconds.
    last_wait: AtomicU64,
}

/// How far the writer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Batches that have no answer.
    pub waiting: u64,
    /// Batches that have got one since the start.
    pub answered: u64,
    /// How long the last answered request had waited.
    pub last_wait: Duration,
}

impl Answers {
    pub(super) fn progress(&self) -> Progress {
        let answered = self.answered.load(Ordering::Acquire);
        Progress {
            waiting: self.accepted.load(Ordering::Acquire).saturating_sub(answered),
            answered,
            last_wait: Duration::from_nanos(self.last_wait.load(Ordering::Relaxed)),
        }
    }
}

/// Collects the results of one append call.
struct Request {
    remaining: AtomicUsize,
    results: Mutex<Results>,
    answer: Mutex<Option<oneshot::Sender<(Results, Journey)>>>,
    /// Of all its batches, which mostly are slices of one frame.
    bytes: usize,
    accepted_at: Instant,
    answers: Arc<Answers>,
    /// Ends when all batches have left the writer.
    span: Span,
}

/// Equal for the batches of one request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RequestKey(*const Request);

/// The way back of one batch.
pub(super) struct Reply {
    request: Arc<Request>,
    position: usize,
}

impl Reply {
    /// Names the request, as long as the reply lives.
    pub(super) fn request(&self) -> RequestKey {
        RequestKey(Arc::as_ptr(&self.request))
    }

    /// The span of the append call.
    pub(super) fn span(&self) -> &Span {
        &self.request.span
    }

    pub(super) fn request_bytes(&self) -> usize {
        self.request.bytes
    }

    pub(super) fn send(self, result: Result<Appended, AppendError>, journey: Journey) {
        self.request.results.lock()[self.position] = result;
        self.request.answers.answered.fetch_add(1, Ordering::AcqRel);
        if self.request.remaining.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(answer) = self.request.answer.lock().take()
        {
            let results = std::mem::take(&mut *self.request.results.lock());
            let waited = u64::try_from(self.request.accepted_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.request.answers.last_wait.store(waited, Ordering::Relaxed);
            // Nobody waits any more where the connection is gone.
            let _ = answer.send((results, journey));
        }
    }
}

/// A batch inside the writer.
pub(super) struct Pending {
    pub(super) partition: TopicPartition,
    pub(super) batch: AdmittedBatch,
    pub(super) transaction: Option<BatchTransaction>,
    pub(super) deadline: Instant,
    pub(super) handles: PartitionHandles,
    pub(super) accepted_at: Instant,
    /// `None` once answered.
    pub(super) reply: Option<Reply>,
    _permit: Option<Arc<dyn Any + Send + Sync>>,
}

pub(super) fn pending(batches: Vec<Append>, answers: &Arc<Answers>) -> (Vec<Pending>, PendingAppend) {
    let (sender, receiver) = oneshot::channel();
    let count = batches.len();
    let accepted_at = Instant::now();
    answers.accepted.fetch_add(count as u64, Ordering::AcqRel);
    let bytes = batches.iter().map(|append| append.batch.bytes.len()).sum();
    let request = Arc::new(Request {
        remaining: AtomicUsize::new(count),
        results: Mutex::new(vec![Err(AppendError::Stopping); count]),
        answer: Mutex::new(Some(sender)),
        accepted_at,
        answers: answers.clone(),
        bytes,
        span: tracing::debug_span!("append", batches = count as i64, length_bytes = bytes as i64),
    });
    let pending = batches
        .into_iter()
        .enumerate()
        .map(|(position, append)| Pending {
            partition: append.partition,
            batch: append.batch,
            transaction: append.transaction,
            deadline: append.deadline,
            handles: append.handles,
            accepted_at,
            reply: Some(Reply {
                request: request.clone(),
                position,
            }),
            _permit: append.permit,
        })
        .collect();
    if count == 0
        && let Some(answer) = request.answer.lock().take()
    {
        let _ = answer.send((Vec::new(), Journey::default()));
    }
    (pending, PendingAppend(receiver, count))
}
