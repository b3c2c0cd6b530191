//! Judges a whole commit: every batch in order, each seeing what those before it changed.
//!
//! Outcomes are per batch, and one refusal never rolls another batch back (TRACES 6). Offsets are dense:
//! each accepted batch begins at the partition's high watermark. Each byte-adjacent run of accepted
//! batches of one partition becomes one segment; bytes of other batches are dead. Not here: who may
//! commit, numbers and deadlines (the store asks before), and row numbers of objects.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{IdMap, StoreTime, TopicPartition};
use crate::model::commit::{AppendRefusal, BatchEntry, BatchOutcome, CommitObject, ObjectOutcomes};
use crate::model::producer::ProducerState;
use crate::model::segment::NewSegment;
use crate::rules::producer::{self, Verdict};

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
/// A partition that is missing here does not exist. A producer that is missing has no row.
#[derive(Clone, Debug, Default)]
pub struct AppendStates {
    pub partitions: IdMap<TopicPartition, PartitionState>,
    pub producers: IdMap<(TopicPartition, i64), ProducerState>,
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
}

/// Judges `objects` and changes `states`. `now` is the store's time after it has taken its locks.
pub fn judge(
    states: &mut AppendStates,
    objects: &[CommitObject],
    now: StoreTime,
    gap_timeout: Duration,
) -> Judged {
    let mut judged = Judged::default();
    for object in objects {
        let mut outcomes = Vec::with_capacity(object.batches.len());
        let mut segments: Vec<NewSegment> = Vec::new();
        for batch in &object.batches {
            let outcome = judge_batch(states, batch, now, gap_timeout, &mut judged.changed_producers);
            if let BatchOutcome::Appended { base_offset, .. } = outcome {
                let partition = states.partitions.get_mut(&batch.partition);
                extend(&mut segments, batch, base_offset, partition, now);
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
    now: StoreTime,
    gap_timeout: Duration,
    changed: &mut BTreeSet<(TopicPartition, i64)>,
) -> BatchOutcome {
    let Some(partition) = states.partitions.get_mut(&batch.partition) else {
        return BatchOutcome::Refused(AppendRefusal::UnknownPartition);
    };
    let log_start_offset = partition.log_start_offset;
    let base_offset = partition.high_watermark;
    if let Some(stamp) = &batch.producer {
        let key = (batch.partition, stamp.producer_id);
        match producer::judge(
            states.producers.get(&key),
            stamp,
            batch.record_count,
            now,
            gap_timeout,
        ) {
            Verdict::Append => {
                let state = states.producers.remove(&key);
                let state = producer::remember(state, stamp, batch.record_count, base_offset, now);
                states.producers.insert(key, state);
                changed.insert(key);
            }
            Verdict::Duplicate { base_offset } => {
                return BatchOutcome::Duplicate {
                    base_offset,
                    log_start_offset,
                };
            }
            Verdict::Refused(refusal) => return BatchOutcome::Refused(refusal),
            Verdict::RefusedAndWaits { refusal, state } => {
                states.producers.insert(key, state);
                changed.insert(key);
                return BatchOutcome::Refused(refusal);
            }
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
