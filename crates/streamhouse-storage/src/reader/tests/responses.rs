//! What one response holds, and how long it is waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{decode, house};
use crate::batch::testing::TestBatch;
use crate::reader::ReadError;

#[tokio::test]
async fn a_response_is_shared_out_fairly_and_stays_within_its_limit() {
    let house = house(1 << 20, 0).await;
    for partition in 0..10 {
        house.append(partition, &[TestBatch::of(20, "a")]).await;
    }
    let one = TestBatch::of(20, "a").bytes().len();
    let all: Vec<_> = (0..10).map(|partition| (partition, 0)).collect();
    let mut served = [0; 10];
    for _ in 0..10 {
        let results = house.reader.fetch(&house.request(&all, one * 3)).await;
        let bytes: Vec<_> = results
            .into_iter()
            .map(|result| result.unwrap().records.length_bytes)
            .collect();
        assert_eq!(bytes.iter().sum::<usize>(), one * 3);
        bytes
            .iter()
            .enumerate()
            .filter(|(_, bytes)| **bytes > 0)
            .for_each(|(at, _)| served[at] += 1);
    }
    assert!(served.iter().all(|served| *served == 3), "{served:?}");
    // The first batch comes even where it is larger than every limit.
    let results = house.reader.fetch(&house.request(&all, 1)).await;
    assert_eq!(
        results
            .into_iter()
            .filter(|r| !r.as_ref().unwrap().records.is_empty())
            .count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiting_fetch_is_woken_by_the_commit_and_else_answers_empty_in_time() {
    let house = house(1 << 20, 16 << 10).await;
    let mut request = house.request(&[(0, 0), (1, 0)], 1 << 20);
    request.max_wait = Duration::from_secs(20);
    let start = Instant::now();
    let results = house.reader.fetch(&request).await;
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().unwrap().records.is_empty())
    );
    assert_eq!(start.elapsed(), Duration::from_secs(20));
    // The store's threads live in real time, so the rest of this test does too.
    tokio::time::resume();
    let reader = house.reader.clone();
    let waiting = tokio::spawn(async move { reader.fetch_woken(&request).await });
    // Until it waits.
    tokio::time::sleep(Duration::from_millis(500)).await;
    house.append(1, &[TestBatch::of(2, "late")]).await;
    let (results, woken_at) = waiting.await.unwrap();
    assert_eq!(decode(results[1].as_ref().unwrap()).len(), 2);
    assert!(woken_at.is_some_and(|at| at <= tokio::time::Instant::now()));
}

#[tokio::test]
async fn how_fresh_an_answer_is_counts_from_the_commit_that_made_it_enough() {
    let house = Arc::new(house(1 << 20, 0).await);
    // A fetch that comes too late to wait says nothing: there are more partitions to try it with.
    for partition in 0..10 {
        let waiting = tokio::spawn({
            let house = house.clone();
            async move {
                let mut request = house.request(&[(partition, 0)], 1 << 20);
                (request.min_bytes, request.max_wait) = (1_000, Duration::from_secs(60));
                house.reader.fetch_woken(&request).await.1
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        house.append(partition, &[TestBatch::of(1, "too little")]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = Instant::now();
        house
            .append(partition, &[TestBatch::of(1, &"enough".repeat(500))])
            .await;
        if let Some(woken_at) = waiting.await.unwrap() {
            assert!(woken_at >= before);
            return;
        }
    }
    panic!("no fetch waited");
}

#[tokio::test]
async fn a_fetch_that_waits_for_a_deleted_topic_is_told_at_once() {
    let house = house(1 << 20, 16 << 10).await;
    let mut request = house.request(&[(0, 0)], 1 << 20);
    request.max_wait = Duration::from_secs(600);
    let reader = house.reader.clone();
    let waiting = tokio::spawn(async move { reader.fetch(&request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    house.metadata.delete_topic(house.topic).await.unwrap();
    house.reader.forget(house.topic);
    let results = waiting.await.unwrap();
    assert!(matches!(results[0], Err(ReadError::UnknownPartition)));
}
