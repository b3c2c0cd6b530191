//! Every version of every API that is advertised gets an answer that another implementation decodes.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest, DeleteTopicsRequest,
    FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Message, StrBytes};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::support::requests::{create, fetch, list_offsets, metadata, name, produce};
use crate::support::{Client, Server, batch, frame, records};

async fn topic_id(client: &mut Client, topic: &str) -> Uuid {
    client.call(12, &metadata(topic)).await.topics[0].topic_id
}

#[tokio::test]
async fn every_produce_and_fetch_version_carries_records() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let id = topic_id(&mut client, "orders").await;
    let mut expected = Vec::new();
    for version in ProduceRequest::VERSIONS.min..=ProduceRequest::VERSIONS.max {
        let value = format!("v{version}");
        let request = produce(version, "orders", id, 0, batch(1000, &[&value]));
        let response = client.call(version, &request).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(
            (partition.error_code, partition.base_offset),
            (0, expected.len() as i64),
            "v{version}"
        );
        expected.push((expected.len() as i64, value));
    }
    for version in FetchRequest::VERSIONS.min..=FetchRequest::VERSIONS.max {
        let response = client.call(version, &fetch(version, "orders", id, 0, 0)).await;
        assert_eq!((response.error_code, response.session_id > 0), (0, version >= 7));
        let topic = &response.responses[0];
        assert_eq!(
            (topic.topic_id == id, &*topic.topic == "orders"),
            (version >= 13, version < 13)
        );
        let partition = &topic.partitions[0];
        assert_eq!(
            (partition.error_code, partition.high_watermark),
            (0, expected.len() as i64)
        );
        assert_eq!(records(partition.records.clone()), expected, "v{version}");
    }
}

#[tokio::test]
async fn every_metadata_version_names_agent_and_topic() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for version in MetadataRequest::VERSIONS.min..=MetadataRequest::VERSIONS.max {
        let mut request = metadata("orders");
        request.allow_auto_topic_creation = true;
        let response = client.call(version, &request).await;
        assert_eq!(response.brokers.len(), 1);
        assert_eq!(response.brokers[0].port, i32::from(server.running.kafka.port()));
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 1), "v{version}");
        assert_eq!(topic.partitions[0].leader_id, response.brokers[0].node_id);
        assert_eq!(topic.topic_id.is_nil(), version < 10);
    }
}

#[tokio::test]
async fn topics_are_created_grown_and_deleted_in_every_version() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for version in 2..=7 {
        let topic = format!("made-{version}");
        let created = client.call(version, &create(&topic, 2)).await;
        assert_eq!(
            (created.topics[0].error_code, created.topics[0].name.as_str()),
            (0, topic.as_str())
        );
        let again = client.call(version, &create(&topic, 2)).await;
        assert_eq!(
            again.topics[0].error_code,
            ResponseError::TopicAlreadyExists.code()
        );
    }
    for version in 0..=3 {
        let more = CreatePartitionsTopic::default()
            .with_name(name(&format!("made-{}", version + 2)))
            .with_count(5)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![more]);
        assert_eq!(client.call(version, &request).await.results[0].error_code, 0);
        let again = client.call(version, &request).await;
        assert_eq!(
            again.results[0].error_code,
            ResponseError::InvalidPartitions.code()
        );
    }
    for version in 1..=5 {
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![name(&format!("made-{}", version + 2))]);
        assert_eq!(client.call(version, &request).await.responses[0].error_code, 0);
        let again = client.call(version, &request).await;
        assert_eq!(
            again.responses[0].error_code,
            ResponseError::UnknownTopicOrPartition.code()
        );
    }
    let id = topic_id(&mut client, "made-2").await;
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![by_id]);
    let response = client.call(6, &request).await;
    assert_eq!(
        (
            response.responses[0].error_code,
            response.responses[0].name.as_deref()
        ),
        (0, Some(&StrBytes::from_static_str("made-2")))
    );
    let again = client.call(6, &request).await;
    assert_eq!(
        again.responses[0].error_code,
        ResponseError::UnknownTopicId.code()
    );
}

#[tokio::test]
async fn offsets_are_found_in_every_version() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let id = topic_id(&mut client, "orders").await;
    client
        .call(9, &produce(9, "orders", id, 0, batch(1000, &["a", "b", "c"])))
        .await;
    for version in ListOffsetsRequest::VERSIONS.min..=ListOffsetsRequest::VERSIONS.max {
        for (timestamp, offset, found, since) in [
            (-1, 3, -1, 1),
            (-2, 0, -1, 1),
            (-3, 2, 1002, 7),
            (-4, 0, -1, 8),
            (-5, -1, -1, 9),
            (1001, 1, 1001, 1),
            (0, 0, 1000, 1),
            (5000, -1, -1, 1),
        ] {
            let response = client.call(version, &list_offsets("orders", 0, timestamp)).await;
            let partition = &response.topics[0].partitions[0];
            if version < since {
                assert_eq!(partition.error_code, ResponseError::UnsupportedVersion.code());
                continue;
            }
            assert_eq!(
                (partition.error_code, partition.offset, partition.timestamp),
                (0, offset, found),
                "v{version} {timestamp}"
            );
        }
    }
    let unknown = client.call(5, &list_offsets("orders", 7, -1)).await;
    assert_eq!(
        unknown.topics[0].partitions[0].error_code,
        ResponseError::UnknownTopicOrPartition.code()
    );
}

#[tokio::test]
async fn producer_ids_and_coordinators_are_given_in_every_version() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut ids = std::collections::HashSet::new();
    for version in 0..=5 {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let response = client.call(version, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(ids.insert(response.producer_id), "an id was given twice");
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(StrBytes::from_static_str("t").into()))
            .with_transaction_timeout_ms(1000);
        let response = client.call(version, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, version));
    }
    let key = StrBytes::from_static_str("group");
    for version in 0..=6 {
        let request = if version >= 4 {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![key.clone(), StrBytes::new()])
        } else {
            FindCoordinatorRequest::default().with_key(key.clone())
        };
        let response = client.call(version, &request).await;
        let port = i32::from(server.running.kafka.port());
        if version >= 4 {
            assert_eq!(
                (response.coordinators[0].error_code, response.coordinators[0].port),
                (0, port)
            );
            // Old clients commit under an empty id.
            assert_eq!(
                (response.coordinators[1].error_code, response.coordinators[1].port),
                (0, port)
            );
        } else {
            assert_eq!((response.error_code, response.port), (0, port));
        }
    }
}

#[tokio::test]
async fn what_is_advertised_is_served_and_produce_is_advertised_from_zero() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for version in 0..=4 {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("test"))
            .with_client_software_version(StrBytes::from_static_str("1.0"));
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, 0);
        let produce = response
            .api_keys
            .iter()
            .find(|api| api.api_key == ApiKey::Produce as i16);
        assert_eq!(
            produce.map(|api| (api.min_version, api.max_version)),
            Some((0, 13))
        );
        let features: Vec<_> = response
            .finalized_features
            .iter()
            .map(|f| f.name.as_str())
            .collect();
        assert_eq!(features.contains(&"transaction.version"), version >= 3);
    }
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut request = frame(3, 77, &ApiVersionsRequest::default()).to_vec();
    request[6..8].copy_from_slice(&99i16.to_be_bytes());
    client.stream.write_all(&request).await.unwrap();
    let mut answer = client.receive_frame().await.unwrap();
    assert_eq!(ResponseHeader::decode(&mut answer, 0).unwrap().correlation_id, 77);
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(response.error_code, ResponseError::UnsupportedVersion.code());
    let ours = &response.api_keys[0];
    assert_eq!((ours.api_key, ours.max_version), (ApiKey::ApiVersions as i16, 4));
    // The connection is still good: a client now asks again, lower.
    client.call(0, &ApiVersionsRequest::default()).await;
}

#[tokio::test]
async fn an_unknown_version_of_anything_else_costs_the_connection() {
    let server = Server::start().await;
    for (key, version) in [(0i16, 2i16), (0, 14), (1, 3), (3, 99), (11, 0), (999, 0)] {
        let mut client = server.client().await;
        let mut request = frame(0, 1, &ApiVersionsRequest::default()).to_vec();
        request[4..6].copy_from_slice(&key.to_be_bytes());
        request[6..8].copy_from_slice(&version.to_be_bytes());
        client.stream.write_all(&request).await.unwrap();
        assert!(client.receive_frame().await.is_none(), "{key} v{version}");
    }
}
