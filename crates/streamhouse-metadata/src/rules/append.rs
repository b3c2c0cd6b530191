//! Judges a whole commit: every batch in order, each seeing what those before it changed.
//!
//! Outcomes are per batch, and one refusal never rolls another batch back (TRACES 6). Offsets are dense:
//! each accepted batch begins at the partition's high watermark. Each byte-adjacent run of accepted
//! batches of one partition becomes one segment; bytes of other batches are dead. Not here: who may
//! commit, numbers and deadlines (the store asks before), and row numbers of objects.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{IdMap, StoreTime, TopicPartition};
use crate::model::commit::{AppendRefusal, BatchEntry, BatchOutcome, CommitObject, ObjectOutcomes};
use crate::model::producer::ProducerState;
use crate::model::segment::NewSegment;
use crate::model::transaction::Transaction;
use crate::rules::producer::{self, Verdict};
use crate::rules::transaction;

/// What the rules read and change of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionState {
    pub log_start_offset: i64,
    pub high_watermark: i64,
    /// Largest record timestamp so far, milliseconds; -1 while there is none.
    pub running_max_timestamp: i64,
}

impl PartitionState {
    /// A partition without records.
    pub const EMPTY: Self = Self {
        log_start_offset: 0,
        high_watermark: 0,
        running_max_timestamp: -1,
    };
}

/// The rows that a commit touches, as loaded; afterwards, as to be stored.
///
/// A partition that is missing here does not exist. A producer that is missing has no row, in
/// `transactions`: no transactional id.
#[derive(Clone, Debug, Default)]
pub struct AppendStates {
    pub partitions: IdMap<TopicPartition, PartitionState>,
    pub producers: IdMap<(TopicPartition, i64), ProducerState>,
    /// By producer id.
    pub transactions: IdMap<i64, Arc<Transaction>>,
}

/// What holds for a whole commit.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The store's time after it has taken its locks.
    pub now: StoreTime,
    pub gap_timeout: Duration,
    /// There is room for the markers of more transactions.
    pub may_begin: bool,
}

/// What a commit leads to. The new states lie in the [`AppendStates`] that were passed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// One entry an object, in the order of the request.
    pub outcomes: Vec<ObjectOutcomes>,
    /// The new segment rows of each object, in the same order. An object without any is dead: the
    /// store marks it deleting.
    pub segments: Vec<Vec<NewSegment>>,
    /// The producers whose row changed, in the lock order of partitions.
    pub changed_producers: BTreeSet<(TopicPartition, i64)>,
    /// The producer ids whose transactions changed.
    pub changed_transactions: BTreeSet<i64>,
}

/// Judges `objects` and changes `states`.
pub fn judge(states: &mut AppendStates, objects: &[CommitObject], terms: Terms) -> Judged {
    let mut judged = Judged::default();
    for object in objects {
        let mut outcomes = Vec::with_capacity(object.batches.len());
        let mut segments: Vec<NewSegment> = Vec::new();
        for batch in &object.batches {
            let outcome = judge_batch(states, batch, terms, &mut judged);
            if let BatchOutcome::Appended { base_offset, .. } = outcome {
                let partition = states.partitions.get_mut(&batch.partition);
                extend(&mut segments, batch, base_offset, partition, terms.now);
            }
            outcomes.push((batch.index, outcome));
        }
        outcomes.sort_unstable_by_key(|(index, _)| *index);
        judged.outcomes.push(ObjectOutcomes {
            counter: object.counter,
            batches: outcomes,
        });
        judged.segments.push(segments);
    }
    judged
}

fn judge_batch(
    states: &mut AppendStates,
    batch: &BatchEntry,
    terms: Terms,
    judged: &mut Judged,
) -> BatchOutcome {
    let Some(partition) = states.partitions.get_mut(&batch.partition) else {
        return BatchOutcome::Refused(AppendRefusal::UnknownPartition);
    };
    let log_start_offset = partition.log_start_offset;
    let base_offset = partition.high_watermark;
    if let Some(stamp) = &batch.producer {
        let key = (batch.partition, stamp.producer_id);
        let verdict = producer::judge(
            states.producers.get(&key),
            stamp,
            batch.record_count,
            terms.now,
            terms.gap_timeout,
        );
        // Duplicates are answered first, whatever became of their transaction.
        if let Verdict::Duplicate { base_offset } = verdict {
            return BatchOutcome::Duplicate {
                base_offset,
                log_start_offset,
            };
        }
        let row = states.transactions.get(&stamp.producer_id);
        let allowed = transaction::allows(
            row.map(Arc::as_ref),
            batch.transaction,
            stamp,
            batch.partition,
            terms.may_begin,
        );
        let joins = match allowed {
            Ok(joins) => joins,
            Err(refusal) => return BatchOutcome::Refused(refusal),
        };
        match verdict {
            Verdict::Append => {
                let state = states.producers.remove(&key);
                let state = producer::remember(state, stamp, batch.record_count, base_offset, terms.now);
                states.producers.insert(key, state);
                judged.changed_producers.insert(key);
                if joins && let Some(row) = states.transactions.get_mut(&stamp.producer_id) {
                    transaction::join(Arc::make_mut(row), batch.partition, base_offset, terms.now);
                    judged.changed_transactions.insert(stamp.producer_id);
                }
            }
            Verdict::Refused(refusal) => return BatchOutcome::Refused(refusal),
            Verdict::RefusedAndWaits { refusal, state } => {
                states.producers.insert(key, state);
                judged.changed_producers.insert(key);
                return BatchOutcome::Refused(refusal);
            }
            Verdict::Duplicate { .. } => {}
        }
    }
    partition.high_watermark += i64::from(batch.record_count);
    partition.running_max_timestamp = partition.running_max_timestamp.max(batch.max_timestamp);
    BatchOutcome::Appended {
        base_offset,
        log_start_offset,
    }
}

/// Adds an accepted batch to the segment that it continues, or begins a new one.
fn extend(
    segments: &mut Vec<NewSegment>,
    batch: &BatchEntry,
    base_offset: i64,
    partition: Option<&mut PartitionState>,
    now: StoreTime,
) {
    let running_max_timestamp = partition.map_or(batch.max_timestamp, |p| p.running_max_timestamp);
    let last_offset = base_offset + i64::from(batch.record_count) - 1;
    if let Some(open) = segments.last_mut()
        && open.partition == batch.partition
        && open.position + u64::from(open.length_bytes) == batch.position
        && open.last_offset + 1 == base_offset
        && let Some(length_bytes) = open.length_bytes.checked_add(batch.length_bytes)
        && let Some(record_count) = open.record_count.checked_add(batch.record_count)
    {
        open.length_bytes = length_bytes;
        open.record_count = record_count;
        open.last_offset = last_offset;
        open.max_timestamp = open.max_timestamp.max(batch.max_timestamp);
        open.running_max_timestamp = running_max_timestamp;
        return;
    }
    segments.push(NewSegment {
        partition: batch.partition,
        base_offset,
        last_offset,
        position: batch.position,
        length_bytes: batch.length_bytes,
        record_count: batch.record_count,
        max_timestamp: batch.max_timestamp,
        running_max_timestamp,
        committed_at: now,
    });
}
