//! Reads of the newest records, and of where a log ends.

use std::sync::Arc;

use streamhouse_metadata::model::retention::DeleteUpTo;

use super::{decode, house};
use crate::batch::testing::TestBatch;
use crate::reader::{ReadError, Reader, ReaderOptions, Tail};

#[tokio::test]
async fn tail_reads_touch_no_store() {
    let house = house(1 << 20, 0).await;
    house.append(0, &[TestBatch::of(3, "a")]).await;
    let calls = house.objects.calls().len();
    let records = decode(&house.fetch(0, 1, 1 << 20).await.unwrap());
    assert_eq!(records.len(), 3, "the batch that holds the offset comes whole");
    assert_eq!(house.objects.calls().len(), calls);
    assert_eq!(
        (
            house.metrics.cache.hits.value(),
            house.metrics.cache.misses.value()
        ),
        (0, 0)
    );
}

#[tokio::test]
async fn trace_02_out_of_range_is_told_from_the_store_and_the_end_is_in_range() {
    let house = house(1 << 20, 16 << 10).await;
    house.append(0, &[TestBatch::of(3, "a")]).await;
    assert!(house.fetch(0, 3, 1 << 20).await.unwrap().records.is_empty());
    let error = house.fetch(0, 4, 1 << 20).await.unwrap_err();
    let ReadError::OutOfRange { offset: 4, snapshot } = error else {
        panic!("{error}")
    };
    assert_eq!(snapshot.high_watermark, 3);
    assert!(matches!(
        house.fetch(0, -1, 1 << 20).await,
        Err(ReadError::OutOfRange { .. })
    ));
    assert!(matches!(
        house.fetch(99, 0, 1 << 20).await,
        Err(ReadError::UnknownPartition)
    ));
}

#[tokio::test]
async fn trace_01_a_hole_in_the_tail_is_a_miss() {
    let house = house(1 << 20, 16 << 10).await;
    let (first, missing, last) = (
        TestBatch::of(10, "a"),
        TestBatch::of(10, "b"),
        TestBatch::of(10, "c"),
    );
    for batch in [&first, &missing, &last] {
        house.append(0, std::slice::from_ref(batch)).await;
    }
    // A tail that saw the first and the last of these commits only.
    let tail = Arc::new(Tail::new(1 << 20, 0));
    tail.append(house.partition(0), 0, 0, &first.admitted());
    tail.append(house.partition(0), 20, 0, &last.admitted());
    let options = ReaderOptions {
        cache_bytes: 1 << 20,
        fetch_bytes: 1 << 20,
        read_ahead_bytes: 0,
    };
    let objects = Arc::new(house.objects.clone());
    let reader = Reader::new(
        options,
        house.metadata.clone(),
        objects,
        tail,
        house.metrics.clone(),
    );
    for (offset, value) in [(0, "a-0"), (10, "b-0"), (20, "c-0")] {
        let fetched = reader
            .fetch(&house.request(&[(0, offset)], 1))
            .await
            .pop()
            .unwrap()
            .unwrap();
        assert_eq!(decode(&fetched)[0], (offset, value.to_owned()));
    }
}

/// A raised log start is obeyed also by what arrives in the tail afterwards with an older one.
#[tokio::test]
async fn trace_03_the_tail_serves_nothing_below_a_raised_log_start() {
    let house = house(1 << 20, 16 << 10).await;
    for label in ["a", "b"] {
        house.append(0, &[TestBatch::of(10, label)]).await;
    }
    let partition = house.partition(0);
    let up_to = [(partition, DeleteUpTo::Offset(15))];
    house.metadata.delete_records(&up_to).await.unwrap();
    house.reader.raise_log_start(partition, 15);
    for offset in [0, 9, 14] {
        let refused = house.fetch(0, offset, 1 << 20).await;
        assert!(
            matches!(refused, Err(ReadError::OutOfRange { snapshot, .. }) if snapshot.log_start_offset == 15),
            "{refused:?}"
        );
    }
    let fetched = house.fetch(0, 15, 1 << 20).await.unwrap();
    assert_eq!(fetched.snapshot.log_start_offset, 15);
    assert_eq!(decode(&fetched)[0].0, 10, "whole batches, as in Kafka");

    let tail = Tail::new(1 << 20, 0);
    tail.raise_log_start(partition, 15);
    tail.append(partition, 0, 0, &TestBatch::of(10, "a").admitted());
    tail.append(partition, 10, 0, &TestBatch::of(10, "b").admitted());
    assert!(tail.read(partition, 9, 1 << 20).is_none() && tail.read(partition, 14, 1 << 20).is_none());
    let (snapshot, batches) = tail.read(partition, 15, 1 << 20).unwrap();
    assert_eq!((snapshot.log_start_offset, batches[0].0), (15, 10));
}
