//! The two stores and the agents that the tests of upkeep start on them.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use streamhouse_metadata::ids::{IncarnationId, StoreTime, TopicId, TopicPartition};
use streamhouse_metadata::model::commit::{BatchEntry, CommitObject, CommitRequest};
use streamhouse_metadata::model::segment::Lookup;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::testing::{FlakyStore, ManualClock};
use streamhouse_observability::{Gauge, Metrics};
use streamhouse_storage::batch::BatchHeader;
use streamhouse_storage::object::{Part, build, key_of};
use streamhouse_storage::reader::Tail;
use streamhouse_storage::stores::faulty::Faulty;
use streamhouse_storage::upkeep::abandoned::Abandoned;
use streamhouse_storage::upkeep::compaction::CompactionTask;
use streamhouse_storage::upkeep::orphans::OrphansTask;
use streamhouse_storage::upkeep::scheduler::Nudge;
use streamhouse_storage::upkeep::verify::VerifyTask;
use streamhouse_storage::upkeep::{UpkeepOptions, UpkeepParts};
use streamhouse_storage::writer::Identity;
use tokio::sync::watch;

pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) metadata: Arc<FlakyStore>,
    pub(crate) faulty: Faulty,
    pub(crate) topic: TopicId,
}

/// One start of an agent.
pub(crate) struct Agent {
    pub(crate) parts: UpkeepParts,
    pub(crate) identity: watch::Sender<Identity>,
    pub(crate) number: std::sync::atomic::AtomicU64,
}

pub(crate) async fn house() -> House {
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
pub(crate) fn options() -> UpkeepOptions {
    UpkeepOptions {
        compact_bytes: 1,
        ..UpkeepOptions::default()
    }
}

impl House {
    /// Starts an agent; the one before it is fenced by that.
    pub(crate) async fn start(&self) -> Agent {
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

    pub(crate) fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: self.topic,
            partition,
        }
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let listing = self.faulty.list(Some(&Path::from("objects")));
        listing
            .map_ok(|meta| meta.location.to_string())
            .try_collect()
            .await
            .unwrap()
    }

    /// Every record of a partition, wherever it lies; fails on a hole or an absent object.
    pub(crate) async fn records(&self, partition: i32) -> Vec<Bytes> {
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
pub(crate) fn batch(count: i32, label: &str) -> Bytes {
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
    pub(crate) fn incarnation(&self) -> IncarnationId {
        self.identity.borrow().incarnation
    }

    /// Commits one inline object with a batch a partition named.
    pub(crate) async fn commit_inline(&self, house: &House, partitions: &[i32], label: &str) {
        self.commit_batch(house, partitions, batch(2, label)).await;
    }

    /// Commits it although its bytes are not those its checksum is of.
    pub(crate) async fn commit_damaged(&self, house: &House, partition: i32) {
        let mut bytes = batch(2, "damaged").to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        self.commit_batch(house, &[partition], bytes.into()).await;
    }

    /// Commits one inline object with this batch of two records in each of the partitions.
    async fn commit_batch(&self, house: &House, partitions: &[i32], batch: Bytes) {
        let identity = self.identity.borrow().clone();
        let counter = identity.counters.next();
        let parts: Vec<_> = partitions
            .iter()
            .map(|partition| Part {
                partition: house.partition(*partition),
                bytes: batch.clone(),
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
            // None: as old as its commit.
            max_timestamp: -1,
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

    pub(crate) fn compaction(&self) -> (Arc<CompactionTask>, Abandoned) {
        let abandoned = Abandoned::new(Nudge::default());
        let task = CompactionTask::new(self.parts.clone(), options(), abandoned.clone());
        (Arc::new(task), abandoned)
    }

    pub(crate) fn orphans(&self) -> OrphansTask {
        OrphansTask::new(self.parts.clone(), options(), Gauge::default())
    }

    pub(crate) fn verify(&self, bytes_per_second: u64, metrics: &Metrics) -> VerifyTask {
        let options = UpkeepOptions {
            verify_bytes_per_second: bytes_per_second,
            ..options()
        };
        VerifyTask::new(self.parts.clone(), options, metrics.verify.clone())
    }

    /// Commits and compacts: the key of a stored object with a segment a partition named.
    pub(crate) async fn store(&self, house: &House, partitions: &[i32], label: &str) -> Path {
        self.commit_inline(house, partitions, label).await;
        key_of(&self.compaction().0.run_once().await.unwrap().object.unwrap())
    }
}
