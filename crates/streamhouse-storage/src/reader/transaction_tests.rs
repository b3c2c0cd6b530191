//! Reads of logs that transactions write: what is stable, what was aborted, who is woken.

use std::sync::Arc;
use std::time::Duration;

use streamhouse_metadata::model::commit::BatchTransaction;
use streamhouse_metadata::model::transaction::{AbortedRange, ProducerIdentity, TransactionResult};
use streamhouse_metadata::store::transactions::{EndTransaction, InitTransaction};

use super::tests::{House, decode, house};
use super::{FetchRequest, Fetched, OffsetQuery};
use crate::batch::testing::TestBatch;
use crate::object::encode_markers;

const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;

/// A tail that holds all, one that holds nothing with inline objects behind it, and with stored ones.
const PLACES: [(u64, u64); 3] = [(1 << 20, 0), (0, 1 << 14), (0, 0)];

impl House {
    async fn begin(&self) -> ProducerIdentity {
        let init = InitTransaction {
            transactional_id: "t".to_owned(),
            timeout_ms: 60_000,
            recovering: None,
            transactional_ids_max: 10,
            encode: Arc::new(encode_markers),
        };
        self.metadata.init_transaction(init).await.unwrap().producer
    }

    async fn write(&self, producer: ProducerIdentity, sequence: i32, label: &str) {
        let mut batch = TestBatch::of(2, label).by(producer.producer_id, producer.epoch, sequence);
        batch.attributes |= ATTRIBUTE_TRANSACTIONAL;
        let transaction = Some(BatchTransaction { implicit: true });
        self.append_as(0, &[batch], transaction).await;
    }

    async fn end(&self, producer: ProducerIdentity, result: TransactionResult) {
        let end = EndTransaction {
            transactional_id: "t".to_owned(),
            producer,
            result,
            bump_epoch: false,
            encode: Arc::new(encode_markers),
        };
        let ended = self.metadata.end_transaction(end).await.unwrap();
        self.reader.tail.append_markers(&ended.markers);
    }

    fn committed(&self, offset: i64) -> FetchRequest {
        FetchRequest {
            read_committed: true,
            ..self.request(&[(0, offset)], 1 << 20)
        }
    }

    async fn read(&self, request: &FetchRequest) -> Fetched {
        self.reader.fetch(request).await.pop().unwrap().unwrap()
    }
}

fn offsets(fetched: &Fetched) -> Vec<i64> {
    decode(fetched).into_iter().map(|(offset, _)| offset).collect()
}

#[tokio::test]
async fn trace_03_committed_reads_end_at_the_last_stable_offset() {
    for (tail_bytes, inline_bytes) in PLACES {
        let house = house(tail_bytes, inline_bytes).await;
        house.append(0, &[TestBatch::of(1, "plain")]).await;
        let producer = house.begin().await;
        house.write(producer, 0, "first").await;
        house.append(0, &[TestBatch::of(1, "behind")]).await;

        let open = house.read(&house.committed(0)).await;
        assert_eq!(offsets(&open), [0]);
        assert_eq!(
            (open.snapshot.last_stable_offset, open.snapshot.high_watermark),
            (1, 4)
        );
        let all = house.read(&house.request(&[(0, 0)], 1 << 20)).await;
        assert_eq!(offsets(&all), [0, 1, 2, 3]);
        assert_eq!(all.snapshot.last_stable_offset, 1, "told to everybody");
        assert!(house.read(&house.committed(2)).await.records.is_empty());
        let latest = async |committed| {
            let found = house
                .reader
                .list_offset(house.partition(0), OffsetQuery::Latest, committed);
            found.await.unwrap().offset
        };
        assert_eq!((latest(true).await, latest(false).await), (1, 4));

        house.end(producer, TransactionResult::Abort).await;
        house.write(producer, 2, "second").await;
        house.end(producer, TransactionResult::Commit).await;
        let after = house.read(&house.committed(0)).await;
        assert_eq!(offsets(&after), [0, 1, 2, 3, 4, 5, 6, 7]);
        let range = AbortedRange {
            producer_id: producer.producer_id,
            first_offset: 1,
            last_offset: 4,
        };
        assert_eq!(after.aborted, [range]);
        assert_eq!(house.read(&house.committed(5)).await.aborted, []);
        let plain = house.read(&house.request(&[(0, 0)], 1 << 20)).await;
        assert_eq!(plain.aborted, [], "nobody asked");
        assert_eq!((latest(true).await, latest(false).await), (8, 8));
    }
}

#[tokio::test]
async fn a_segment_that_goes_on_behind_the_stable_end_is_cut_there() {
    for (tail_bytes, inline_bytes) in PLACES {
        let house = house(tail_bytes, inline_bytes).await;
        let producer = house.begin().await;
        // One object: a plain batch, then one of a transaction, in one segment.
        let mut inside = TestBatch::of(1, "inside").by(producer.producer_id, producer.epoch, 0);
        inside.attributes |= ATTRIBUTE_TRANSACTIONAL;
        let mut entries = house.entries(0, &[TestBatch::of(2, "plain")], None);
        let transaction = Some(BatchTransaction { implicit: true });
        entries.extend(house.entries(0, &[inside], transaction));
        house.writer.append(entries).await;
        let fetched = house.read(&house.committed(0)).await;
        assert_eq!(offsets(&fetched), [0, 1]);
        assert_eq!(fetched.snapshot.high_watermark, 3);
    }
}

#[tokio::test]
async fn the_tail_serves_committed_reads_no_further_than_they_are_told_what_was_aborted() {
    let house = house(1 << 20, 0).await;
    // Of the one segment that a fetch from the second batch looks up, the tail needs less than half.
    let before = [TestBatch::of(2, &"large".repeat(100)), TestBatch::of(2, "small")];
    let length: usize = before.iter().map(|batch| batch.admitted().bytes.len()).sum();
    house.append(0, &before).await;
    let producer = house.begin().await;
    house.write(producer, 0, "aborted").await;
    house.end(producer, TransactionResult::Abort).await;
    let mut request = house.request(&[(0, 2)], length);
    request.read_committed = true;
    let fetched = house.read(&request).await;
    assert_eq!((offsets(&fetched), fetched.aborted.len()), (vec![2, 3], 0));
    let next = house.read(&house.committed(4)).await;
    assert_eq!((offsets(&next), next.aborted.len()), (vec![4, 5, 6], 1));
}

#[tokio::test]
async fn a_committed_read_that_waits_is_woken_by_the_end() {
    let house = Arc::new(house(1 << 20, 0).await);
    let producer = house.begin().await;
    house.write(producer, 0, "first").await;
    let waiting = tokio::spawn({
        let house = house.clone();
        async move {
            let request = FetchRequest {
                max_wait: Duration::from_secs(60),
                ..house.committed(0)
            };
            offsets(&house.read(&request).await)
        }
    });
    // It may read before or after: either way it must not wait for its whole minute.
    tokio::task::yield_now().await;
    house.end(producer, TransactionResult::Commit).await;
    let woken = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    assert_eq!(woken.unwrap().unwrap(), [0, 1, 2]);
}
