//! Retention: logs begin later when their oldest segments are too old or too much, and what lies below a
//! log's start is removed.
//!
//! Two tasks, because DeleteRecords needs the second one only. Invariants: the metadata store decides, in
//! bounded rounds; what this agent remembers of a log learns of its new start before anything is removed;
//! objects go later still, when no segment names them and the grace period is over (`deleting`). Nothing is
//! asked again before the next segment can be too old, nor more often than the check interval.

use streamhouse_metadata::ids::TopicPartition;

use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts};

/// Partitions judged in one call.
const ROUND_PARTITIONS: usize = 1_000;
/// Rows removed by one step, and steps of one run.
const TRIM_ROWS: u32 = 1_000;
const STEPS_MAX: usize = 50;
/// How long to wait for rows whose removal fails.
const UNTRIMMED_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Removes segments that lie below their log's start.
pub struct TrimTask(pub UpkeepParts);

impl TrimTask {
    pub async fn run_once(&self) -> Result<Next, UpkeepError> {
        for _ in 0..STEPS_MAX {
            if self.0.metadata.trim_logs(TRIM_ROWS).await? {
                return Ok(Next::Idle);
            }
        }
        Ok(Next::Now)
    }
}

/// Raises log starts as the topics' limits of age and bytes say.
pub struct RetentionTask {
    parts: UpkeepParts,
    options: UpkeepOptions,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Partitions whose log begins later now.
    pub raised: usize,
    pub next: Next,
}

impl RetentionTask {
    pub fn new(parts: UpkeepParts, options: UpkeepOptions) -> Self {
        Self { parts, options }
    }

    /// One round over all partitions that have a limit.
    pub async fn run_once(&self) -> Result<RetentionReport, UpkeepError> {
        let metadata = &self.parts.metadata;
        let mut partitions = Vec::new();
        for topic in metadata.topics().await? {
            let limits = topic.config.retention();
            if limits.age_ms_max.is_some() || limits.bytes_max.is_some() {
                partitions.extend((0..topic.partitions).map(|partition| TopicPartition {
                    topic: topic.id,
                    partition,
                }));
            }
        }
        let mut report = RetentionReport::default();
        let (mut due, mut more) = (None, false);
        for chunk in partitions.chunks(ROUND_PARTITIONS) {
            let round = metadata.enforce_retention(chunk).await?;
            for (partition, offset) in &round.raised {
                self.parts.tail.raise_log_start(*partition, *offset);
            }
            report.raised += round.raised.len();
            due = due.into_iter().chain(round.due).min();
            more |= round.more;
        }
        report.next = if report.raised > 0 && more {
            // All that was looked at has gone. What is left is known once that is trimmed.
            Next::Now
        } else if more {
            Next::In(UNTRIMMED_PAUSE)
        } else if let Some(due) = due {
            let now = metadata.now().await?;
            let rest = super::until(now, due, std::time::Duration::ZERO);
            Next::In(rest.max(self.options.retention_check_interval))
        } else {
            Next::Idle
        };
        Ok(report)
    }
}
