//! The row of the table of faults that no dependency can cause: a writer that stands still. The real writer, the
//! real runtime and its heartbeat, the real HTTP thread; only the clock of health is ours.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;

use object_store::memory::InMemory;
use parking_lot::Mutex;
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_observability::health::{ComponentState, WRITER_STALL_MAX};
use streamhouse_observability::{Health, Metrics, MetricsOptions};
use streamhouse_storage::batch::testing::TestBatch;
use streamhouse_storage::reader::Tail;
use streamhouse_storage::writer::{Append, PartitionHandles, WriterHooks, WriterOptions, WriterParts};

use super::*;
use crate::http::{HttpState, serve};

/// A writer that stops inside its task after its first commit, until `gate` lets it go on.
async fn writer(metrics: &Arc<Metrics>, gate: mpsc::Receiver<()>) -> (Arc<Writer>, TopicPartition) {
    let metadata = Arc::new(SqliteStore::open(SqliteOptions::new(Location::Memory)).unwrap());
    let topic = NewTopic {
        name: "orders".to_owned(),
        partitions: 1,
        config: TopicConfig::default(),
    };
    let limits = TopicLimits {
        topics_max: 1,
        partitions_max: 1,
    };
    let topic = metadata.create_topic(topic, limits).await.unwrap().id;
    let incarnation = metadata.register("a:1").await.unwrap().incarnation;
    let options = WriterOptions {
        flush_bytes: 1 << 20,
        flush_interval: Duration::ZERO,
        inline_bytes_max: 16 << 10,
        upload_slots: 2,
        advertised: "a:1".to_owned(),
    };
    let gate = Mutex::new(gate);
    let parts = WriterParts {
        objects: Arc::new(InMemory::new()),
        tail: Arc::new(Tail::new(1 << 20, metadata.cluster().epoch)),
        metadata,
        metrics: metrics.clone(),
        hooks: WriterHooks {
            abandoned: Box::new(|_| {}),
            // Blocks the writer's own task, as a lock that is never released would.
            committed: Box::new(move || {
                let _ = gate.lock().recv();
            }),
            fatal: Box::new(|why| panic!("{why}")),
        },
    };
    let writer = Writer::start(options, parts, incarnation).await.unwrap();
    (Arc::new(writer), TopicPartition { topic, partition: 0 })
}

fn append(metrics: &Metrics, partition: TopicPartition) -> Append {
    Append {
        partition,
        batch: TestBatch::of(1, "x").admitted(),
        transaction: None,
        deadline: tokio::time::Instant::now() + Duration::from_secs(600),
        handles: PartitionHandles {
            topic: metrics.topic("orders"),
            writes: metrics.partition("orders", 0),
        },
        permit: None,
    }
}

fn ask(address: SocketAddr, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn failed(health: &Health) -> Vec<&'static str> {
    let components = health.ready().components.into_iter();
    let failed = components.filter(|each| each.state == ComponentState::Failed);
    failed.map(|each| each.component).collect()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stands_still_for_a_minute_fails_liveness_and_is_blamed_alone() {
    let seconds = Arc::new(AtomicU64::new(0));
    let read = seconds.clone();
    let health = Health::with_clock(Arc::new(move || Duration::from_secs(read.load(Relaxed))));
    let metrics = Metrics::new(MetricsOptions::default());
    let heartbeat = health.start_heartbeat(&metrics);
    let (go_on, gate) = mpsc::channel();
    let (writer, partition) = writer(&metrics, gate).await;
    let watch = health.watch("writer", WRITER_STALL_MAX);
    let stopping = CancellationToken::new();
    tokio::spawn(watch_writer(writer.clone(), watch.clone(), stopping.clone()));
    health.running();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let state = HttpState::new(metrics.clone(), health.clone());
    let http = serve(listener, state, stopping.clone()).unwrap();
    let address = http.address();
    let codes =
        || ["/health/live", "/health/ready", "/health/ready?scope=agent"].map(|path| ask(address, path));

    assert!(writer.append(vec![append(&metrics, partition)]).await[0].is_ok());
    let waiting = writer.append(vec![append(&metrics, partition)]);
    until(|| watch.took().is_some() && watch.queued() == 1).await;
    seconds.store(59, Relaxed);
    until(|| failed(&health).is_empty()).await; // the runtime beats on
    assert_eq!(codes(), [200, 200, 200]);
    seconds.store(61, Relaxed);
    until(|| failed(&health) == ["writer"]).await;
    assert_eq!(codes(), [503, 503, 503]);

    go_on.send(()).unwrap();
    assert!(waiting.await[0].is_ok());
    until(|| failed(&health).is_empty()).await;
    assert_eq!(codes(), [200, 200, 200]);
    drop(go_on);
    stopping.cancel();
    writer.close().await;
    heartbeat.abort();
    http.join();
}
