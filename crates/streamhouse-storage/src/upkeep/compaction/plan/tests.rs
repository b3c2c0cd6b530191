use proptest::prelude::*;
use streamhouse_metadata::ids::{StoreTime, TopicId, TopicPartition};
use uuid::Uuid;

use super::*;
use crate::batch::testing::TestBatch;
use crate::object::build;

fn partition(number: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(Uuid::from_u128(9)),
        partition: number,
    }
}

/// One inline object of one segment: `records` records from `base_offset` on.
fn object(id: i64, number: i32, base_offset: i64, records: usize) -> (Segment, Bytes) {
    let batch = TestBatch::of(records, &format!("{number}@{base_offset}")).bytes();
    let segment = Segment {
        partition: partition(number),
        base_offset,
        last_offset: base_offset + records as i64 - 1,
        object: ObjectId(id),
        position: 3,
        length_bytes: batch.len() as u32,
        record_count: records as u32,
        max_timestamp: 1_000 + id,
        running_max_timestamp: 2_000 + id,
        committed_at: StoreTime(id),
    };
    let payload = [b"xyz", &batch[..], b"footer"].concat();
    (segment, Bytes::from(payload))
}

fn plan_of(objects: &[(Segment, Bytes)]) -> Plan {
    let segments: Vec<_> = objects.iter().map(|(segment, _)| *segment).collect();
    let payloads = objects
        .iter()
        .map(|(segment, payload)| (segment.object, payload.clone()))
        .collect();
    plan(&segments, &payloads)
}

#[test]
fn neighbours_become_one_row_and_a_gap_begins_a_new_swap() {
    let plan = plan_of(&[
        object(3, 0, 20, 5),
        object(1, 0, 0, 4),
        object(4, 1, 0, 1),
        object(2, 0, 4, 6),
    ]);
    let runs: Vec<_> = plan
        .swaps
        .iter()
        .map(|swap| {
            (
                swap.replaced.len(),
                swap.added
                    .iter()
                    .map(|row| (row.partition.partition, row.base_offset, row.last_offset))
                    .collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        runs,
        [(2, vec![(0, 0, 9)]), (1, vec![(0, 20, 24)]), (1, vec![(1, 0, 0)])]
    );
    let joined = &plan.swaps[0].added[0];
    assert_eq!((joined.record_count, joined.max_timestamp), (10, 1_002));
    assert_eq!(
        (joined.running_max_timestamp, joined.committed_at),
        (2_002, StoreTime(2))
    );
}

#[test]
fn a_damaged_segment_stays_where_it_is_and_nothing_is_joined_across_it() {
    let mut objects = [object(1, 0, 0, 2), object(2, 0, 2, 2), object(3, 0, 4, 2)];
    let mut bytes = objects[1].1.to_vec();
    bytes[3 + 70] ^= 1;
    objects[1].1 = Bytes::from(bytes);
    let plan = plan_of(&objects);
    assert_eq!(plan.damaged, [objects[1].0]);
    let covered: Vec<_> = plan.swaps.iter().map(|swap| swap.added[0].base_offset).collect();
    assert_eq!(covered, [0, 4]);
}

#[test]
fn a_row_that_reaches_beyond_its_object_is_damaged() {
    let mut objects = [object(1, 0, 0, 2)];
    objects[0].0.position = 1_000_000;
    assert_eq!(plan_of(&objects).damaged.len(), 1);
    objects[0].0.position = u64::MAX;
    assert_eq!(plan_of(&objects).damaged.len(), 1);
}

#[test]
fn joining_stops_at_the_size_that_a_reader_may_have_to_fetch() {
    let big = |id: i64, base: i64| {
        let (mut segment, _) = object(id, 0, base, 1);
        let batch = TestBatch {
            values: vec![Bytes::from(vec![7; 400_000])],
            ..TestBatch::of(1, "")
        }
        .bytes();
        segment.position = 0;
        segment.length_bytes = batch.len() as u32;
        (segment, batch)
    };
    let plan = plan_of(&[big(1, 0), big(2, 1), big(3, 2)]);
    let rows: Vec<_> = plan.swaps[0]
        .added
        .iter()
        .map(|row| (row.base_offset, row.last_offset))
        .collect();
    assert_eq!(rows, [(0, 1), (2, 2)]);
}

proptest! {
    /// Whatever the layout, the new rows tile exactly what the old ones covered, and their bytes in the
    /// new object are the old bytes in the order of the offsets.
    #[test]
    fn new_rows_cover_the_same_offsets_with_the_same_bytes(
        layout in prop::collection::vec((0i32..3, 1usize..4, prop::bool::weighted(0.2)), 1..30),
        seed in any::<u64>(),
    ) {
        let mut next = [0i64; 3];
        let mut objects = Vec::new();
        for (id, (number, records, gap)) in layout.into_iter().enumerate() {
            let base = &mut next[number as usize];
            *base += i64::from(gap) * 7;
            objects.push(object(id as i64, number, *base, records));
            *base += records as i64;
        }
        let len = objects.len();
        objects.rotate_left((seed % len as u64) as usize);
        let plan = plan_of(&objects);
        let built = build(&plan.parts).payload.concat();

        let mut covered = 0;
        for swap in &plan.swaps {
            let mut bytes = Vec::new();
            for old in &swap.replaced {
                let payload = &objects.iter().find(|(segment, _)| segment.object == old.object).unwrap().1;
                bytes.extend_from_slice(&payload[3..3 + old.length_bytes as usize]);
            }
            let first = &swap.added[0];
            let total: u64 = swap.added.iter().map(|row| u64::from(row.length_bytes)).sum();
            let from = first.position as usize;
            prop_assert_eq!(&built[from..from + total as usize], &bytes[..]);
            prop_assert_eq!(first.base_offset, swap.replaced[0].base_offset);
            for rows in swap.added.windows(2) {
                prop_assert_eq!(rows[0].last_offset + 1, rows[1].base_offset);
                prop_assert_eq!(rows[0].position + u64::from(rows[0].length_bytes), rows[1].position);
            }
            prop_assert_eq!(swap.added.last().unwrap().last_offset, swap.replaced.last().unwrap().last_offset);
            covered += swap.replaced.len();
        }
        prop_assert_eq!(covered, len);
    }
}
