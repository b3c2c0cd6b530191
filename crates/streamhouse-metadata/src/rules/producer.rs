//! Judges one batch of an idempotent producer, as Kafka's `ProducerStateManager` does, with one named
//! deviation: a sequence gap is answered with a retriable refusal until it has lasted `gap_timeout`,
//! because the missing batch may still be on its way through another agent (TRACES 7).
//!
//! The order of the questions is the rule: a duplicate is looked for first, then the epoch, then the
//! sequence. Not here: offsets are only passed through; who is allowed to use a producer id is not asked.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::StoreTime;
use crate::model::commit::AppendRefusal;
use crate::model::producer::{Gap, ProducerStamp, ProducerState, REMEMBERED_BATCHES, RememberedBatch};

/// Sequences are 0 ..= 2^31 - 1 and wrap to 0.
const SEQUENCES: i64 = 1 << 31;

/// What to do with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It follows. [`remember`] it once its offset is known.
    Append,
    /// It was stored before, at this offset.
    Duplicate {
        base_offset: i64,
    },
    Refused(AppendRefusal),
    /// Refused as well, and the producer's row has to remember since when.
    RefusedAndWaits {
        refusal: AppendRefusal,
        state: ProducerState,
    },
}

/// The sequence of the last of `record_count` records that begin with `base_sequence`.
#[must_use]
pub fn last_sequence(base_sequence: i32, record_count: u32) -> i32 {
    wrap(i64::from(base_sequence) + i64::from(record_count) - 1)
}

fn next_sequence(last: i32) -> i32 {
    wrap(i64::from(last) + 1)
}

fn wrap(sequence: i64) -> i32 {
    i32::try_from(sequence.rem_euclid(SEQUENCES)).expect("a remainder of 2^31 fits 31 bits")
}

/// Whether `got` lies before `expected` on the circle of sequences: less than half of it back.
fn is_behind(got: i32, expected: i32) -> bool {
    (i64::from(got) - i64::from(expected)).rem_euclid(SEQUENCES) >= SEQUENCES / 2
}

/// Judges a batch of `record_count` records against what is known of its producer in its partition.
#[must_use]
pub fn judge(
    state: Option<&ProducerState>,
    stamp: &ProducerStamp,
    record_count: u32,
    now: StoreTime,
    gap_timeout: Duration,
) -> Verdict {
    let base = stamp.base_sequence;
    let Some(state) = state else {
        return if base == 0 {
            Verdict::Append
        } else {
            wait(None, stamp, 0, now)
        };
    };
    if stamp.epoch == state.epoch {
        let last = last_sequence(base, record_count);
        let same = |b: &&RememberedBatch| b.base_sequence == base && b.last_sequence == last;
        if let Some(first_copy) = state.batches.iter().find(same) {
            return Verdict::Duplicate {
                base_offset: first_copy.base_offset,
            };
        }
    }
    let Some(newest) = state.batches.back() else {
        return judge_unknown(state, stamp, now, gap_timeout);
    };
    if stamp.epoch < state.epoch {
        let refusal = AppendRefusal::StaleEpoch {
            current: state.epoch,
            got: stamp.epoch,
        };
        return Verdict::Refused(refusal);
    }
    let expected = if stamp.epoch == state.epoch {
        next_sequence(newest.last_sequence)
    } else {
        0
    };
    if base == expected {
        return Verdict::Append;
    }
    let out_of_order = Verdict::Refused(AppendRefusal::OutOfOrder { expected, got: base });
    // An old copy is not a gap: nothing that may still arrive would make it fit.
    if stamp.epoch == state.epoch && is_behind(base, expected) {
        return out_of_order;
    }
    match waited(state, stamp.epoch, now) {
        Some(waited) if waited >= gap_timeout => out_of_order,
        Some(_) => Verdict::Refused(AppendRefusal::GapPending { expected, got: base }),
        None => wait(Some(state), stamp, expected, now),
    }
}

/// No batch of this producer is known: a refusal created the row. As in Kafka any sequence may begin,
/// but only after the gap has been waited out.
fn judge_unknown(
    state: &ProducerState,
    stamp: &ProducerStamp,
    now: StoreTime,
    gap_timeout: Duration,
) -> Verdict {
    if stamp.base_sequence == 0 {
        return Verdict::Append;
    }
    match waited(state, stamp.epoch, now) {
        Some(waited) if waited >= gap_timeout => Verdict::Append,
        Some(_) => Verdict::Refused(AppendRefusal::GapPending {
            expected: 0,
            got: stamp.base_sequence,
        }),
        None => wait(Some(state), stamp, 0, now),
    }
}

/// How long the gap of this epoch has lasted; `None` when none of it is being waited out.
fn waited(state: &ProducerState, epoch: i16, now: StoreTime) -> Option<Duration> {
    let gap = state.gap.filter(|gap| gap.epoch >= epoch)?;
    Some(Duration::from_millis(
        u64::try_from(now.0.saturating_sub(gap.since.0)).unwrap_or(0),
    ))
}

fn wait(state: Option<&ProducerState>, stamp: &ProducerStamp, expected: i32, now: StoreTime) -> Verdict {
    let mut state = state.cloned().unwrap_or_else(|| ProducerState {
        epoch: stamp.epoch,
        batches: VecDeque::new(),
        gap: None,
        last_used: now,
    });
    if state.batches.is_empty() {
        state.epoch = state.epoch.max(stamp.epoch);
    }
    state.gap = Some(Gap {
        epoch: stamp.epoch,
        since: now,
    });
    state.last_used = now;
    Verdict::RefusedAndWaits {
        refusal: AppendRefusal::GapPending {
            expected,
            got: stamp.base_sequence,
        },
        state,
    }
}

/// The state after a batch was appended at `base_offset`.
#[must_use]
pub fn remember(
    state: Option<ProducerState>,
    stamp: &ProducerStamp,
    record_count: u32,
    base_offset: i64,
    now: StoreTime,
) -> ProducerState {
    let mut state = state
        .filter(|state| state.epoch == stamp.epoch)
        .unwrap_or_else(|| ProducerState {
            epoch: stamp.epoch,
            batches: VecDeque::with_capacity(1),
            gap: None,
            last_used: now,
        });
    if state.batches.len() == REMEMBERED_BATCHES {
        state.batches.pop_front();
    }
    state.batches.push_back(RememberedBatch {
        base_sequence: stamp.base_sequence,
        last_sequence: last_sequence(stamp.base_sequence, record_count),
        base_offset,
    });
    state.gap = None;
    state.last_used = now;
    state
}
