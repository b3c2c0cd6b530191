//! The client against librdkafka's own mock of a cluster: what needs a broker that fails on demand. What real
//! brokers say is tested in `tests/system/test_rust_client.py`.

#![allow(clippy::unwrap_used)] // helpers of tests: a failure is the result

mod consuming;
mod producing;
mod transactions;

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use streamhouse_client::ClientMetrics;

const LIMIT: Duration = Duration::from_secs(20);

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(topic: &str, partitions: i32) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(topic, partitions, 1).unwrap();
    cluster
}

/// A series' value; the labels as the registry writes them.
fn value(metrics: &ClientMetrics, series: &str) -> Option<f64> {
    let text = metrics.render();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}
