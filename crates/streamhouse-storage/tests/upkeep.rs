//! Upkeep between two real stores: the embedded metadata store and an object store that misbehaves on
//! plan. Each test walks one way to lose acknowledged data, and finds it closed.

// clippy.toml allows it in test functions; here the functions beside them are tests as well.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use streamhouse_metadata::ids::{IncarnationId, ObjectName, StoreTime, TopicId, TopicPartition};
use streamhouse_metadata::model::commit::{BatchEntry, CommitObject, CommitRequest};
use streamhouse_metadata::model::segment::Lookup;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::testing::{FlakyStore, ManualClock};
use streamhouse_observability::{Gauge, Metrics, MetricsOptions};
use streamhouse_storage::batch::BatchHeader;
use streamhouse_storage::object::{Part, build, key_of, open_index, verify_segment};
use streamhouse_storage::reader::Tail;
use streamhouse_storage::stores::faulty::{Call, Faulty, Plan};
use streamhouse_storage::upkeep::abandoned::{Abandoned, AbandonedTask};
use streamhouse_storage::upkeep::compaction::CompactionTask;
use streamhouse_storage::upkeep::deleting::DeletingTask;
use streamhouse_storage::upkeep::orphans::OrphansTask;
use streamhouse_storage::upkeep::retention::{RetentionTask, TrimTask};
use streamhouse_storage::upkeep::scheduler::{Nudge, Upkeep};
use streamhouse_storage::upkeep::verify::VerifyTask;
use streamhouse_storage::upkeep::{Next, UpkeepError, UpkeepOptions, UpkeepParts};
use streamhouse_storage::writer::Identity;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

struct House {
    clock: Arc<ManualClock>,
    metadata: Arc<FlakyStore>,
    faulty: Faulty,
    topic: TopicId,
}

/// One start of an agent.
struct Agent {
    parts: UpkeepParts,
    identity: watch::Sender<Identity>,
    number: std::sync::atomic::AtomicU64,
}

async fn house() -> House {
    let clock = Arc::new(ManualClock::at(StoreTime(1_000_000)));
    let options = SqliteOptions {
        clock: Arc::clone(&clock) as _,
        ..SqliteOptions::new(Location::Memory)
    };
    let metadata = Arc::new(FlakyStore::new(Arc::new(SqliteStore::open(options).unwrap())));
    let limits = TopicLimits {
        topics_max: 10,
        partitions_max: 10,
    };
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: 2,
        config: TopicConfig::default(),
    };
    let topic = metadata.create_topic(topic, limits).await.unwrap().id;
    let faulty = Faulty::new(Arc::new(InMemory::new()));
    House {
        clock,
        metadata,
        faulty,
        topic,
    }
}

/// A due backlog at once, whatever its size.
fn options() -> UpkeepOptions {
    UpkeepOptions {
        compact_bytes: 1,
        ..UpkeepOptions::default()
    }
}

impl House {
    /// Starts an agent; the one before it is fenced by that.
    async fn start(&self) -> Agent {
        let registered = self.metadata.register("host:9092").await.unwrap();
        let (identity, receiver) = watch::channel(Identity {
            incarnation: registered.incarnation,
            counters: Arc::default(),
        });
        Agent {
            parts: UpkeepParts {
                objects: Arc::new(self.faulty.clone()),
                metadata: Arc::clone(&self.metadata) as Arc<dyn MetadataStore>,
                identity: receiver,
                tail: Arc::new(Tail::new(1 << 20, 0)),
            },
            identity,
            number: std::sync::atomic::AtomicU64::new(0),
        }
    }

    fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: self.topic,
            partition,
        }
    }

    async fn keys(&self) -> Vec<String> {
        let listing = self.faulty.list(Some(&Path::from("objects")));
        listing
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .unwrap()
    }

    /// Every record of a partition, wherever it lies; fails on a hole or an absent object.
    async fn records(&self, partition: i32) -> Vec<Bytes> {
        let lookup = Lookup {
            partition: self.partition(partition),
            offset: 0,
            max_bytes: u64::MAX,
            read_committed: false,
        };
        let located = self.metadata.lookup(&[lookup]).await.unwrap().remove(0).unwrap();
        let (mut batches, mut offset) = (Vec::new(), 0);
        for found in located.segments {
            assert_eq!(found.segment.base_offset, offset, "segments tile the log");
            offset = found.segment.last_offset + 1;
            let object = match found.object.inline {
                true => self
                    .metadata
                    .inline_payload(found.object.id)
                    .await
                    .unwrap()
                    .unwrap(),
                false => self
                    .faulty
                    .get(&key_of(&found.object.name))
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap(),
            };
            let start = found.segment.position as usize;
            let mut rest = object.slice(start..start + found.segment.length_bytes as usize);
            while !rest.is_empty() {
                batches.push(rest.split_to(BatchHeader::parse(&rest).unwrap().length_bytes));
            }
        }
        assert_eq!(offset, located.snapshot.high_watermark);
        batches
    }
}

/// A batch of `count` records that says who wrote it. Built by hand: the crate's own builder is not
/// there for tests from outside.
fn batch(count: i32, label: &str) -> Bytes {
    let mut bytes = vec![0; 61];
    bytes.extend_from_slice(label.as_bytes());
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[43..57].fill(0xff);
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

impl Agent {
    fn incarnation(&self) -> IncarnationId {
        self.identity.borrow().incarnation
    }

    /// Commits one inline object with a batch a partition named.
    async fn commit_inline(&self, house: &House, partitions: &[i32], label: &str) {
        let identity = self.identity.borrow().clone();
        let counter = identity.counters.next();
        let parts: Vec<_> = partitions
            .iter()
            .map(|partition| Part {
                partition: house.partition(*partition),
                bytes: batch(2, label),
                batch_count: 1,
                record_count: 2,
            })
            .collect();
        let built = build(&parts);
        let batches = built.index.iter().zip(0..).map(|(entry, index)| BatchEntry {
            index,
            partition: entry.partition,
            position: entry.position,
            length_bytes: entry.length_bytes,
            record_count: 2,
            max_timestamp: 0,
            producer: None,
            transaction: None,
        });
        let object = CommitObject {
            counter,
            length_bytes: built.length_bytes,
            batches: batches.collect(),
            payload: Some(Bytes::from(built.payload.concat())),
        };
        identity.counters.decided(counter);
        let request = CommitRequest {
            incarnation: identity.incarnation,
            number: self.number.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1,
            valid_until: StoreTime(i64::MAX),
            objects: vec![object],
            lowest_undecided: identity.counters.lowest_undecided(),
        };
        house.metadata.commit(request).await.unwrap();
    }

    fn compaction(&self) -> (Arc<CompactionTask>, Abandoned) {
        let abandoned = Abandoned::new(Nudge::default());
        let task = CompactionTask::new(self.parts.clone(), options(), abandoned.clone());
        (Arc::new(task), abandoned)
    }

    fn orphans(&self) -> OrphansTask {
        OrphansTask::new(self.parts.clone(), options(), Gauge::default())
    }

    fn verify(&self, bytes_per_second: u64, metrics: &Metrics) -> VerifyTask {
        let options = UpkeepOptions {
            verify_bytes_per_second: bytes_per_second,
            ..options()
        };
        VerifyTask::new(self.parts.clone(), options, metrics.verify.clone())
    }

    /// Commits and compacts: the key of a stored object with a segment a partition named.
    async fn store(&self, house: &House, partitions: &[i32], label: &str) -> Path {
        self.commit_inline(house, partitions, label).await;
        key_of(&self.compaction().0.run_once().await.unwrap().object.unwrap())
    }
}

#[tokio::test]
async fn compaction_moves_every_inline_record_into_one_readable_object() {
    let house = house().await;
    let agent = house.start().await;
    for (partitions, label) in [(&[0, 1][..], "a"), (&[0], "b"), (&[1, 0], "c")] {
        let mut partitions = partitions.to_vec();
        partitions.sort_unstable();
        agent.commit_inline(&house, &partitions, label).await;
    }
    let before = [house.records(0).await, house.records(1).await];
    let report = agent.compaction().0.run_once().await.unwrap();
    assert_eq!(
        (report.inputs, report.swap.swapped, report.next),
        (3, 2, Next::Idle)
    );
    assert_eq!([house.records(0).await, house.records(1).await], before);
    assert_eq!(house.metadata.inline_backlog().await.unwrap().objects, 0);

    let name = report.object.unwrap();
    assert_eq!(house.keys().await, [name.to_string()]);
    let object = house
        .faulty
        .get(&key_of(&name))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let index = open_index(&object).unwrap();
    assert_eq!(index.len(), 2, "one segment a partition");
    for entry in &index {
        let start = entry.position as usize;
        verify_segment(entry, &object[start..start + entry.length_bytes as usize]).unwrap();
    }
}

#[tokio::test]
async fn a_small_young_backlog_waits_for_its_age() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "a").await;
    let task = CompactionTask::new(
        agent.parts.clone(),
        UpkeepOptions::default(),
        Abandoned::new(Nudge::default()),
    );
    house.clock.advance(Duration::from_secs(60));
    let age = UpkeepOptions::default().compact_age;
    assert_eq!(
        task.run_once().await.unwrap().next,
        Next::In(age - Duration::from_secs(60))
    );
    assert_eq!(house.faulty.count(Call::Put), 0);
    house.clock.advance(age);
    assert!(task.run_once().await.unwrap().object.is_some());
}

/// A compacts into X and is stopped before the swap; B starts, X is collected; A wakes.
#[tokio::test]
async fn trace_17_a_paused_compactor_swaps_nothing_after_it_was_fenced() {
    let house = house().await;
    let a = house.start().await;
    a.commit_inline(&house, &[0, 1], "a").await;
    let before = house.records(0).await;
    house.faulty.close_gate(Call::Put);
    let task = a.compaction().0;
    let paused = tokio::spawn(async move { task.run_once().await });
    house.faulty.wait_until_held(Call::Put, 1).await;
    let b = house.start().await;
    house.faulty.open_gate(Call::Put);
    let result = paused.await.unwrap();
    assert!(
        matches!(result, Err(UpkeepError::Fenced(fenced)) if fenced == a.incarnation()),
        "{result:?}"
    );
    assert_eq!(house.keys().await.len(), 1, "the PUT landed");
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(b.orphans().run_once().await.unwrap().deleted, 1);
    assert!(house.keys().await.is_empty());
    assert_eq!(house.records(0).await, before);
}

/// Another compactor swapped first: the second finds its rows gone and its object goes.
#[tokio::test]
async fn trace_17_a_compactor_that_comes_second_swaps_nothing_and_its_object_is_deleted() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "a").await;
    let before = house.records(0).await;
    house.faulty.close_gate(Call::Put);
    let (one, two) = (agent.compaction().0, agent.compaction().0);
    let one = tokio::spawn(async move { one.run_once().await });
    let two = tokio::spawn(async move { two.run_once().await });
    house.faulty.wait_until_held(Call::Put, 2).await;
    house.faulty.open_gate(Call::Put);
    let (one, two) = (one.await.unwrap().unwrap(), two.await.unwrap().unwrap());
    assert_eq!(one.swap.swapped + two.swap.swapped, 1);
    assert_eq!(house.keys().await.len(), 2);
    house.clock.advance(Duration::from_secs(61));
    let deleting = DeletingTask::new(agent.parts.clone(), options());
    assert_eq!(deleting.run_once().await.unwrap().deleted, 1);
    assert_eq!(deleting.run_once().await.unwrap().next, Next::Idle);
    assert_eq!(house.keys().await.len(), 1);
    assert_eq!(house.records(0).await, before);
}

/// DeleteTopic meets a compaction in flight: nothing of the topic comes back, and the object goes.
#[tokio::test]
async fn trace_18_a_compaction_of_a_topic_deleted_meanwhile_brings_nothing_back() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0, 1], "a").await;
    house.faulty.close_gate(Call::Put);
    let task = agent.compaction().0;
    let paused = tokio::spawn(async move { task.run_once().await });
    house.faulty.wait_until_held(Call::Put, 1).await;
    house.metadata.delete_topic(house.topic).await.unwrap();
    house.faulty.open_gate(Call::Put);
    assert_eq!(paused.await.unwrap().unwrap().swap.swapped, 0);
    while !house.metadata.purge_deleted(100).await.unwrap() {}
    house.clock.advance(Duration::from_secs(61));
    DeletingTask::new(agent.parts.clone(), options())
        .run_once()
        .await
        .unwrap();
    assert!(house.keys().await.is_empty());
    assert_eq!(house.metadata.inline_backlog().await.unwrap().objects, 0);
}

/// The collector deletes an orphan, then a delayed PUT lands: the next daily sweep finds it. What is
/// named stays, also under a tombstone, and so does every key of the living.
#[tokio::test]
async fn trace_16_only_unnamed_keys_of_tombstones_are_collected_again_and_again() {
    let house = house().await;
    let a = house.start().await;
    a.commit_inline(&house, &[0], "a").await;
    let named = a.compaction().0.run_once().await.unwrap().object.unwrap();
    let orphan = |counter| {
        key_of(&ObjectName {
            incarnation: a.incarnation(),
            counter,
        })
    };
    house
        .faulty
        .put(&orphan(77), PutPayload::from_static(b"late"))
        .await
        .unwrap();
    let foreign = Path::from(format!("objects/{}/notes.txt", a.incarnation()));
    house
        .faulty
        .put(&foreign, PutPayload::from_static(b"not ours"))
        .await
        .unwrap();

    // While A lives nothing of it is touched, however long.
    house.clock.advance(Duration::from_secs(100_000));
    assert_eq!(a.orphans().run_once().await.unwrap().deleted, 0);

    let b = house.start().await;
    let live = ObjectName {
        incarnation: b.incarnation(),
        counter: 1,
    };
    house
        .faulty
        .put(&key_of(&live), PutPayload::from_static(b"in flight"))
        .await
        .unwrap();
    let fresh = b.orphans().run_once().await.unwrap();
    assert_eq!(fresh.deleted, 0, "before the PUT deadline a PUT may still land");
    assert_eq!(fresh.next, Next::In(options().put_deadline));

    house.clock.advance(Duration::from_secs(31));
    assert_eq!(b.orphans().run_once().await.unwrap().deleted, 1);
    house
        .faulty
        .put(&orphan(78), PutPayload::from_static(b"later still"))
        .await
        .unwrap();
    assert_eq!(b.orphans().run_once().await.unwrap().swept, 0, "once a day");
    house.clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    assert_eq!(b.orphans().run_once().await.unwrap().deleted, 1);

    let mut expected = vec![named.to_string(), foreign.to_string(), live.to_string()];
    expected.sort();
    assert_eq!(house.keys().await, expected);
    assert_eq!(house.records(0).await.len(), 1);
}

/// A live agent deletes what it gave up itself, after the PUT deadline, and only then calls it decided.
#[tokio::test(start_paused = true)]
async fn trace_16_an_abandoned_upload_is_deleted_after_the_put_deadline() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "a").await;
    // Acted upon, the answer lost, and no retry above: given up.
    house.faulty.plan(Call::Put, Plan::LoseReply);
    let (task, abandoned) = agent.compaction();
    task.run_once().await.unwrap_err();
    let undecided = agent.identity.borrow().counters.lowest_undecided();
    let deleter = AbandonedTask::new(agent.parts.clone(), options(), abandoned.clone());
    assert!(matches!(deleter.run_once().await.unwrap(), Next::In(_)));
    assert_eq!((house.keys().await.len(), abandoned.len()), (1, 1));
    tokio::time::advance(options().put_deadline).await;
    assert_eq!(deleter.run_once().await.unwrap(), Next::Idle);
    assert!(house.keys().await.is_empty());
    assert!(agent.identity.borrow().counters.lowest_undecided() > undecided);
    assert_eq!(house.records(0).await.len(), 1);
}

/// Too old, a log's records go at once for readers, its rows next, and its objects after the grace period.
#[tokio::test]
async fn retention_frees_rows_at_once_and_objects_after_the_grace_period() {
    let house = house().await;
    let agent = house.start().await;
    for label in ["a", "b"] {
        agent.commit_inline(&house, &[0, 1], label).await;
    }
    let (compaction, _) = agent.compaction();
    compaction.run_once().await.unwrap();
    agent.commit_inline(&house, &[0], "c").await;
    assert_eq!(house.keys().await.len(), 1);
    agent.parts.tail.raise_log_start(house.partition(0), 0);

    let retention = RetentionTask::new(agent.parts.clone(), options());
    let trim = TrimTask(agent.parts.clone());
    let deleting = DeletingTask::new(agent.parts.clone(), options());
    // The batches carry the first timestamp there is; by default a week is kept.
    house.clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
    let report = retention.run_once().await.unwrap();
    assert_eq!((report.raised, report.next), (2, Next::Now));
    let snapshots = house
        .metadata
        .snapshots(&[house.partition(0), house.partition(1)])
        .await
        .unwrap();
    for snapshot in snapshots {
        let snapshot = snapshot.unwrap();
        assert_eq!(snapshot.log_start_offset, snapshot.high_watermark);
    }
    assert_eq!(trim.run_once().await.unwrap(), Next::Idle);
    assert_eq!(retention.run_once().await.unwrap().next, Next::Idle);
    assert_eq!(house.metadata.inline_backlog().await.unwrap().objects, 0);
    assert_eq!(
        deleting.run_once().await.unwrap().deleted,
        0,
        "within the grace period"
    );
    assert_eq!(house.keys().await.len(), 1);
    house
        .clock
        .advance(options().deleting_grace + Duration::from_millis(1));
    assert_eq!(deleting.run_once().await.unwrap().deleted, 1);
    assert_eq!(house.keys().await, Vec::<String>::new());
}

/// Settled, upkeep asks neither store anything, however long nothing happens.
#[tokio::test]
async fn an_idle_server_comes_to_rest() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "a").await;
    let metrics = Metrics::new(MetricsOptions::default());
    let nudge = Nudge::default();
    let settings = UpkeepOptions {
        compact_bytes: 1,
        put_deadline: Duration::ZERO,
        deleting_grace: Duration::ZERO,
        settle_after: Duration::from_millis(1),
        retention_check_interval: Duration::from_millis(1),
        ..UpkeepOptions::default()
    };
    let abandoned = Abandoned::new(nudge.clone());
    let upkeep = Upkeep::new(agent.parts.clone(), settings, nudge.clone(), abandoned, &metrics);
    let stop = CancellationToken::new();
    let task = tokio::spawn(upkeep.run(stop.clone()));
    nudge.committed();
    while house.metadata.inline_backlog().await.unwrap().objects > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The counts stand still for as long as anybody cares to look.
    let asked = || (house.metadata.requests(), house.faulty.calls().len());
    let (mut last, mut still) = (asked(), 0);
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        still = if asked() == last { still + 1 } else { 0 };
        last = asked();
        if still > 75 {
            break;
        }
    }
    assert!(still > 75, "upkeep goes on asking");
    stop.cancel();
    task.await.unwrap();
}

/// Whole, damaged, cut short and missing are told apart, segment by segment; what is written later is read in
/// the same pass, and everything again a day later.
#[tokio::test]
async fn verification_reads_each_segment_once_a_pass_and_tells_what_is_wrong_with_it() {
    let house = house().await;
    let agent = house.start().await;
    let first = agent.store(&house, &[0, 1], "first").await;
    let second = agent.store(&house, &[0], "second").await;
    let metrics = Metrics::new(MetricsOptions::default());
    let task = agent.verify(u64::MAX, &metrics);
    let run = async || {
        let report = task.run_once().await.unwrap();
        (report.ok, report.missing, report.corrupt)
    };
    assert_eq!(
        [run().await, run().await, run().await],
        [(2, 0, 0), (1, 0, 0), (0, 0, 0)]
    );
    let third = agent.store(&house, &[1], "third").await;
    assert_eq!(
        [run().await, run().await],
        [(1, 0, 0), (0, 0, 0)],
        "only what is new"
    );

    let mut damaged = house
        .faulty
        .get(&first)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec();
    damaged[70] ^= 1;
    house.faulty.put(&first, damaged.into()).await.unwrap();
    house.faulty.delete(&second).await.unwrap();
    let whole = house.faulty.get(&third).await.unwrap().bytes().await.unwrap();
    house.faulty.put(&third, whole.slice(1..).into()).await.unwrap();
    assert_eq!(run().await, (0, 0, 0), "not before the next pass");
    house.clock.advance(Duration::from_secs(24 * 60 * 60));
    let found = [run().await, run().await, run().await, run().await];
    assert_eq!(found, [(1, 0, 1), (0, 1, 0), (0, 0, 1), (0, 0, 0)]);

    let text = metrics.render();
    for line in [
        "streamhouse_verify_segments_total{result=\"ok\"} 5",
        "streamhouse_verify_segments_total{result=\"missing\"} 1",
        "streamhouse_verify_segments_total{result=\"corrupt\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing");
    }
}

/// One that cannot be read keeps no other from it and is read again at the end; a pass that takes longer than
/// a day comes to its end all the same.
#[tokio::test]
async fn verification_goes_on_behind_what_cannot_be_read_and_ends_every_pass() {
    let house = house().await;
    let agent = house.start().await;
    agent.store(&house, &[0, 1], "first").await;
    agent.store(&house, &[0], "second").await;
    let metrics = Metrics::new(MetricsOptions::default());
    let task = agent.verify(u64::MAX, &metrics);
    let run = async || task.run_once().await.map(|report| report.ok).ok();
    house.faulty.plan(Call::Get, Plan::RefuseBefore(403));
    assert_eq!(run().await, None);
    house.clock.advance(Duration::from_secs(25 * 60 * 60));
    assert_eq!(run().await, Some(1), "the second, not the first anew");
    house.faulty.plan(Call::Get, Plan::RefuseBefore(403));
    assert_eq!(run().await, None, "the first again");
    assert_eq!(run().await, Some(2));
    // A day is over: the next pass.
    assert_eq!(
        [run().await, run().await, run().await],
        [Some(2), Some(1), Some(0)]
    );
}

#[tokio::test(start_paused = true)]
async fn verification_keeps_to_its_rate_and_without_one_asks_nothing() {
    let house = house().await;
    let agent = house.start().await;
    for label in ["first", "second"] {
        agent.store(&house, &[0], label).await;
    }
    let metrics = Metrics::new(MetricsOptions::default());
    let asked = || (house.metadata.requests(), house.faulty.calls().len());
    let before = asked();
    let off = agent.verify(0, &metrics);
    assert_eq!(off.run_once().await.unwrap().next, Next::Idle);
    assert_eq!(asked(), before);

    let length = house.metadata.storage_usage().await.unwrap().live.bytes / 2;
    let slow = agent.verify(length / 10, &metrics);
    let Next::In(pause) = slow.run_once().await.unwrap().next else {
        panic!("a second object waits");
    };
    let pause = pause.as_secs_f64();
    assert!(
        (9.0..11.5).contains(&pause),
        "{pause} s for ten seconds' worth of bytes"
    );
    let before = asked();
    let report = slow.run_once().await.unwrap();
    assert_eq!((report.ok, asked()), (0, before), "too early");
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(slow.run_once().await.unwrap().ok, 1);
}

#[tokio::test]
async fn orphans_show_their_bytes_until_they_are_deleted() {
    let house = house().await;
    let dead = house.start().await;
    let key = key_of(&ObjectName {
        incarnation: dead.incarnation(),
        counter: 7,
    });
    house
        .faulty
        .put(&key, PutPayload::from_static(b"12345"))
        .await
        .unwrap();
    let agent = house.start().await;
    let found = Gauge::default();
    let task = OrphansTask::new(agent.parts.clone(), options(), found.clone());
    house.clock.advance(Duration::from_secs(31));
    house.faulty.plan(Call::Delete, Plan::RefuseBefore(503));
    task.run_once().await.unwrap_err();
    assert_eq!(found.value(), 5);
    // A look that was not allowed has seen nothing, which is not that nothing is there.
    house.faulty.plan(Call::List, Plan::RefuseBefore(403));
    task.run_once().await.unwrap_err();
    assert_eq!(found.value(), 5);
    assert_eq!(task.run_once().await.unwrap().deleted, 1);
    assert_eq!(found.value(), 0);
}

#[tokio::test]
async fn a_refused_deletion_does_not_end_the_look_for_orphans() {
    let house = house().await;
    for value in ["12345", "1234567"] {
        let dead = house.start().await;
        let key = key_of(&ObjectName {
            incarnation: dead.incarnation(),
            counter: 7,
        });
        house.faulty.put(&key, PutPayload::from(value)).await.unwrap();
    }
    let agent = house.start().await;
    let found = Gauge::default();
    let task = OrphansTask::new(agent.parts.clone(), options(), found.clone());
    house.clock.advance(Duration::from_secs(31));
    house.faulty.plan(Call::Delete, Plan::RefuseBefore(403));
    task.run_once().await.unwrap_err();
    assert_eq!(found.value(), 12, "what lies under both tombstones");
    let report = task.run_once().await.unwrap();
    assert_eq!((report.deleted, report.swept), (2, 2));
    assert_eq!(found.value(), 0);
}

/// Else the alert TaskOverdue takes waiting for idleness.
#[tokio::test]
async fn a_long_grace_period_is_waited_for_in_half_hours_and_an_empty_one_not_at_all() {
    let house = house().await;
    let agent = house.start().await;
    let patient = UpkeepOptions {
        deleting_grace: Duration::from_secs(7_200),
        ..options()
    };
    let deleting = DeletingTask::new(agent.parts.clone(), patient);
    assert_eq!(deleting.run_once().await.unwrap().next, Next::Idle);
    agent.commit_inline(&house, &[0], "a").await;
    agent.compaction().0.run_once().await.unwrap();
    house.metadata.delete_topic(house.topic).await.unwrap();
    while !house.metadata.purge_deleted(100).await.unwrap() {}
    let half_an_hour = Duration::from_secs(1_800);
    for _ in 0..4 {
        let report = deleting.run_once().await.unwrap();
        assert_eq!((report.deleted, report.next), (0, Next::In(half_an_hour)));
        house.clock.advance(half_an_hour);
    }
    house.clock.advance(Duration::from_millis(1));
    let report = deleting.run_once().await.unwrap();
    assert_eq!((report.deleted, report.next), (1, Next::Idle));
}
