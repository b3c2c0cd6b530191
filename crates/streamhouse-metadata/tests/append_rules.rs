//! Properties of the commit rules, checked against a reference log that knows nothing of sequences.
//!
//! Several idempotent producers write numbered batches to one partition through a network that delays,
//! repeats and reorders. Whatever it does: each batch is in the log at most once, a producer's batches
//! are in the order in which it made them, offsets are dense, and a retrying producer gets through.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use streamhouse_metadata::ids::{StoreTime, TopicId, TopicPartition};
use streamhouse_metadata::model::commit::{AppendRefusal, BatchEntry, BatchOutcome, CommitObject};
use streamhouse_metadata::model::producer::{ProducerStamp, REMEMBERED_BATCHES};
use streamhouse_metadata::rules::append::{AppendStates, Judged, PartitionState, Terms, judge};
use uuid::Uuid;

const GAP_TIMEOUT: Duration = Duration::from_secs(120);
const P: TopicPartition = TopicPartition {
    topic: TopicId(Uuid::nil()),
    partition: 0,
};

/// A batch as its producer made it: the `made`-th of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    producer: i64,
    made: usize,
    base_sequence: i32,
    records: u32,
}

impl Made {
    fn entry(self, index: u32) -> BatchEntry {
        let stamp = ProducerStamp {
            producer_id: self.producer,
            epoch: 0,
            base_sequence: self.base_sequence,
        };
        BatchEntry {
            index,
            partition: P,
            position: u64::from(index) * 10,
            length_bytes: 10,
            record_count: self.records,
            max_timestamp: i64::from(self.records),
            producer: Some(stamp),
            transaction: None,
        }
    }
}

fn terms(now: StoreTime) -> Terms {
    Terms {
        now,
        gap_timeout: GAP_TIMEOUT,
        may_begin: true,
    }
}

fn states() -> AppendStates {
    AppendStates {
        partitions: [(P, PartitionState::EMPTY)].into_iter().collect(),
        ..AppendStates::default()
    }
}

fn object(batches: &[Made]) -> CommitObject {
    let entries: Vec<_> = (0..)
        .zip(batches)
        .map(|(index, made)| made.entry(index))
        .collect();
    CommitObject {
        counter: 1,
        length_bytes: 10 * entries.len() as u64,
        payload: None,
        batches: entries,
    }
}

/// Segments must tile what was appended, and name only the bytes of accepted batches.
fn check_segments(before: i64, judged: &Judged, batches: &[Made]) -> (i64, u64) {
    let mut next = before;
    let mut bytes = 0;
    for segment in &judged.segments[0] {
        assert_eq!(segment.base_offset, next, "offsets are dense");
        assert_eq!(
            segment.last_offset - segment.base_offset + 1,
            i64::from(segment.record_count)
        );
        assert!(segment.position + u64::from(segment.length_bytes) <= 10 * batches.len() as u64);
        next = segment.last_offset + 1;
        bytes += u64::from(segment.length_bytes);
    }
    (next, bytes)
}

#[derive(Clone, Debug)]
enum Step {
    /// A producer sends its oldest unanswered batches, up to this many, beginning at the n-th.
    Send {
        producer: usize,
        from: usize,
        count: usize,
    },
    /// The last commit's batches arrive a second time.
    Again,
    /// Time passes, but a gap is never waited out.
    Pass(u16),
}

fn step(producers: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..producers, 0..3_usize, 1..6_usize)
            .prop_map(|(producer, from, count)| Step::Send { producer, from, count }),
        2 => Just(Step::Again),
        1 => (0..30_u16).prop_map(Step::Pass),
    ]
}

proptest! {
    /// The network delays, repeats and reorders; acknowledgements may be lost (`heard`).
    #[test]
    fn each_batch_is_appended_once_and_in_its_producers_order(
        records in proptest::collection::vec(1..400_u32, 30),
        steps in proptest::collection::vec((step(3), any::<bool>()), 1..120),
    ) {
        let mut states = states();
        let mut now = StoreTime(1_000);
        let mut log: Vec<Made> = Vec::new();
        let mut offsets: HashMap<(i64, usize), i64> = HashMap::new();
        // Per producer: what it made and still waits for.
        let mut waiting: Vec<VecDeque<Made>> = Vec::new();
        for producer in 0..3_i64 {
            let mut sequence = 0;
            let made = records.iter().enumerate().map(|(made, &records)| {
                let batch = Made { producer, made, base_sequence: sequence, records };
                sequence += i32::try_from(records).unwrap();
                batch
            });
            waiting.push(made.collect());
        }
        let mut last: Vec<Made> = Vec::new();
        for (step, heard) in steps {
            let sent = match step {
                Step::Send { producer, from, count } => {
                    // Never five ahead of an unanswered one, as a client keeps it.
                    let first = waiting[producer].front().map_or(0, |oldest| oldest.made);
                    let in_window = |made: &&Made| made.made < first + REMEMBERED_BATCHES;
                    let window = waiting[producer].iter().take_while(in_window);
                    window.skip(from).take(count).copied().collect()
                }
                Step::Again => last.clone(),
                Step::Pass(seconds) => {
                    now.0 += i64::from(seconds);
                    continue;
                }
            };
            let before = states.partitions[&P].high_watermark;
            let judged = judge(&mut states, &[object(&sent)], terms(now));
            let (end, bytes) = check_segments(before, &judged, &sent);
            prop_assert_eq!(end, states.partitions[&P].high_watermark);
            let mut next = before;
            let mut accepted = 0;
            for (made, (_, outcome)) in sent.iter().zip(&judged.outcomes[0].batches) {
                let key = (made.producer, made.made);
                match outcome {
                    BatchOutcome::Appended { base_offset, .. } => {
                        prop_assert_eq!(*base_offset, next);
                        next += i64::from(made.records);
                        accepted += 10;
                        log.push(*made);
                        prop_assert!(offsets.insert(key, *base_offset).is_none(), "appended twice: {:?}", made);
                    }
                    BatchOutcome::Duplicate { base_offset, .. } => {
                        prop_assert_eq!(offsets.get(&key), Some(base_offset), "the first copy's offset");
                    }
                    BatchOutcome::Refused(AppendRefusal::GapPending { .. }) => {
                        prop_assert!(!offsets.contains_key(&key), "stored, but refused as a gap: {:?}", made);
                    }
                    BatchOutcome::Refused(AppendRefusal::OutOfOrder { .. }) => {
                        prop_assert!(offsets.contains_key(&key), "only an old copy is out of order");
                    }
                    BatchOutcome::Refused(other) => prop_assert!(false, "{:?}", other),
                }
                if heard && !matches!(outcome, BatchOutcome::Refused(_)) {
                    waiting[usize::try_from(made.producer).unwrap()].retain(|other| other != made);
                }
            }
            prop_assert_eq!(next, end);
            prop_assert_eq!(bytes, accepted, "segments hold the bytes of accepted batches only");
            last = sent;
        }
        for producer in 0..3 {
            let order: Vec<_> = log.iter().filter(|m| m.producer == producer).map(|m| m.made).collect();
            prop_assert_eq!(&order, &(0..order.len()).collect::<Vec<_>>(), "in order and without holes");
        }
        // Whoever goes on asking in order gets everything in.
        for queue in &waiting {
            for made in queue {
                let judged = judge(&mut states, &[object(&[*made])], terms(now));
                let outcome = &judged.outcomes[0].batches[0].1;
                prop_assert!(!matches!(outcome, BatchOutcome::Refused(_)), "{:?} of {:?}", outcome, made);
            }
        }
    }

    /// Wherever in the circle a producer's sequences begin, they follow each other across the wrap.
    #[test]
    fn sequences_follow_each_other_across_the_wrap(
        begin in (i32::MAX - 500)..=i32::MAX,
        records in proptest::collection::vec(1..300_u32, 2..20),
    ) {
        let mut states = states();
        let mut sequence = i64::from(begin);
        let mut batches = Vec::new();
        for (made, records) in records.into_iter().enumerate() {
            let base_sequence = i32::try_from(sequence % (1 << 31)).unwrap();
            batches.push(Made { producer: 1, made, base_sequence, records });
            sequence += i64::from(records);
        }
        // An unknown producer may begin anywhere once the gap has been waited out.
        judge(&mut states, &[object(&batches[..1])], terms(StoreTime(0)));
        let now = StoreTime(120_000);
        let mut offset = 0;
        for (place, made) in batches.iter().enumerate() {
            let judged = judge(&mut states, &[object(&[*made])], terms(now));
            let appended = BatchOutcome::Appended { base_offset: offset, log_start_offset: 0 };
            prop_assert_eq!(&judged.outcomes[0].batches[0].1, &appended, "batch {}", place);
            let again = judge(&mut states, &[object(&[*made])], terms(now));
            let duplicate = BatchOutcome::Duplicate { base_offset: offset, log_start_offset: 0 };
            prop_assert_eq!(&again.outcomes[0].batches[0].1, &duplicate);
            offset += i64::from(made.records);
        }
    }

    /// The same states and the same request give the same answer: nothing hidden takes part.
    #[test]
    fn judging_is_a_function_of_its_input(
        batches in proptest::collection::vec((0..3_i64, 0..4_i16, 0..6_i32, 1..4_u32), 1..40),
        now in 0..300_000_i64,
    ) {
        let entries: Vec<_> = (0..).zip(&batches).map(|(index, &(producer_id, epoch, base_sequence, records))| {
            let made = Made { producer: producer_id, made: 0, base_sequence, records };
            let stamp = ProducerStamp { producer_id, epoch, base_sequence };
            BatchEntry { producer: Some(stamp), ..made.entry(index) }
        }).collect();
        let object = CommitObject { counter: 1, length_bytes: 400, payload: None, batches: entries };
        let (mut one, mut other) = (states(), states());
        let first = judge(&mut one, std::slice::from_ref(&object), terms(StoreTime(now)));
        let second = judge(&mut other, &[object], terms(StoreTime(now)));
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(&one.producers, &other.producers);
        for (key, state) in &one.producers {
            prop_assert!(state.batches.len() <= REMEMBERED_BATCHES);
            prop_assert!(state.gap.is_some() || !state.batches.is_empty(), "{:?}", key);
            prop_assert!(first.changed_producers.contains(key), "every row that is new was changed");
        }
        // Epochs in the log never go back.
        let mut newest: HashMap<i64, i16> = HashMap::new();
        for (&(producer, epoch, ..), (_, outcome)) in batches.iter().zip(&first.outcomes[0].batches) {
            if matches!(outcome, BatchOutcome::Appended { .. }) {
                let newest = newest.entry(producer).or_insert(epoch);
                prop_assert!(epoch >= *newest);
                *newest = epoch;
            }
        }
    }
}
