//! The pipeline on the real embedded metadata store, with an object store whose calls can be held,
//! refused and lost.

mod giving_up;
mod memory;
mod sealing;

use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use parking_lot::Mutex;
use streamhouse_metadata::ids::{ObjectName, TopicPartition};
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore as _;
use streamhouse_metadata::testing::FlakyStore;
use streamhouse_observability::Metrics;
use streamhouse_observability::families::{BatchCount, MetricsOptions, ProducerErrorType};
use tokio::time::Instant;

use super::{
    Append, AppendError, Appended, FatalHook, PartitionHandles, PendingAppend, Writer, WriterHooks,
    WriterOptions, WriterParts,
};
use crate::batch::testing::TestBatch;
use crate::reader::{FetchPartition, FetchRequest, Reader, ReaderOptions, Tail};
use crate::stores::faulty::Faulty;

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
