//! What whoever watches an agent gets to see of faults that clients meet first, or that keep it from starting.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{GroupId, JoinGroupRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use streamhouse_observability::{Health, Metrics, MetricsOptions};
use streamhouse_server::config::{Config, Layer};
use streamhouse_server::start::{House, start};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::span;
use uuid::Uuid;

use crate::support::requests::{create, name, produce};
use crate::support::{Server, batch};

#[tokio::test]
async fn an_agent_that_waits_for_a_store_at_its_start_shows_which() {
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let layer: Layer = toml::from_str(&format!(
        "kafka_listen = '127.0.0.1:0'\nmetadata = 'memory:'\nobject_store = 's3://bucket'\n\
         s3_endpoint = '{endpoint}'\ns3_allow_http = true"
    ))
    .unwrap();
    let metrics = Metrics::new(MetricsOptions::default());
    let stop = CancellationToken::new();
    let starting = tokio::spawn(start(House {
        config: Config::resolve(layer).unwrap(),
        metrics: metrics.clone(),
        health: Health::new(),
        stop: stop.clone(),
    }));
    let shown = |component: &str, value: u8| {
        let line = format!("streamhouse_health_component{{component=\"{component}\"}} {value}");
        metrics.render().lines().any(|found| found == line)
    };
    let seen = async {
        while !(shown("object_store", 0) && shown("metadata", 1)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap();
    stop.cancel();
    starting.abort();
}

/// Of the first group one topic, of the second all.
fn offsets_of(groups: &[&str; 2], topic: &str) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(name(topic))
        .with_partition_indexes(vec![0]);
    let asked = |group: &str, topics| {
        OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_topics(topics)
    };
    let groups = vec![asked(groups[0], Some(vec![topic])), asked(groups[1], None)];
    OffsetFetchRequest::default().with_groups(groups)
}

#[tokio::test]
async fn offsets_that_cannot_be_read_are_errors_of_the_consumer_by_our_fault() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let refused = |error_type: &str| {
        server.metric(&format!(
            "streamhouse_consumer_errors_total{{topic=\"\",consumer_group=\"\",error_type=\"{error_type}\"}}"
        ))
    };
    let answer = client.call(8, &offsets_of(&["g", "h"], "orders")).await;
    assert!(answer.groups.iter().all(|group| group.error_code == 0));
    assert_eq!(refused("agent_error"), 0.0);
    server.running.agent.metadata.close().await.unwrap();
    let answer = client.call(8, &offsets_of(&["g", "h"], "orders")).await;
    assert!(answer.groups.iter().all(|group| group.error_code != 0));
    assert_eq!(refused("agent_error"), 2.0);
}

#[tokio::test]
async fn a_first_join_is_no_mistake_of_its_client() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range")),
        ]);
    let answer = client.call(5, &join).await;
    assert_eq!(
        answer.error_code,
        kafka_protocol::ResponseError::MemberIdRequired.code()
    );
    let joins = |outcome: &str| {
        server.metric(&format!(
            "streamhouse_api_requests_total{{api=\"JoinGroup\",outcome=\"{outcome}\"}}"
        ))
    };
    // It is counted when it is written, which its client may see first.
    let counted = async {
        while joins("ok") == 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), counted)
        .await
        .unwrap();
    assert_eq!((joins("ok"), joins("client_error")), (1.0, 0.0));
}

/// The fields of each WARN line, numbers only.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<Line>>>);

#[derive(Clone, Default)]
struct Line {
    message: String,
    numbers: BTreeMap<&'static str, f64>,
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.numbers.insert(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_produce_that_the_budget_held_back_is_slow_and_says_so() {
    let warnings = Warnings::default();
    // All of the agent runs on this thread.
    let _logged = tracing::subscriber::set_default(warnings.clone());
    // With a single one alive, a line that another test's thread meets first would be off for good.
    let _second = tracing::Dispatch::new(Warnings::default());
    let server = Server::with(
        "inflight_bytes = '1MiB'\nflush_bytes = '64KiB'\nmessage_bytes_max = '512KiB'\nslow_request = '300ms'",
    )
    .await;
    let mut client = server.client().await;
    client.call(7, &create("held-back", 1)).await;
    // Takes the whole budget and stops half-way.
    let mut greedy = server.client().await;
    let mut opening = vec![0; (1 << 20) - (128 << 10)];
    opening[..8].copy_from_slice(&[0, 16, 0, 0, 0, 0, 0, 9]);
    greedy.stream.write_all(&opening).await.unwrap();
    let used = || server.metric("streamhouse_inflight_bytes");
    let is_full = async {
        while used() < f64::from(1 << 20) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), is_full)
        .await
        .unwrap();
    let request = produce(9, "held-back", Uuid::nil(), 0, batch(1, &["a"]));
    let correlation = client.send(9, &request).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(greedy);
    let answer = client
        .receive::<kafka_protocol::messages::ProduceRequest>(9, correlation)
        .await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    let slow = async {
        loop {
            let found = warnings
                .0
                .lock()
                .unwrap()
                .iter()
                .find(|line| line.message == "slow request" && line.numbers.contains_key("queue_ms"))
                .cloned();
            if let Some(line) = found {
                return line.numbers;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let numbers = tokio::time::timeout(Duration::from_secs(30), slow).await.unwrap();
    assert!(numbers["queue_ms"] >= 300.0, "{numbers:?}");
    assert!(numbers["duration_ms"] >= numbers["queue_ms"], "{numbers:?}");
}
