//! Committing what is processed, and finding out what was refused of it.
//!
//! A commit can be refused in part: for a topic that is gone, or one that we may not read any more. librdkafka does
//! not tell which part: it answers with the code of the last partition that was refused, and gives that code to the
//! accepted ones as well (`rd_kafka_handle_OffsetCommit`, `rd_kafka_cgrp_update_committed_offsets`). So a commit
//! that failed for a reason that may be one partition's alone is said again in parts, topic by topic, and then, of the
//! topics that failed, partition by partition. What was accepted before is accepted again, which changes nothing; and
//! what is said of one partition alone is true of it.
//!
//! What always holds: only what a broker has accepted counts as committed. All else stays to be committed, is counted,
//! and is said to whoever asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;

use super::super::assignment::{self, Position};
use super::super::{ConsumeError, RefusedOffset};
use super::Poller;
use crate::config::Commits;
use crate::error::ErrorCode;
use crate::metrics::ConsumerErrorType;
use crate::native::{self, CommitAnswer};

/// How many commits are under way at once.
const PARTS_MAX: usize = 100;

impl Poller {
    pub(super) fn commit_asked(&mut self) -> Result<(), ConsumeError> {
        if self.shared.commits == Commits::InTransactions {
            return Err(ConsumeError::CommitsInTransactions {
                group: self.shared.group.clone(),
            });
        }
        self.commit(None)
    }

    /// Commits what is processed; nothing where transactions do.
    pub(super) fn commit(&mut self, until: Option<Instant>) -> Result<(), ConsumeError> {
        if self.shared.commits == Commits::InTransactions {
            return Ok(());
        }
        let positions = self.shared.assignment.uncommitted();
        if positions.is_empty() {
            return Ok(());
        }
        let mut failed = Vec::new();
        let mut parts = vec![positions];
        while !parts.is_empty() {
            let answers = self.say(&parts, until);
            let mut smaller = Vec::new();
            for (part, answer) in parts.into_iter().zip(answers) {
                let Some(codes) = judge(&answer, &part) else {
                    smaller.extend(split(part));
                    continue;
                };
                for (position, code) in part.into_iter().zip(codes) {
                    match code {
                        None => position.is_committed(),
                        Some(code) => failed.push((position, code)),
                    }
                }
            }
            parts = smaller;
        }
        if failed.is_empty() {
            return Ok(());
        }
        self.count(&failed);
        Err(error(&self.shared.group, &failed))
    }

    fn say(&self, parts: &[Vec<Position>], until: Option<Instant>) -> Vec<CommitAnswer> {
        let client = self.shared.base.client();
        let mut answers = Vec::with_capacity(parts.len());
        for parts in parts.chunks(PARTS_MAX) {
            let lists: Vec<_> = parts.iter().map(|part| assignment::list(part)).collect();
            answers.extend(native::commit(client, &lists, until));
        }
        answers
    }

    /// Each partition that was refused for a reason of its own counts; what failed as a whole counts once.
    fn count(&self, failed: &[(Position, ErrorCode)]) {
        let mut wholes: BTreeMap<i32, (&str, ErrorCode)> = BTreeMap::new();
        for (position, code) in failed {
            if may_be_of_one_place(*code) {
                let error_type = ConsumerErrorType::of(*code);
                self.metrics.failed(position.topic(), error_type);
                continue;
            }
            let (topic, _) = wholes.entry(code.number()).or_insert((position.topic(), *code));
            if *topic != &**position.topic() {
                *topic = "";
            }
        }
        for (topic, code) in wholes.into_values() {
            self.metrics.failed(topic, ConsumerErrorType::of(code));
        }
    }
}

/// What became of each position; `None` where only smaller parts can tell.
fn judge(answer: &CommitAnswer, part: &[Position]) -> Option<Vec<Option<ErrorCode>>> {
    match answer.error {
        Some(code) if part.len() > 1 && may_be_of_one_place(code) => None,
        Some(code) => Some(vec![Some(code); part.len()]),
        None => {
            let code = |position: &Position| {
                let mut failed = answer.failed.iter();
                let found = failed.find(|(topic, partition, _)| {
                    *partition == position.partition() && **topic == **position.topic()
                });
                found.map(|(_, _, code)| *code)
            };
            Some(part.iter().map(code).collect())
        }
    }
}

/// By topic, or where there is only one, by partition. Positions come in the order of their topics.
fn split(part: Vec<Position>) -> Vec<Vec<Position>> {
    let has_topics = part.windows(2).any(|pair| pair[0].topic() != pair[1].topic());
    let mut parts: Vec<Vec<Position>> = Vec::new();
    for position in part {
        match parts.last_mut() {
            Some(last) if has_topics && last[0].topic() == position.topic() => last.push(position),
            _ => parts.push(vec![position]),
        }
    }
    parts
}

/// What a broker says of a partition, and not of the group.
fn may_be_of_one_place(code: ErrorCode) -> bool {
    matches!(
        code.known(),
        Some(
            Code::UnknownTopicOrPartition
                | Code::UnknownTopicId
                | Code::InvalidTopic
                | Code::TopicAuthorizationFailed
                | Code::OffsetMetadataTooLarge
                | Code::InvalidCommitOffsetSize
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
        )
    )
}

/// Whether it may have been committed all the same. An agent that answers REQUEST_TIMED_OUT does not know either.
fn is_unknown(code: ErrorCode) -> bool {
    ConsumerErrorType::of(code) == ConsumerErrorType::TimedOut
        || matches!(
            code.known(),
            Some(Code::RequestTimedOut | Code::BrokerTransportFailure)
        )
}

fn error(group: &Arc<str>, failed: &[(Position, ErrorCode)]) -> ConsumeError {
    let group = group.clone();
    if let Some((_, code)) = failed.iter().find(|(_, code)| is_unknown(*code)) {
        return ConsumeError::CommitUnknown { group, code: *code };
    }
    let refused = |(position, code): &(Position, ErrorCode)| RefusedOffset {
        topic: position.topic().clone(),
        partition: position.partition(),
        offset: position.offset(),
        code: *code,
    };
    ConsumeError::Commit {
        group,
        code: failed[0].1,
        refused: failed.iter().map(refused).collect(),
    }
}

#[cfg(test)]
mod tests;
