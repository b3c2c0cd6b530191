//! Reads of stored segments: what they cost, share and find damaged.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use streamhouse_observability::families::VerifyResult;

use super::{NO_TAIL, decode, house};
use crate::batch::testing::TestBatch;
use crate::reader::{OffsetQuery, ReadError, Reader, ReaderOptions, Tail};
use crate::stores::faulty::{Call, Plan};
use crate::stores::identity::IDENTITY_KEY;

#[tokio::test]
async fn misses_that_come_together_share_one_get() {
    let house = house(NO_TAIL, 0).await;
    house.append(0, &[TestBatch::of(10, "a")]).await;
    house.objects.close_gate(Call::Get);
    let reads: Vec<_> = (0..8)
        .map(|_| {
            let (reader, request) = (house.reader.clone(), house.request(&[(0, 0)], 1 << 20));
            tokio::spawn(async move {
                reader
                    .fetch(&request)
                    .await
                    .pop()
                    .unwrap()
                    .unwrap()
                    .records
                    .length_bytes
            })
        })
        .collect();
    house.objects.wait_until_held(Call::Get, 1).await;
    // Until the others have joined it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    house.objects.open_gate(Call::Get);
    for read in reads {
        assert!(read.await.unwrap() > 0);
    }
    assert_eq!(house.objects.count(Call::Get), 1);
    assert_eq!(house.metrics.cache.misses.value(), 8);
    house.fetch(0, 0, 1 << 20).await.unwrap();
    assert_eq!(
        (house.objects.count(Call::Get), house.metrics.cache.hits.value()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_read_runs_ahead_as_far_as_it_is_told_and_what_follows_is_there_already() {
    let house = house(NO_TAIL, 0).await;
    for _ in 0..10 {
        house.append(0, &[TestBatch::of(10, "a")]).await;
    }
    let one = TestBatch::of(10, "a").bytes().len();
    let options = ReaderOptions {
        cache_bytes: 1 << 20,
        fetch_bytes: 1 << 20,
        read_ahead_bytes: 3 * one as u64,
    };
    let objects = Arc::new(house.objects.clone());
    let tail = Arc::new(Tail::new(NO_TAIL, 0));
    let metrics = house.metrics.clone();
    let reader = Reader::new(options, house.metadata.clone(), objects, tail, metrics);
    house.objects.close_gate(Call::Get);
    let first = tokio::spawn({
        let request = house.request(&[(0, 0)], one);
        async move { (reader.fetch(&request).await, reader) }
    });
    // All four are under way before the first is here, and no fifth comes.
    house.objects.wait_until_held(Call::Get, 4).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    house.objects.open_gate(Call::Get);
    let (read, reader) = first.await.unwrap();
    assert_eq!(read[0].as_ref().unwrap().records.length_bytes, one);
    assert_eq!(house.objects.count(Call::Get), 4);
    // Only look-ups of reads count, and the one that waited was a miss.
    let cache = &house.metrics.cache;
    assert_eq!((cache.hits.value(), cache.misses.value()), (0, 1));
    let held_bytes = || {
        let text = house.metrics.render();
        let size = text
            .lines()
            .find_map(|line| line.strip_prefix("streamhouse_cache_size_bytes "));
        size.unwrap().parse::<usize>().unwrap()
    };
    while held_bytes() < 4 * one {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    reader.fetch(&house.request(&[(0, 10)], one)).await[0]
        .as_ref()
        .unwrap();
    assert_eq!((cache.hits.value(), cache.misses.value()), (1, 1));
}

#[tokio::test]
async fn what_a_read_finds_missing_or_damaged_is_counted_as_verification_counts_it() {
    let house = house(NO_TAIL, 0).await;
    house.append(0, &[TestBatch::of(2, "a")]).await;
    let key = house.objects.list(None).next().await.unwrap().unwrap().location;
    let found = |result| house.metrics.verify.segments(result).value();

    house.objects.plan(Call::Get, Plan::Truncate(5));
    assert!(matches!(
        house.fetch(0, 0, 100).await,
        Err(ReadError::Damaged { .. })
    ));
    assert_eq!(
        (found(VerifyResult::Missing), found(VerifyResult::Corrupt)),
        (0, 1)
    );

    house.objects.delete(&key).await.unwrap();
    let elsewhere = house.fetch(0, 0, 100).await;
    assert!(
        matches!(elsewhere, Err(ReadError::ObjectStore { .. })),
        "a store that has nothing at all"
    );
    let mark = Path::from(IDENTITY_KEY);
    house.objects.put(&mark, "ours".into()).await.unwrap();
    assert!(matches!(
        house.fetch(0, 0, 100).await,
        Err(ReadError::Missing { .. })
    ));
    let query = OffsetQuery::Timestamp(0);
    let asked = house.reader.list_offset(house.partition(0), query, false).await;
    assert!(matches!(asked, Err(ReadError::Missing { .. })));
    assert_eq!(
        (found(VerifyResult::Missing), found(VerifyResult::Corrupt)),
        (2, 1)
    );
}

#[tokio::test]
async fn short_bytes_are_damage_and_are_not_cached() {
    let house = house(NO_TAIL, 0).await;
    house.append(0, &[TestBatch::of(10, "a")]).await;
    house.objects.plan(Call::Get, Plan::Truncate(5));
    assert!(house.fetch(0, 0, 1 << 20).await.is_err());
    assert_eq!(decode(&house.fetch(0, 0, 1 << 20).await.unwrap()).len(), 10);
}

#[tokio::test]
async fn many_small_segments_never_use_the_memory_budget_up() {
    let house = house(NO_TAIL, 0).await;
    // More segments than the budget (1 MiB cache, 1 MiB fetch) has kilobytes.
    for round in 0..2_100 {
        house.append(0, &[TestBatch::of(1, &round.to_string())]).await;
    }
    for offset in 0..2_100 {
        let fetched = house.fetch(0, offset, 1).await.unwrap();
        assert_eq!(decode(&fetched)[0].0, offset);
    }
}

#[tokio::test]
async fn what_makes_room_in_the_cache_is_counted_and_its_size_stays_true() {
    let house = house(NO_TAIL, 0).await;
    // The cache holds 1 MiB: two of these, not three.
    let label = "x".repeat(400 << 10);
    for at in 0..3 {
        house.append(at, &[TestBatch::of(1, &label)]).await;
    }
    let mut segment_bytes = 0;
    for at in 0..3 {
        segment_bytes = house.fetch(at, 0, 1 << 20).await.unwrap().records.length_bytes;
    }
    let text = house.metrics.render();
    let gauge = |name: &str| -> usize {
        let prefix = format!("streamhouse_{name} ");
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap()
            .parse()
            .unwrap()
    };
    // An entry is charged what it takes beside its bytes, too.
    let two = 2 * segment_bytes;
    assert!(
        (two..two + 2_048).contains(&gauge("cache_size_bytes")),
        "{two}\n{text}"
    );
    assert_eq!(gauge("cache_limit_bytes"), 1 << 20);
    assert_eq!(house.metrics.cache.evictions.value(), 1);
    assert_eq!(house.metrics.cache.misses.value(), 3);
}

#[tokio::test]
async fn one_fetch_over_many_large_segments_leaves_room_for_others_and_reads_all_in_turns() {
    let house = house(NO_TAIL, 0).await;
    let large = TestBatch {
        values: vec![vec![b'x'; 200_000].into()],
        ..TestBatch::default()
    };
    for partition in 0..10 {
        house.append(partition, std::slice::from_ref(&large)).await;
    }
    // The cache and what responses may hold are 1 MiB each.
    let all: Vec<_> = (0..10).map(|partition| (partition, 0)).collect();
    let mut served = [false; 10];
    for _ in 0..10 {
        let results = house.reader.fetch(&house.request(&all, 10 << 20)).await;
        for (served, result) in served.iter_mut().zip(results) {
            *served |= !result.unwrap().records.is_empty();
        }
    }
    assert_eq!(served, [true; 10]);
}

#[tokio::test]
async fn what_lies_before_a_damaged_segment_is_read_all_the_same() {
    let house = house(NO_TAIL, 0).await;
    house.append(0, &[TestBatch::of(10, "whole")]).await;
    house.append(0, &[TestBatch::of(10, "damaged")]).await;
    assert_eq!(decode(&house.fetch(0, 0, 1).await.unwrap()).len(), 10);
    house.objects.plan(Call::Get, Plan::Truncate(1));
    let fetched = house.fetch(0, 0, 1 << 20).await.unwrap();
    assert_eq!(
        decode(&fetched).len(),
        10,
        "what is good, although more was asked for"
    );
    house.objects.plan(Call::Get, Plan::Truncate(1));
    let refused = house.fetch(0, 10, 1 << 20).await;
    assert!(matches!(refused, Err(ReadError::Damaged { .. })), "{refused:?}");
}
