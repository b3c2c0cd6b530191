//! Reads from the tail, from the cache and from objects, checked record by record.

mod offsets;
mod responses;
mod segments;
mod tail;

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::records::RecordBatchDecoder;
use object_store::memory::InMemory;
use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::commit::BatchTransaction;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_observability::Metrics;
use streamhouse_observability::families::MetricsOptions;
use tokio::time::Instant;

use super::{FetchPartition, FetchRequest, Fetched, ReadError, Reader, ReaderOptions, Tail};
use crate::batch::testing::TestBatch;
use crate::stores::faulty::Faulty;
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
