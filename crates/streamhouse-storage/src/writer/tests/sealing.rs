//! When objects are sealed, stored, committed and acknowledged, and in which order.

use std::time::Duration;

use streamhouse_metadata::testing::CommitFault;
use streamhouse_observability::families::{BatchCount, Stage};

use super::{INLINE, base_offset, house, options};
use crate::batch::testing::TestBatch;
use crate::stores::faulty::{Call, Plan};
use crate::writer::{AppendError, Appended, WriterOptions};

#[tokio::test]
async fn a_small_batch_goes_inline_and_touches_no_object_store() {
    let house = house(options(INLINE)).await;
    assert_eq!(base_offset(&house.append(3, &TestBatch::of(2, "a")).await), 0);
    assert_eq!(base_offset(&house.append(3, &TestBatch::of(5, "b")).await), 2);
    assert_eq!(house.objects.calls(), []);
    assert_eq!(house.high_watermark(3).await, 7);
    let text = String::from_utf8_lossy(&house.read(3, 0).await).into_owned();
    assert!(text.contains("a-0") && text.contains("b-4"));
}

#[tokio::test]
async fn small_batches_do_not_wait_for_the_interval_and_cost_no_upload() {
    let house = house(WriterOptions {
        flush_interval: Duration::from_secs(3_600),
        ..options(INLINE)
    })
    .await;
    let large = TestBatch {
        values: vec![vec![b'x'; 20_000].into()],
        ..TestBatch::default()
    };
    assert_eq!(base_offset(&house.append(0, &large).await), 0);
    let small = TestBatch {
        values: vec![vec![b'y'; 5_000].into()],
        ..TestBatch::default()
    };
    // Twice what goes inline at once, of several partitions: pieces keep each one's order.
    let entries = (0..7).map(|at| house.entry(at % 2, &small)).collect();
    let results = house.writer.append(entries).await;
    let offsets: Vec<_> = results.iter().map(|r| r.as_ref().unwrap().base_offset).collect();
    assert_eq!(offsets, [1, 0, 2, 1, 3, 2, 4]);
    assert_eq!(house.objects.count(Call::Put), 1);
    assert_eq!(house.metadata.commits(), 4, "the large one and three pieces");
}

#[tokio::test]
async fn an_upload_is_acknowledged_only_after_it_was_stored_and_committed() {
    let house = house(options(0)).await;
    house.objects.close_gate(Call::Put);
    let mut pending = house.append(0, &TestBatch::of(1, "a"));
    house.objects.wait_until_held(Call::Put, 1).await;
    assert!(futures::poll!(&mut pending).is_pending());
    assert_eq!(house.high_watermark(0).await, 0);
    house.objects.open_gate(Call::Put);
    assert_eq!(base_offset(&pending.await), 0);
    assert_eq!(house.high_watermark(0).await, 1);
}

#[tokio::test]
async fn uploads_overlap_and_are_committed_in_the_order_of_sealing() {
    let house = house(options(0)).await;
    house
        .objects
        .plan(Call::Put, Plan::Delay(Duration::from_millis(200)));
    let first = house.append(0, &TestBatch::of(1, "first"));
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = house.append(0, &TestBatch::of(1, "second"));
    assert_eq!(base_offset(&second.await), 1);
    assert_eq!(base_offset(&first.await), 0);
    assert_eq!(house.objects.count(Call::Put), 2);
}

#[tokio::test]
async fn trace_12_batches_take_effect_in_the_order_of_the_calls() {
    let house = house(options(INLINE)).await;
    let pending: Vec<_> = (0..200)
        .map(|sequence| house.append(0, &TestBatch::of(1, "x").by(1, 0, sequence)))
        .collect();
    for (expected, pending) in pending.into_iter().enumerate() {
        assert_eq!(base_offset(&pending.await), expected as i64);
    }
}

#[tokio::test]
async fn a_thousand_partitions_cost_one_put() {
    let house = house(options(0)).await;
    let entries = (0..1_000)
        .map(|partition| house.entry(partition, &TestBatch::of(1, "p")))
        .collect();
    let results = house.writer.append(entries).await;
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().is_ok_and(|appended| appended.base_offset == 0))
    );
    assert_eq!(house.objects.count(Call::Put), 1);
}

#[tokio::test]
async fn duplicates_get_the_first_copys_offset_and_count_no_records() {
    let house = house(options(INLINE)).await;
    house.append(0, &TestBatch::of(3, "other")).await;
    let batch = TestBatch::of(2, "a").by(7, 0, 0);
    assert_eq!(base_offset(&house.append(0, &batch).await), 3);
    let again = house.append(0, &batch).await;
    assert!(matches!(
        again[0],
        Ok(Appended {
            base_offset: 3,
            duplicate: true,
            ..
        })
    ));
    assert_eq!(house.metrics.topic("orders").records.value(), 5);
    assert_eq!(house.metrics.produce.batches(BatchCount::Duplicate).value(), 1);
    let segments = house.metrics.partition("orders", 0);
    assert_eq!(
        (segments.segment_writes.value(), segments.segment_flushes.value()),
        (3, 3)
    );
}

#[tokio::test]
async fn closing_flushes_what_is_held_and_refuses_what_comes_after() {
    let house = house(options(0)).await;
    let pending: Vec<_> = (0..10).map(|_| house.append(0, &TestBatch::of(1, "x"))).collect();
    house.writer.close().await;
    for pending in pending {
        assert!(pending.await[0].is_ok());
    }
    assert_eq!(
        house.append(0, &TestBatch::of(1, "x")).await,
        [Err(AppendError::Stopping)]
    );
    assert_eq!(house.high_watermark(0).await, 10);
}

#[tokio::test]
async fn trace_31_without_room_for_inline_a_small_object_is_uploaded() {
    let house = house(options(INLINE)).await;
    house.metadata.fail_commits([CommitFault::InlineFull]);
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(2, "a")).await), 0);
    assert_eq!(house.objects.count(Call::Put), 1);
    // For a moment nothing is tried inline again.
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(2, "b")).await), 2);
    assert_eq!(house.objects.count(Call::Put), 2);
    let segments = house.metrics.partition("orders", 0);
    assert_eq!(
        (segments.segment_writes.value(), segments.segment_flushes.value()),
        (2, 2)
    );
    // The first was in two commits, and waited for the one that was carried out.
    assert_eq!(house.metrics.produce.stage(Stage::CommitWait).count(), 2);
}

#[tokio::test]
async fn one_commit_costs_one_request_whatever_the_number_of_partitions() {
    for partitions in [1, 1_000] {
        let house = house(options(0)).await;
        let before = house.metadata.requests();
        let entries = (0..partitions)
            .map(|partition| house.entry(partition, &TestBatch::of(1, "p")))
            .collect();
        house.writer.append(entries).await;
        assert_eq!(
            (house.metadata.commits(), house.metadata.requests() - before),
            (1, 1)
        );
        assert_eq!(house.objects.count(Call::Put), 1);
    }
}
