//! The thread that makes a transactional producer's blocking calls, one after the other.
//!
//! It alone knows what is open. A caller may go away at any moment: the state stays right, and the next
//! `Begin` first ends whatever is left.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;
use tokio::sync::oneshot;

use super::error::{CommitError, Stopped, TransactionError};
use crate::config::ConfigError;
use crate::error::ErrorCode;
use crate::producer::Core;

/// An abort that nobody waits for is given at least this long.
const ABORT_LIMIT_MIN: Duration = Duration::from_secs(10);

/// Each call of librdkafka is given at least this long, whatever is left of the caller's limit. A commit whose first
/// step was not seen done in time loses its name there, and its answer is then taken for that of an abort
/// (`rd_kafka_txn_endtxn_complete` goes by the name of the call under way).
const CALL_LIMIT_MIN: Duration = Duration::from_secs(1);

/// librdkafka may take the late end of one step for the end of the next call's first, leave that one out and then
/// find itself in the wrong state (`rd_kafka_txn_op_req0` returns a result that is already set). Asked again it does
/// all of them.
const WRONG_STATE_TRIES: usize = 3;

/// Between two tries of a call that may be tried again at once.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

pub(super) type Reply<E> = oneshot::Sender<Result<(), E>>;

pub(super) enum Job {
    Init(Reply<TransactionError>),
    Begin {
        limit: Duration,
        reply: Reply<TransactionError>,
    },
    Offsets {
        offsets: TopicPartitionList,
        member: ConsumerGroupMetadata,
        limit: Duration,
        reply: Reply<TransactionError>,
    },
    Commit {
        limit: Duration,
        reply: Reply<CommitError>,
    },
    Abort {
        limit: Duration,
        reply: Reply<TransactionError>,
    },
    /// Ends what is left.
    Settle {
        limit: Duration,
        reply: Reply<TransactionError>,
    },
}

pub(super) struct Worker(mpsc::Sender<Job>);

impl Worker {
    pub(super) fn spawn(core: Arc<Core>, id: &str, limit: Duration) -> Result<Self, TransactionError> {
        // One caller, who waits for each answer: the queue holds one job, and an abort that nobody heard.
        let (jobs, received) = mpsc::channel();
        let mut desk = Desk {
            core,
            state: State::Idle,
            init_limit: limit,
        };
        let id = id.to_owned();
        let thread = thread::Builder::new().name("kafka-transactions".to_owned());
        let spawned = thread.spawn(move || {
            while let Ok(job) = received.recv() {
                desk.serve(job);
            }
            if let Err(error) = desk.settle(ABORT_LIMIT_MIN) {
                tracing::warn!(transactional_id = id, %error, "a transaction was left for its timeout to end");
            }
        });
        match spawned {
            Ok(_) => Ok(Self(jobs)),
            Err(error) => Err(TransactionError::Config(ConfigError::Refused {
                reason: error.to_string(),
            })),
        }
    }

    /// Hands over a job and waits for its answer.
    pub(super) async fn ask<E: From<Stopped>>(&self, job: impl FnOnce(Reply<E>) -> Job) -> Result<(), E> {
        let (reply, answer) = oneshot::channel();
        self.0.send(job(reply)).map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)?
    }

    /// Takes back what is open; nobody waits.
    pub(super) fn abort_unheard(&self, limit: Duration) {
        let (reply, _) = oneshot::channel();
        let limit = limit.max(ABORT_LIMIT_MIN);
        // A worker that is gone has ended what was open.
        let _ = self.0.send(Job::Abort { limit, reply });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Open,
    /// A commit was asked for, and its answer did not come.
    Committing,
}

struct Desk {
    core: Arc<Core>,
    state: State,
    init_limit: Duration,
}

impl Desk {
    fn serve(&mut self, job: Job) {
        // Whoever asked may have gone away; the work is done all the same.
        match job {
            Job::Init(reply) => drop(reply.send(self.init())),
            Job::Begin { limit, reply } => {
                // Begun, and nobody there to use it, or to drop it. Where an unanswered commit stands in the way,
                // nothing was begun: librdkafka would take an abort for a conflict, and the commit for ever undecided.
                if let Err(Ok(())) = reply.send(self.begin(limit)) {
                    let _ = self.abort(limit.max(ABORT_LIMIT_MIN));
                }
            }
            Job::Offsets {
                offsets,
                member,
                limit,
                reply,
            } => {
                let sent = self
                    .core
                    .base()
                    .send_offsets_to_transaction(&offsets, &member, limit);
                let _ = reply.send(sent.map_err(|error| TransactionError::of(&error)));
            }
            Job::Commit { limit, reply } => drop(reply.send(self.commit(limit))),
            Job::Abort { limit, reply } => drop(reply.send(self.abort(limit))),
            Job::Settle { limit, reply } => drop(reply.send(self.settle(limit))),
        }
    }

    /// Takes the transactional id over.
    fn init(&mut self) -> Result<(), TransactionError> {
        let until = Instant::now() + self.init_limit;
        loop {
            match self.core.base().init_transactions(call_limit(until)) {
                Ok(()) => return Ok(()),
                Err(error) => match TransactionError::of(&error) {
                    TransactionError::TimedOut { .. } if may_retry(until) => thread::sleep(RETRY_PAUSE),
                    error => return Err(error),
                },
            }
        }
    }

    fn begin(&mut self, limit: Duration) -> Result<(), TransactionError> {
        self.settle(limit)?;
        let begun = self.core.base().begin_transaction();
        begun.map_err(|error| TransactionError::of(&error))?;
        self.state = State::Open;
        Ok(())
    }

    /// Ends what is left: an unanswered commit by asking again, an open transaction by aborting it.
    fn settle(&mut self, limit: Duration) -> Result<(), TransactionError> {
        match self.state {
            State::Idle => Ok(()),
            State::Open => self.abort(limit),
            State::Committing => match self.commit(limit) {
                Ok(()) | Err(CommitError::Aborted { .. }) => Ok(()),
                Err(CommitError::Unknown { code }) => Err(TransactionError::TimedOut { code }),
                Err(CommitError::Over(error)) => Err(error),
            },
        }
    }

    fn commit(&mut self, limit: Duration) -> Result<(), CommitError> {
        let until = Instant::now() + limit;
        // Some time in any case: a record counts for a moment longer than its sender waits.
        if self.state == State::Open
            && !self
                .core
                .flush_blocking(until.max(Instant::now() + CALL_LIMIT_MIN))
        {
            // Not all records have their answer, so no commit was asked for: taking it back is certain.
            let code = RDKafkaErrorCode::OperationTimedOut.into();
            return self.taken_back(code);
        }
        self.state = State::Committing;
        let mut tries_left = WRONG_STATE_TRIES;
        loop {
            let Err(error) = self.core.base().commit_transaction(call_limit(until)) else {
                self.state = State::Idle;
                return Ok(());
            };
            match TransactionError::of(&error) {
                TransactionError::TimedOut { .. } if may_retry(until) => thread::sleep(RETRY_PAUSE),
                error if is_wrong_state(&error) && tries_left > 0 => {
                    tries_left -= 1;
                    thread::sleep(RETRY_PAUSE);
                }
                TransactionError::TimedOut { code } => return Err(CommitError::Unknown { code }),
                TransactionError::MustAbort { code } => return self.taken_back(code),
                error => {
                    self.state = State::Idle;
                    return Err(CommitError::Over(error));
                }
            }
        }
    }

    /// The commit cannot be; what there is of it is aborted.
    fn taken_back(&mut self, code: ErrorCode) -> Result<(), CommitError> {
        match self.abort(ABORT_LIMIT_MIN) {
            Ok(()) | Err(TransactionError::TimedOut { .. }) => Err(CommitError::Aborted { code }),
            Err(error) => Err(CommitError::Over(error)),
        }
    }

    fn abort(&mut self, limit: Duration) -> Result<(), TransactionError> {
        if self.state == State::Idle {
            return Ok(());
        }
        // Until the broker says so it stays open, and the next begin asks again.
        self.state = State::Open;
        let until = Instant::now() + limit;
        let mut tries_left = WRONG_STATE_TRIES;
        loop {
            let Err(error) = self.core.base().abort_transaction(call_limit(until)) else {
                self.state = State::Idle;
                return Ok(());
            };
            match TransactionError::of(&error) {
                TransactionError::TimedOut { .. } if may_retry(until) => thread::sleep(RETRY_PAUSE),
                error if is_wrong_state(&error) && tries_left > 0 => {
                    tries_left -= 1;
                    thread::sleep(RETRY_PAUSE);
                }
                error @ TransactionError::TimedOut { .. } => return Err(error),
                error => {
                    self.state = State::Idle;
                    return Err(error);
                }
            }
        }
    }
}

fn call_limit(until: Instant) -> Duration {
    until
        .saturating_duration_since(Instant::now())
        .max(CALL_LIMIT_MIN)
}

fn is_wrong_state(error: &TransactionError) -> bool {
    matches!(error, TransactionError::Refused { code } if code.known() == Some(RDKafkaErrorCode::State))
}

fn may_retry(until: Instant) -> bool {
    Instant::now() + RETRY_PAUSE < until
}
