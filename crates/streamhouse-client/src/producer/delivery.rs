//! The fate of a record: who waits for it, and what it can be.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::error::ErrorCode;

/// Where an acknowledged record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub partition: i32,
    /// `None` where the broker acknowledged without one: with `Acks::None`, or when the answer to a first
    /// attempt was lost and the repeat was recognised as such.
    pub offset: Option<i64>,
    /// Milliseconds since 1970, as stored.
    pub timestamp_ms: Option<i64>,
}

/// Why a record was not acknowledged. All but [`Unknown`](Self::Unknown) are certain: it is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    #[error("topic {topic}: {bytes} bytes, and record_bytes_max is {bytes_max}")]
    TooLarge {
        topic: Arc<str>,
        bytes: usize,
        bytes_max: usize,
    },
    #[error("topic {topic}{}: refused: {code}", Place(*partition))]
    Refused {
        topic: Arc<str>,
        partition: Option<i32>,
        code: ErrorCode,
    },
    #[error("topic {topic}{}: not sent within the delivery timeout", Place(*partition))]
    TimedOut { topic: Arc<str>, partition: Option<i32> },
    /// Sent, and no answer tells. Sending it again may store it twice, also with an idempotent producer.
    #[error("topic {topic}{}: sent, but whether it is stored is unknown: {code}", Place(*partition))]
    Unknown {
        topic: Arc<str>,
        partition: Option<i32>,
        code: ErrorCode,
    },
    /// A newer producer has this one's transactional id: this one is over.
    #[error("topic {topic}: a newer producer has taken over: {code}")]
    Fenced { topic: Arc<str>, code: ErrorCode },
    /// This producer cannot go on, a new one can: librdkafka lost track of the sequence, for example.
    #[error("topic {topic}: the producer cannot go on: {code}")]
    Fatal { topic: Arc<str>, code: ErrorCode },
    #[error("topic {topic}: the transaction was aborted before the record was sent")]
    Aborted { topic: Arc<str> },
    #[error("topic {topic}: the producer is closed")]
    Closed { topic: Arc<str> },
}

struct Place(Option<i32>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |partition| write!(f, ", partition {partition}"))
    }
}

/// The fate of one record, to be awaited. Dropping it takes nothing back: the record is sent all the same.
#[derive(Debug)]
#[must_use = "a record's fate is only known when its delivery is awaited"]
pub struct Delivery {
    topic: Arc<str>,
    answer: oneshot::Receiver<Result<Delivered, SendError>>,
}

impl Future for Delivery {
    type Output = Result<Delivered, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        // Every record has its report; without one the process is on its way out.
        Poll::Ready(answer.unwrap_or_else(|_| {
            Err(SendError::Unknown {
                topic: self.topic.clone(),
                partition: None,
                code: ErrorCode::DESTROYED,
            })
        }))
    }
}

/// Who waits for a report. It travels with the record, and so does the room that the record takes.
pub(crate) struct Pending {
    topic: Arc<str>,
    answer: oneshot::Sender<Result<Delivered, SendError>>,
    _room: OwnedSemaphorePermit,
    _unanswered: Arc<()>,
}

impl Pending {
    pub(crate) fn new(topic: Arc<str>, room: OwnedSemaphorePermit, unanswered: Arc<()>) -> (Self, Delivery) {
        let (sender, answer) = oneshot::channel();
        let pending = Self {
            topic: topic.clone(),
            answer: sender,
            _room: room,
            _unanswered: unanswered,
        };
        (pending, Delivery { topic, answer })
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Nobody may be waiting any more, which is the sender's choice.
    pub(crate) fn answer(self, fate: Result<Delivered, SendError>) {
        let _ = self.answer.send(fate);
    }
}
