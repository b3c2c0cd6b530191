//! The pipeline on the real embedded metadata store, with an object store whose calls can be held,
//! refused and lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use streamhouse_metadata::ids::{ObjectName, TopicPartition};
use streamhouse_metadata::model::commit::AppendRefusal;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::testing::{CommitFault, FlakyStore};
use streamhouse_observability::Metrics;
use streamhouse_observability::families::{BatchCount, MetricsOptions, ProducerErrorType, Stage};
use tokio::time::Instant;

use super::{
    Append, AppendError, Appended, FatalHook, PartitionHandles, PendingAppend, Writer, WriterHooks,
    WriterOptions, WriterParts,
};
use crate::batch::testing::TestBatch;
use crate::reader::{FetchPartition, FetchRequest, Reader, ReaderOptions, Tail};
use crate::stores::faulty::{Call, Faulty, Plan};

struct House {
    writer: Writer,
    reader: Reader,
    objects: Faulty,
    metadata: Arc<FlakyStore>,
    metrics: Arc<Metrics>,
    topic: streamhouse_metadata::ids::TopicId,
    abandoned: Arc<Mutex<Vec<ObjectName>>>,
}

const INLINE: u64 = 16 << 10;

fn options(inline_bytes_max: u64) -> WriterOptions {
    WriterOptions {
        flush_bytes: 1 << 20,
        flush_interval: Duration::ZERO,
        inline_bytes_max,
        upload_slots: 2,
        advertised: "127.0.0.1:9092".to_owned(),
    }
}

async fn house(options: WriterOptions) -> House {
    house_with(options, Box::new(|| {}), Box::new(|why| panic!("{why}"))).await
}

async fn house_with(
    options: WriterOptions,
    committed: Box<dyn Fn() + Send + Sync>,
    fatal: FatalHook,
) -> House {
    let store = SqliteStore::open(SqliteOptions::new(Location::Memory)).unwrap();
    let metadata = Arc::new(FlakyStore::new(Arc::new(store)));
    let objects = Faulty::new(Arc::new(InMemory::new()));
    let metrics = Metrics::new(MetricsOptions::default());
    let topic = NewTopic {
        name: "orders".to_owned(),
        partitions: 1_000,
        config: TopicConfig::default(),
    };
    let limits = TopicLimits {
        topics_max: 10,
        partitions_max: 10_000,
    };
    let topic = metadata.create_topic(topic, limits).await.unwrap().id;
    let registered = metadata.register(&options.advertised).await.unwrap();
    let tail = Arc::new(Tail::new(1 << 20, metadata.cluster().epoch));
    let abandoned = Arc::new(Mutex::new(Vec::new()));
    let kept = abandoned.clone();
    let parts = WriterParts {
        objects: Arc::new(objects.clone()),
        metadata: metadata.clone(),
        tail: tail.clone(),
        metrics: metrics.clone(),
        hooks: WriterHooks {
            abandoned: Box::new(move |name| kept.lock().push(name)),
            committed,
            fatal,
        },
    };
    let writer = Writer::start(options, parts, registered.incarnation)
        .await
        .unwrap();
    let reading = ReaderOptions {
        cache_bytes: 4 << 20,
        fetch_bytes: 4 << 20,
        read_ahead_bytes: 0,
    };
    let reader = Reader::new(
        reading,
        metadata.clone(),
        Arc::new(objects.clone()),
        tail,
        metrics.clone(),
    );
    House {
        writer,
        reader,
        objects,
        metadata,
        metrics,
        topic,
        abandoned,
    }
}

impl House {
    fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: self.topic,
            partition,
        }
    }

    fn entry(&self, partition: i32, batch: &TestBatch) -> Append {
        Append {
            partition: self.partition(partition),
            batch: batch.admitted(),
            transaction: None,
            deadline: Instant::now() + Duration::from_secs(29),
            handles: PartitionHandles {
                topic: self.metrics.topic("orders"),
                writes: self.metrics.partition("orders", partition),
            },
            permit: None,
        }
    }

    fn append(&self, partition: i32, batch: &TestBatch) -> PendingAppend {
        self.writer.append(vec![self.entry(partition, batch)])
    }

    /// Batches that failed by our fault: in all, and of the topic.
    fn our_faults(&self) -> (u64, u64) {
        let topic = self.metrics.topic("orders");
        (
            self.metrics.produce.batches(BatchCount::ServerError).value(),
            topic.errors(ProducerErrorType::AgentError).value(),
        )
    }

    async fn high_watermark(&self, partition: i32) -> i64 {
        let snapshots = self
            .metadata
            .snapshots(&[self.partition(partition)])
            .await
            .unwrap();
        snapshots[0].as_ref().unwrap().high_watermark
    }

    async fn read(&self, partition: i32, offset: i64) -> Vec<u8> {
        let request = FetchRequest {
            partitions: vec![FetchPartition {
                partition: self.partition(partition),
                offset,
                max_bytes: 10 << 20,
            }],
            max_bytes: 10 << 20,
            min_bytes: 1,
            max_wait: Duration::ZERO,
            read_committed: false,
        };
        let fetched = self.reader.fetch(&request).await.pop().unwrap().unwrap();
        fetched.records.to_bytes().to_vec()
    }
}

fn base_offset(results: &[Result<Appended, AppendError>]) -> i64 {
    results[0].as_ref().unwrap().base_offset
}

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
async fn trace_11_an_object_given_up_leaves_the_queue_before_its_batches_are_refused() {
    let house = house(options(0)).await;
    house.objects.plan(Call::Put, Plan::RefuseBefore(503));
    let refused = house.append(0, &TestBatch::of(1, "lost"));
    assert_eq!(refused.await, [Err(AppendError::Storage)]);
    assert_eq!(house.high_watermark(0).await, 0);
    assert_eq!(house.abandoned.lock().len(), 1);
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "kept")).await), 0);
    assert_eq!(house.metrics.produce.batches(BatchCount::ServerError).value(), 1);
    assert_eq!(house.metrics.produce.batches(BatchCount::Ok).value(), 1);
}

#[tokio::test]
async fn trace_11_a_lost_reply_does_not_let_the_successor_pass_a_gap() {
    let house = house(options(0)).await;
    house.objects.plan(Call::Put, Plan::LoseReply);
    let first = house.append(0, &TestBatch::of(1, "a").by(7, 0, 0));
    house.objects.wait_until_held(Call::Put, 0).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let second = house.append(0, &TestBatch::of(1, "b").by(7, 0, 1));
    assert_eq!(first.await, [Err(AppendError::Storage)]);
    let refusal = AppendRefusal::GapPending { expected: 0, got: 1 };
    assert_eq!(second.await, [Err(AppendError::Refused(refusal))]);
    // The client sends both again, in order, and each is there once.
    assert_eq!(
        base_offset(&house.append(0, &TestBatch::of(1, "a").by(7, 0, 0)).await),
        0
    );
    assert_eq!(
        base_offset(&house.append(0, &TestBatch::of(1, "b").by(7, 0, 1)).await),
        1
    );
    assert_eq!(house.high_watermark(0).await, 2);
}

#[tokio::test(start_paused = true)]
async fn trace_08_a_batch_is_withdrawn_at_its_deadline_and_never_committed() {
    let house = house(options(0)).await;
    house.objects.close_gate(Call::Put);
    let start = Instant::now();
    let mut entry = house.entry(0, &TestBatch::of(1, "late"));
    entry.deadline = start + Duration::from_secs(3);
    let pending = house.writer.append(vec![entry]);
    assert_eq!(pending.await, [Err(AppendError::TimedOut)]);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    // The store's threads live in real time, so the rest of this test does too.
    tokio::time::resume();
    house.objects.open_gate(Call::Put);
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "next")).await), 0);
    assert!(!String::from_utf8_lossy(&house.read(0, 0).await).contains("late"));
}

#[tokio::test]
async fn a_deadline_is_kept_by_batches_that_come_behind_more_patient_ones() {
    let house = house(options(0)).await;
    house.objects.close_gate(Call::Put);
    let mut held = Vec::new();
    for slot in 1..=2 {
        held.push(house.append(0, &TestBatch::of(1, "held")));
        house.objects.wait_until_held(Call::Put, slot).await;
    }
    held.push(house.append(0, &TestBatch::of(1, "patient")));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let hasty = Append {
        deadline: Instant::now() + Duration::from_millis(50),
        ..house.entry(0, &TestBatch::of(1, "hasty"))
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), house.writer.append(vec![hasty])).await;
    assert_eq!(answer.unwrap(), [Err(AppendError::TimedOut)]);
}

#[tokio::test]
async fn a_panic_of_the_writer_stops_the_process_and_leaves_nobody_waiting() {
    let told = Arc::new(Mutex::new(None));
    let kept = told.clone();
    let house = house_with(
        options(INLINE),
        Box::new(|| panic!("on purpose")),
        Box::new(move |why| *kept.lock() = Some(why.to_string())),
    )
    .await;
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "a")).await), 0);
    let next = house.append(0, &TestBatch::of(1, "b"));
    let answer = tokio::time::timeout(Duration::from_secs(5), next).await;
    assert_eq!(answer.unwrap(), [Err(AppendError::Stopping)]);
    assert_eq!(told.lock().as_deref(), Some("the writer panicked"));
    assert_eq!(house.our_faults(), (1, 1));
}

#[tokio::test]
async fn what_the_writer_gives_up_and_what_comes_after_counts_as_our_fault() {
    let house = house_with(options(INLINE), Box::new(|| {}), Box::new(|_| {})).await;
    house.metadata.fail_commits([CommitFault::Damaged]);
    let held = house.append(0, &TestBatch::of(1, "a"));
    assert_eq!(held.await, [Err(AppendError::Stopping)]);
    assert_eq!(house.our_faults(), (1, 1));
    let late = house.append(0, &TestBatch::of(1, "b"));
    assert_eq!(late.await, [Err(AppendError::Stopping)]);
    assert_eq!(house.our_faults(), (2, 2));
}

#[tokio::test]
async fn trace_08_a_fenced_agent_discards_what_it_holds_and_starts_anew() {
    let house = house(options(0)).await;
    let identity = house.writer.identity();
    let before = identity.borrow().incarnation;
    house.metadata.fence(before).await.unwrap();
    let pending = house.append(0, &TestBatch::of(1, "zombie"));
    assert_eq!(pending.await, [Err(AppendError::Fenced)]);
    assert_eq!(house.high_watermark(0).await, 0);
    assert_eq!(base_offset(&house.append(0, &TestBatch::of(1, "new")).await), 0);
    assert_ne!(identity.borrow().incarnation, before);
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
async fn trace_09_a_commit_whose_reply_is_lost_is_repeated_under_its_number_and_stored_once() {
    for fault in [
        CommitFault::ReplyLost,
        CommitFault::RequestLost,
        CommitFault::Refused,
    ] {
        for inline in [0, INLINE] {
            let house = house(options(inline)).await;
            house.append(0, &TestBatch::of(1, "before")).await;
            house
                .metadata
                .fail_commits([fault.clone(), fault.clone(), CommitFault::None]);
            // Not idempotent: only the commit's number keeps it from being there twice.
            let first = house.append(0, &TestBatch::of(2, "a"));
            let second = house.append(0, &TestBatch::of(3, "b"));
            assert_eq!(base_offset(&first.await), 1, "{fault:?}");
            assert_eq!(base_offset(&second.await), 3, "{fault:?}");
            assert_eq!(house.high_watermark(0).await, 6, "{fault:?}");
            assert_eq!(house.metrics.topic("orders").records.value(), 6);
            let text = String::from_utf8_lossy(&house.read(0, 1).await).into_owned();
            assert_eq!(text.matches("a-0").count(), 1);
        }
    }
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
async fn trace_08_a_batch_that_expires_while_the_store_is_down_is_left_out_of_the_repeat() {
    let house = house(options(INLINE)).await;
    house.metadata.set_down(true);
    let mut entry = house.entry(0, &TestBatch::of(1, "expired"));
    entry.deadline = Instant::now() + Duration::from_millis(100);
    let expired = house.writer.append(vec![entry]);
    let patient = house.append(0, &TestBatch::of(1, "patient"));
    assert_eq!(expired.await, [Err(AppendError::TimedOut)]);
    house.metadata.set_down(false);
    assert_eq!(base_offset(&patient.await), 0);
    assert!(!String::from_utf8_lossy(&house.read(0, 0).await).contains("expired"));
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
