//! What clients are told while the metadata store cannot be asked: never that there is nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic};
use kafka_protocol::messages::{GroupId, MetadataRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::testing::FlakyStore;
use streamhouse_observability::Health;
use streamhouse_server::handlers::context::Agent;
use streamhouse_server::handlers::topics::{MessageLimits, Topics};
use streamhouse_server::listener;
use streamhouse_server::listener::budget::Budget;
use streamhouse_server::listener::frames::Limits;
use streamhouse_server::quota::Quotas;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::counted::{in_transaction, refused};
use crate::support::requests::{metadata, name};
use crate::support::{Client, Server};

/// An agent, and the address of the same agent over a metadata store that is down.
async fn without_store() -> (Server, SocketAddr) {
    let server = Server::start().await;
    let agent = &server.running.agent;
    let store = Arc::new(FlakyStore::new(agent.metadata.clone()));
    store.set_down(true);
    let metadata: Arc<dyn MetadataStore> = store;
    let limits = MessageLimits {
        default: 1 << 20,
        ceiling: 1 << 20,
    };
    let cut_off = Agent {
        topics: Topics::new(metadata.clone(), agent.metrics.clone(), limits),
        quotas: Quotas::new(metadata.clone()),
        metadata,
        node: agent.node.clone(),
        settings: agent.settings.clone(),
        writer: agent.writer.clone(),
        reader: agent.reader.clone(),
        responses: agent.responses.clone(),
        groups: agent.groups.clone(),
        transactions: agent.transactions.clone(),
        consumption: agent.consumption.clone(),
        fetch_sessions: agent.fetch_sessions.clone(),
        telemetry: agent.telemetry.clone(),
        upkeep: agent.upkeep.clone(),
        metrics: agent.metrics.clone(),
        instance: agent.instance.clone(),
        stopping: agent.stopping.clone(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        frame_bytes_max: 1 << 20,
        idle_timeout: Duration::from_secs(60),
        stall_timeout: Duration::from_secs(60),
        inflight: Budget::new(1 << 20),
        plain: Budget::new(1 << 20),
        waiting: Budget::new(1 << 20),
    };
    let health = Health::new().component("kafka");
    tokio::spawn(listener::run(
        listener,
        Arc::new(cut_off),
        limits,
        100,
        TaskTracker::new(),
        health,
    ));
    (server, address)
}

#[tokio::test]
async fn topics_that_are_asked_for_are_to_be_asked_for_again() {
    let (_server, address) = without_store().await;
    let mut client = Client::connect(address).await;
    let later = ResponseError::LeaderNotAvailable.code();
    for version in 0..=13 {
        let mut request = metadata("orders");
        request.allow_auto_topic_creation = version < 4 || version % 2 == 0;
        let again = request.topics.as_ref().unwrap()[0].clone();
        request.topics.as_mut().unwrap().push(again);
        let answer = client.call(version, &request).await;
        assert_eq!((answer.brokers.len(), answer.topics.len()), (1, 1), "v{version}");
        let topic = &answer.topics[0];
        assert_eq!(
            (topic.name.as_ref(), topic.error_code),
            (Some(&name("orders")), later)
        );
        assert_eq!(answer.error_code != 0, version >= 13, "v{version}");
    }
    let id = Uuid::from_u128(7);
    for version in 12..=13 {
        let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let answer = client.call(version, &request).await;
        let topic = &answer.topics[0];
        assert_eq!(
            (&topic.name, topic.topic_id, topic.error_code),
            (&None, id, later)
        );
    }
    // Who asks for none is told where the agents are.
    let none = MetadataRequest::default().with_topics(Some(Vec::new()));
    let answer = client.call(12, &none).await;
    assert_eq!((answer.brokers.len(), answer.topics.len()), (1, 0));
}

#[tokio::test]
async fn who_asks_for_all_topics_is_disconnected_rather_than_told_that_there_are_none() {
    let (server, address) = without_store().await;
    for version in 0..=13 {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let mut client = Client::connect(address).await;
        client
            .send(version, &MetadataRequest::default().with_topics(all))
            .await;
        assert!(client.receive_frame().await.is_none(), "v{version}");
    }
    let failed = server.metric("streamhouse_api_requests_total{api=\"Metadata\",outcome=\"server_error\"}");
    assert_eq!(failed, 14.0);
}

#[tokio::test]
async fn offsets_that_cannot_be_read_are_errors_in_every_version() {
    let (_server, address) = without_store().await;
    let mut client = Client::connect(address).await;
    let group = || GroupId(StrBytes::from_static_str("g"));
    let topic = |topic: &str, partitions: &[i32]| {
        OffsetFetchRequestTopic::default()
            .with_name(name(topic))
            .with_partition_indexes(partitions.to_vec())
    };
    let asked = vec![topic("orders", &[0, 3]), topic("bills", &[1])];
    for version in 1..=7 {
        let request = OffsetFetchRequest::default()
            .with_group_id(group())
            .with_topics(Some(asked.clone()));
        let answer = client.call(version, &request).await;
        if version >= 2 {
            assert_eq!((answer.error_code != 0, answer.topics.len()), (true, 0));
            continue;
        }
        let told = answer.topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(|partition| (topic.name.as_str(), partition))
        });
        let told: Vec<_> = told
            .map(|(name, partition)| {
                assert_ne!(partition.error_code, 0);
                assert_eq!(partition.committed_leader_epoch, -1);
                assert_eq!(partition.metadata.as_deref(), Some(""));
                (name, partition.partition_index, partition.committed_offset)
            })
            .collect();
        assert_eq!(told, [("orders", 0, -1), ("orders", 3, -1), ("bills", 1, -1)]);
    }
    for version in 8..=9 {
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group())
            .with_topics(None);
        let answer = client
            .call(version, &OffsetFetchRequest::default().with_groups(vec![asked]))
            .await;
        assert_ne!(answer.groups[0].error_code, 0);
    }
}

#[tokio::test]
async fn offsets_of_topics_that_cannot_be_looked_up_are_refused_under_no_topic() {
    let (server, address) = without_store().await;
    // The coordinators' store is up.
    let request = in_transaction(&mut server.client().await, &[("orders", 0, 0)]).await;
    let answer = Client::connect(address).await.call(3, &request).await;
    assert_ne!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(refused(&server, "", "agent_error"), 1.0);
    assert_eq!(refused(&server, "~unknown", "agent_error"), 0.0);
}
