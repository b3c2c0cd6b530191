//! Reads from the tail, from the cache and from objects, checked record by record.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kafka_protocol::records::RecordBatchDecoder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use proptest::prelude::{ProptestConfig, any, proptest};
use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::commit::BatchTransaction;
use streamhouse_metadata::model::retention::DeleteUpTo;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_observability::Metrics;
use streamhouse_observability::families::{MetricsOptions, VerifyResult};
use tokio::time::Instant;

use super::{FetchPartition, FetchRequest, Fetched, OffsetQuery, ReadError, Reader, ReaderOptions, Tail};
use crate::batch::testing::TestBatch;
use crate::stores::faulty::{Call, Faulty, Plan};
use crate::stores::identity::IDENTITY_KEY;
use crate::writer::{Append, PartitionHandles, Writer, WriterHooks, WriterOptions, WriterParts};

pub(super) struct House {
    pub(super) writer: Writer,
    pub(super) reader: Arc<Reader>,
    pub(super) objects: Faulty,
    pub(super) metadata: Arc<dyn MetadataStore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) topic: TopicId,
}

pub(super) async fn house(tail_bytes: u64, inline_bytes_max: u64) -> House {
    let metadata: Arc<dyn MetadataStore> =
        Arc::new(SqliteStore::open(SqliteOptions::new(Location::Memory)).unwrap());
    let objects = Faulty::new(Arc::new(InMemory::new()));
    let metrics = Metrics::new(MetricsOptions::default());
    let topic = NewTopic {
        name: "orders".to_owned(),
        partitions: 20,
        config: TopicConfig::default(),
    };
    let limits = TopicLimits {
        topics_max: 10,
        partitions_max: 100,
    };
    let topic = metadata.create_topic(topic, limits).await.unwrap().id;
    let registered = metadata.register("127.0.0.1:9092").await.unwrap();
    let tail = Arc::new(Tail::new(tail_bytes, metadata.cluster().epoch));
    let parts = WriterParts {
        objects: Arc::new(objects.clone()),
        metadata: metadata.clone(),
        tail: tail.clone(),
        metrics: metrics.clone(),
        hooks: WriterHooks {
            abandoned: Box::new(|_| {}),
            committed: Box::new(|| {}),
            fatal: Box::new(|error| panic!("{error}")),
        },
    };
    let options = WriterOptions {
        flush_bytes: 1 << 20,
        flush_interval: Duration::ZERO,
        inline_bytes_max,
        upload_slots: 2,
        advertised: "127.0.0.1:9092".to_owned(),
    };
    let writer = Writer::start(options, parts, registered.incarnation)
        .await
        .unwrap();
    let reading = ReaderOptions {
        cache_bytes: 1 << 20,
        fetch_bytes: 1 << 20,
        read_ahead_bytes: 0,
    };
    let reader = Arc::new(Reader::new(
        reading,
        metadata.clone(),
        Arc::new(objects.clone()),
        tail,
        metrics.clone(),
    ));
    House {
        writer,
        reader,
        objects,
        metadata,
        metrics,
        topic,
    }
}

impl House {
    pub(super) fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: self.topic,
            partition,
        }
    }

    pub(super) async fn append(&self, partition: i32, batches: &[TestBatch]) -> i64 {
        self.append_as(partition, batches, None).await
    }

    pub(super) async fn append_as(
        &self,
        partition: i32,
        batches: &[TestBatch],
        transaction: Option<BatchTransaction>,
    ) -> i64 {
        let entries = self.entries(partition, batches, transaction);
        self.writer.append(entries).await[0].as_ref().unwrap().base_offset
    }

    pub(super) fn entries(
        &self,
        partition: i32,
        batches: &[TestBatch],
        transaction: Option<BatchTransaction>,
    ) -> Vec<Append> {
        batches
            .iter()
            .map(|batch| Append {
                partition: self.partition(partition),
                batch: batch.admitted(),
                transaction,
                deadline: Instant::now() + Duration::from_secs(29),
                handles: PartitionHandles {
                    topic: self.metrics.topic("orders"),
                    writes: self.metrics.partition("orders", partition),
                },
                permit: None,
            })
            .collect()
    }

    pub(super) fn request(&self, partitions: &[(i32, i64)], max_bytes: usize) -> FetchRequest {
        let partitions = partitions
            .iter()
            .map(|(partition, offset)| FetchPartition {
                partition: self.partition(*partition),
                offset: *offset,
                max_bytes,
            })
            .collect();
        FetchRequest {
            partitions,
            max_bytes,
            min_bytes: 1,
            max_wait: Duration::ZERO,
            read_committed: false,
        }
    }

    async fn fetch(&self, partition: i32, offset: i64, max_bytes: usize) -> Result<Fetched, ReadError> {
        self.reader
            .fetch(&self.request(&[(partition, offset)], max_bytes))
            .await
            .pop()
            .unwrap()
    }

    /// All records from `offset` on, fetched piece by piece as a consumer does.
    async fn consume(&self, partition: i32, offset: i64, max_bytes: usize) -> Vec<(i64, String)> {
        let mut next = offset;
        let mut records = Vec::new();
        loop {
            let fetched = self.fetch(partition, next, max_bytes).await.unwrap();
            if fetched.records.is_empty() {
                return records;
            }
            for (offset, value) in decode(&fetched).into_iter().filter(|(offset, _)| *offset >= next) {
                records.push((offset, value));
            }
            next = records.last().unwrap().0 + 1;
        }
    }
}

pub(super) fn decode(fetched: &Fetched) -> Vec<(i64, String)> {
    let mut bytes = fetched.records.to_bytes();
    assert_eq!(bytes.len(), fetched.records.length_bytes);
    RecordBatchDecoder::decode_all(&mut bytes)
        .unwrap()
        .into_iter()
        .flat_map(|set| set.records)
        .map(|record| {
            (
                record.offset,
                String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
            )
        })
        .collect()
}

const NO_TAIL: u64 = 0;

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
