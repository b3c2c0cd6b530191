//! The agent that runs under callgrind: the server without its allocator, which valgrind cannot follow, and
//! without HTTP.

use std::io::Read;

use streamhouse_observability::registry::claim_lane;
use streamhouse_observability::{Health, Metrics, MetricsOptions};
use streamhouse_server::config::{Config, Layer};
use streamhouse_server::start::{House, start};
use tokio_util::sync::CancellationToken;

pub(crate) fn run() {
    let memory = || Some("memory:".to_owned());
    let config = Config::resolve(Layer {
        kafka_listen: Some("127.0.0.1:0".to_owned()),
        object_store: memory(),
        metadata: memory(),
        ..Layer::default()
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(|| {
            claim_lane();
        })
        .build()
        .unwrap();
    runtime.block_on(async {
        let house = House {
            config,
            metrics: Metrics::new(MetricsOptions::default()),
            health: Health::new(),
            stop: CancellationToken::new(),
        };
        let running = start(house).await.unwrap();
        println!("{}", running.kafka);
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ = ended.await;
        running.stop().await.unwrap();
    });
}
