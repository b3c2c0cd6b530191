//! How consuming can fail.

use std::fmt;
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
    /// Refused for these partitions, of which there is at least one; `code` is what the first was refused for. They
    /// are said again with the next commit. What else was processed is committed.
    #[error("group {group}: the commit was refused for {}", Places(refused))]
    Commit {
        group: Arc<str>,
        code: ErrorCode,
        refused: Vec<RefusedOffset>,
    },
    /// Committed or not, all of it or a part: no answer tells. The next commit says it again.
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

/// How far a partition could not be committed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedOffset {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub code: ErrorCode,
}

/// As many of them as fit in a line.
struct Places<'a>(&'a [RefusedOffset]);

const SHOWN_MAX: usize = 10;

impl fmt::Display for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, place) in self.0.iter().take(SHOWN_MAX).enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            let RefusedOffset {
                topic,
                partition,
                offset,
                code,
            } = place;
            write!(
                f,
                "{comma}topic {topic}, partition {partition}, offset {offset}: {code}"
            )?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_commit_names_its_partitions_but_not_without_end() {
        let refused = |partition| RefusedOffset {
            topic: Arc::from("orders"),
            partition,
            offset: 7,
            code: ErrorCode::new(3),
        };
        let error = |count| ConsumeError::Commit {
            group: Arc::from("g"),
            code: ErrorCode::new(3),
            refused: (0..count).map(refused).collect(),
        };
        let code = ErrorCode::new(3);
        assert_eq!(
            error(2).to_string(),
            format!(
                "group g: the commit was refused for topic orders, partition 0, offset 7: {code}; \
                 topic orders, partition 1, offset 7: {code}"
            )
        );
        let long = error(1_000).to_string();
        assert!(long.ends_with("; and 990 more") && long.len() < 2_000, "{long}");
    }
}
