//! How consuming can fail.

use std::sync::Arc;

use crate::error::ErrorCode;

/// Why there is no next record, or why a call of the consumer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// One partition, or a whole topic, cannot be fetched. The others can.
    #[error("topic {topic}, partition {partition:?}, offset {offset:?}: {code}")]
    Fetch {
        topic: Arc<str>,
        partition: Option<i32>,
        offset: Option<i64>,
        code: ErrorCode,
    },
    /// The membership suffers; librdkafka joins again by itself.
    #[error("group {group}: {code}: {reason}")]
    Group {
        group: Arc<str>,
        code: ErrorCode,
        reason: String,
    },
    /// The consumer cannot go on; a new one can.
    #[error("group {group}: the consumer cannot go on: {code}: {reason}")]
    Fatal {
        group: Arc<str>,
        code: ErrorCode,
        reason: String,
    },
    #[error("group {group}: the commit was refused: {code}")]
    Commit { group: Arc<str>, code: ErrorCode },
    /// Committed or not: no answer tells. The next commit says it again.
    #[error("group {group}: whether the commit was done is unknown: {code}")]
    CommitUnknown { group: Arc<str>, code: ErrorCode },
    #[error("group {group}: the consumer was built with Commits::InTransactions: a transaction commits")]
    CommitsInTransactions { group: Arc<str> },
    #[error("topic {topic}, partition {partition}: not assigned to this consumer")]
    NotAssigned { topic: String, partition: i32 },
    #[error("topic {topic}, partition {partition}: {reason}")]
    Refused {
        topic: String,
        partition: i32,
        reason: String,
    },
    /// Where it stands is not certain any more: begin again with a new consumer.
    #[error("group {group}: cannot go back to what is committed: {reason}")]
    Rewind { group: Arc<str>, reason: String },
    #[error(transparent)]
    Processed(#[from] ProcessedError),
    #[error("group {group}: not left within the limit")]
    CloseTimedOut { group: Arc<str> },
    #[error("the consumer is closed")]
    Closed,
}

impl ConsumeError {
    /// Whether a further [`next`](crate::Consumer::next) is useless.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal { .. } | Self::Closed)
    }
}

/// A record was said to be processed after its partition had been taken away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic}, partition {partition}, offset {offset}: the partition is not ours any more")]
pub struct ProcessedError {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
}
