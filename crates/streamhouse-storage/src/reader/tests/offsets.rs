//! Every record from every place, and offsets by time.

use proptest::prelude::{ProptestConfig, any, proptest};

use super::{NO_TAIL, house};
use crate::batch::testing::TestBatch;
use crate::reader::OffsetQuery;

#[tokio::test]
async fn any_start_offset_is_served_from_objects_tail_and_inline_rows() {
    for (tail_bytes, inline_bytes) in [(NO_TAIL, 0), (1 << 20, 0), (NO_TAIL, 16 << 10), (400, 0)] {
        let house = house(tail_bytes, inline_bytes).await;
        let mut expected = Vec::new();
        for round in 0..5 {
            let batches: Vec<_> = (0..3)
                .map(|b| TestBatch::of(b + 1, &format!("{round}.{b}")))
                .collect();
            house.append(4, &batches).await;
            for batch in &batches {
                expected.extend(
                    batch
                        .values
                        .iter()
                        .map(|v| String::from_utf8(v.to_vec()).unwrap()),
                );
            }
        }
        for start in 0..expected.len() {
            for max_bytes in [1, 300, 1 << 20] {
                let told = house.consume(4, start as i64, max_bytes).await;
                let wanted: Vec<_> = (start..expected.len())
                    .map(|offset| (offset as i64, expected[offset].clone()))
                    .collect();
                assert_eq!(told, wanted, "from {start}, {max_bytes} bytes, tail {tail_bytes}");
            }
        }
    }
}

#[tokio::test]
async fn trace_14_offsets_are_found_by_time_to_the_exact_record() {
    let house = house(NO_TAIL, 0).await;
    // Timestamps 1000.. for ten records, then an older batch, then a newer one.
    for base in [1_000, 500, 2_000] {
        house.append(0, &[TestBatch::of(10, "a").at(base)]).await;
    }
    let find = async |query| {
        house
            .reader
            .list_offset(house.partition(0), query, false)
            .await
            .unwrap()
    };
    assert_eq!(find(OffsetQuery::Earliest).await.offset, 0);
    assert_eq!(find(OffsetQuery::Latest).await.offset, 30);
    for (timestamp, offset, found) in [
        (0, 0, 1_000),
        (1_004, 4, 1_004),
        (1_010, 20, 2_000),
        (2_009, 29, 2_009),
        (2_010, -1, -1),
    ] {
        let told = find(OffsetQuery::Timestamp(timestamp)).await;
        assert_eq!((told.offset, told.timestamp), (offset, found), "{timestamp}");
    }
    let max = find(OffsetQuery::MaxTimestamp).await;
    assert_eq!((max.offset, max.timestamp), (29, 2_009));
}

/// A producer wrote larger timestamps into headers than its records have.
#[tokio::test]
async fn a_batch_that_claims_a_later_time_than_its_records_have_hides_nothing_behind_it() {
    let house = house(NO_TAIL, 0).await;
    for _ in 0..2 {
        let liar = TestBatch {
            claimed_timestamp: Some(9_000),
            ..TestBatch::of(10, "liar").at(1_000)
        };
        house.append(0, &[liar]).await;
    }
    house.append(0, &[TestBatch::of(10, "honest").at(2_000)]).await;
    let partition = house.partition(0);
    let query = OffsetQuery::Timestamp(2_004);
    let found = house.reader.list_offset(partition, query, false).await.unwrap();
    assert_eq!((found.offset, found.timestamp), (24, 2_004));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_the_cuts_every_record_is_read_once_and_in_order(
        rounds in proptest::collection::vec(proptest::collection::vec(1usize..8, 1..6), 1..8),
        tail_bytes in 0u64..2_000,
        inline in any::<bool>(),
        start in any::<proptest::sample::Index>(),
        max_bytes in 1usize..2_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let house = house(tail_bytes, if inline { 16 << 10 } else { 0 }).await;
            let mut expected = Vec::new();
            for (round, sizes) in rounds.iter().enumerate() {
                let batches: Vec<_> =
                    sizes.iter().enumerate().map(|(b, size)| TestBatch::of(*size, &format!("{round}.{b}"))).collect();
                house.append(2, &batches).await;
                for batch in &batches {
                    expected.extend(batch.values.iter().map(|v| String::from_utf8(v.to_vec()).unwrap()));
                }
            }
            let start = start.index(expected.len());
            let wanted: Vec<_> =
                (start..expected.len()).map(|offset| (offset as i64, expected[offset].clone())).collect();
            assert_eq!(house.consume(2, start as i64, max_bytes).await, wanted);
        });
    }
}
