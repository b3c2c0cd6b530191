//! What a batch holds in memory, for how long, and that it is charged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{house, options};
use crate::batch::testing::TestBatch;
use crate::writer::AppendError;

#[tokio::test]
async fn withdrawn_bytes_are_charged_as_long_as_they_are_held() {
    let house = house(options(0)).await;
    house.metadata.set_down(true);
    let permit: Arc<dyn std::any::Any + Send + Sync> = Arc::new(());
    let mut entry = house.entry(0, &TestBatch::of(1, "expired"));
    entry.deadline = Instant::now() + Duration::from_millis(100);
    entry.permit = Some(permit.clone());
    assert_eq!(
        house.writer.append(vec![entry]).await,
        [Err(AppendError::TimedOut)]
    );
    assert_eq!(
        Arc::strong_count(&permit),
        2,
        "the object still waits for its commit"
    );
    house.metadata.set_down(false);
    house
        .append(0, &TestBatch::of(1, "next"))
        .await
        .pop()
        .unwrap()
        .unwrap();
    house.writer.close().await;
    assert_eq!(Arc::strong_count(&permit), 1);
}

#[tokio::test]
async fn a_small_batch_does_not_keep_a_large_refused_neighbour_in_memory() {
    let house = house(options(0)).await;
    let large = TestBatch {
        values: vec![vec![b'x'; 500_000].into()],
        ..TestBatch::default()
    };
    let (large, small) = (large.by(7, 0, 0), TestBatch::of(1, "small"));
    // A request of which everything is appended stays as it came, and one of which the large batch is a
    // duplicate does not.
    for (round, kept) in [(0, true), (1, false)] {
        let frame: Arc<Vec<u8>> = Arc::new([&large.bytes()[..], &small.bytes()[..]].concat());
        let held = Arc::downgrade(&frame);
        let bytes = Bytes::from_owner(Frame(frame));
        let at = large.bytes().len();
        let mut entries = vec![house.entry(0, &large), house.entry(1, &small)];
        entries[0].batch.bytes = bytes.slice(..at);
        entries[1].batch.bytes = bytes.slice(at..);
        drop(bytes);
        let results = house.writer.append(entries).await;
        assert_eq!(results[0].as_ref().unwrap().duplicate, round > 0);
        assert_eq!(results[1].as_ref().unwrap().base_offset, round);
        assert_eq!(held.upgrade().is_some(), kept, "round {round}");
        let text = String::from_utf8_lossy(&house.read(1, round).await).into_owned();
        assert!(text.contains("small-0"));
    }
}

/// What a listener reads: one piece of memory for all batches of a request.
struct Frame(Arc<Vec<u8>>);

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
