//! Administration over the wire: configurations, descriptions, and logs that begin later.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_client_quotas_request as quota;
use kafka_protocol::messages::alter_configs_request as alter;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterConfigsRequest, AlterPartitionReassignmentsRequest, BrokerId,
    DeleteRecordsRequest, DescribeClientQuotasRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeLogDirsRequest, DescribeTopicPartitionsRequest, DescribeUserScramCredentialsRequest,
    ElectLeadersRequest, IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest,
    OffsetForLeaderEpochRequest,
};
use kafka_protocol::protocol::{Message, StrBytes};
use uuid::Uuid;

use crate::support::requests::{create, fetch, list_offsets, metadata, name, produce};
use crate::support::{Client, Server, batch, records};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

async fn server_with(topic: &str, partitions: i32) -> (Server, Client) {
    let server = Server::start().await;
    let mut client = server.client().await;
    let created = client.call(7, &create(topic, partitions)).await;
    assert_eq!(created.topics[0].error_code, 0);
    (server, client)
}

/// Value and source of a config as the newest version describes it.
async fn config(client: &mut Client, topic: &str, key: &str) -> (String, i8) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text(key)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(4, &request).await;
    let result = &response.results[0];
    assert_eq!((result.error_code, result.configs.len()), (0, 1));
    let found = &result.configs[0];
    (found.value.as_ref().unwrap().to_string(), found.config_source)
}

fn change(
    kind: i8,
    resource: &str,
    ops: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> IncrementalAlterConfigsRequest {
    let configs = ops.iter().map(|(key, op, value)| {
        incremental::AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*op)
            .with_value(value.map(text))
    });
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(configs.collect());
    IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only)
}

#[tokio::test]
async fn topics_are_configured_and_described_in_every_version() {
    let (_server, mut client) = server_with("orders", 1).await;
    for version in 0..=1 {
        let value = format!("{}", 1_000 + i64::from(version));
        let ops = [("retention.ms", 0, Some(value.as_str()))];
        let only = client.call(version, &change(TOPIC, "orders", &ops, true)).await;
        assert_eq!(only.responses[0].error_code, 0);
        assert_ne!(config(&mut client, "orders", "retention.ms").await.0, value);
        let done = client.call(version, &change(TOPIC, "orders", &ops, false)).await;
        assert_eq!(done.responses[0].error_code, 0);
        assert_eq!(config(&mut client, "orders", "retention.ms").await, (value, 1));
    }
    for version in 0..=2 {
        let value = format!("{}", 5_000 + i64::from(version));
        let entry = alter::AlterableConfig::default()
            .with_name(text("retention.bytes"))
            .with_value(Some(text(&value)));
        let resource = alter::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("orders"))
            .with_configs(vec![entry]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(client.call(version, &request).await.responses[0].error_code, 0);
        assert_eq!(config(&mut client, "orders", "retention.bytes").await, (value, 1));
        let replaced = config(&mut client, "orders", "retention.ms").await;
        assert_eq!(
            replaced,
            ("604800000".to_owned(), 5),
            "the rest is the default again"
        );
    }
    for version in DescribeConfigsRequest::VERSIONS.min..=DescribeConfigsRequest::VERSIONS.max {
        for (kind, resource, key) in [
            (TOPIC, "orders", "cleanup.policy"),
            (BROKER, "1", "num.partitions"),
        ] {
            let resource = DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(resource))
                .with_configuration_keys(None);
            let request = DescribeConfigsRequest::default()
                .with_resources(vec![resource])
                .with_include_synonyms(true)
                .with_include_documentation(version >= 3);
            let response = client.call(version, &request).await;
            let result = &response.results[0];
            assert_eq!(result.error_code, 0, "v{version}: {:?}", result.error_message);
            let found = result.configs.iter().find(|config| *config.name == *key).unwrap();
            assert!(!found.synonyms.is_empty());
            assert_eq!(found.read_only, kind == BROKER);
            assert_eq!(found.config_type != 0, version >= 3);
            let documented = found.documentation.as_ref().is_some_and(|doc| !doc.is_empty());
            assert_eq!(documented, version >= 3);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_configured_is_refused_by_name() {
    let (_server, mut client) = server_with("orders", 1).await;
    let invalid = ResponseError::InvalidConfig;
    let request = ResponseError::InvalidRequest;
    for (kind, resource, ops, code, named) in [
        (
            TOPIC,
            "orders",
            &[("no.such", 0, Some("1"))][..],
            invalid,
            "no.such",
        ),
        (
            TOPIC,
            "orders",
            &[("cleanup.policy", 0, Some("compact"))],
            invalid,
            "cleanup.policy",
        ),
        (
            TOPIC,
            "orders",
            &[("cleanup.policy", 2, Some("compact"))],
            invalid,
            "cleanup.policy",
        ),
        (
            TOPIC,
            "orders",
            &[("retention.ms", 0, Some("soon"))],
            invalid,
            "retention.ms",
        ),
        (
            TOPIC,
            "orders",
            &[("retention.ms", 2, Some("1"))],
            invalid,
            "retention.ms",
        ),
        (
            TOPIC,
            "orders",
            &[("retention.ms", 0, None)],
            request,
            "retention.ms",
        ),
        (TOPIC, "orders", &[("retention.ms", 9, Some("1"))], request, "9"),
        (
            TOPIC,
            "orders",
            &[("retention.ms", 0, Some("1")), ("retention.ms", 1, None)],
            request,
            "twice",
        ),
        (
            TOPIC,
            "nobody",
            &[("retention.ms", 0, Some("1"))],
            ResponseError::UnknownTopicOrPartition,
            "topic",
        ),
        (TOPIC, "a b", &[], ResponseError::InvalidTopicException, "a b"),
        (
            BROKER,
            "1",
            &[("num.partitions", 0, Some("5"))],
            invalid,
            "num.partitions",
        ),
        (BROKER, "77", &[], request, "77"),
        (32, "x", &[], request, "32"),
    ] {
        for validate_only in [true, false] {
            let response = client.call(1, &change(kind, resource, ops, validate_only)).await;
            let answer = &response.responses[0];
            assert_eq!(answer.error_code, code.code(), "{resource} {ops:?}");
            let message = answer.error_message.as_deref().unwrap();
            assert!(message.contains(named), "{message}");
        }
    }
    assert_eq!(config(&mut client, "orders", "retention.ms").await.1, 5);
    // The default that nobody changed is no setting of the operator's: tools list only those.
    let limit = config(&mut client, "orders", "max.message.bytes").await;
    assert_eq!(limit, ("1048588".to_owned(), 5));
}

#[tokio::test]
async fn a_new_configuration_holds_for_the_next_produce() {
    let (_server, mut client) = server_with("orders", 1).await;
    let produced = async |client: &mut Client, timestamp: i64, value: &str| {
        let request = produce(9, "orders", Uuid::nil(), 0, batch(timestamp, &[value]));
        let response = client.call(9, &request).await;
        response.responses[0].partition_responses[0].error_code
    };
    let large = "x".repeat(2_000);
    assert_eq!(produced(&mut client, 1_000, &large).await, 0);
    let ops = [
        ("max.message.bytes", 0, Some("1000")),
        ("message.timestamp.before.max.ms", 0, Some("60000")),
    ];
    client.call(1, &change(TOPIC, "orders", &ops, false)).await;
    assert_eq!(
        produced(&mut client, 1_000, &large).await,
        ResponseError::MessageTooLarge.code()
    );
    assert_eq!(
        produced(&mut client, 1_000, "old").await,
        ResponseError::InvalidTimestamp.code()
    );
    assert_eq!(
        produced(&mut client, 32_503_680_000_000, "of the year 3000").await,
        ResponseError::InvalidTimestamp.code()
    );
    let ops = [("message.timestamp.type", 0, Some("LogAppendTime"))];
    client.call(1, &change(TOPIC, "orders", &ops, false)).await;
    assert_eq!(produced(&mut client, 1_000, "old").await, 0);
}

fn deletion(topic: &str, partition: i32, offset: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(partition)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000)
}

/// TRACES 2 and 3: the tail holds the records still, and serves none of them.
#[tokio::test]
async fn trace_03_deleted_records_are_read_by_nobody_in_every_version() {
    let (_server, mut client) = server_with("orders", 1).await;
    for _ in 0..4 {
        let request = produce(9, "orders", Uuid::nil(), 0, batch(1_000, &["a", "b"]));
        client.call(9, &request).await;
    }
    for (version, offset, start) in [(0, 1, 1), (1, 3, 3), (2, 2, 3), (2, -1, 8)] {
        let response = client.call(version, &deletion("orders", 0, offset)).await;
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (0, start));
        let below = client
            .call(12, &fetch(12, "orders", Uuid::nil(), 0, start - 1))
            .await;
        let below = &below.responses[0].partitions[0];
        assert_eq!(
            (below.error_code, below.log_start_offset),
            (ResponseError::OffsetOutOfRange.code(), start)
        );
        let read = client.call(12, &fetch(12, "orders", Uuid::nil(), 0, start)).await;
        let read = &read.responses[0].partitions[0];
        assert_eq!((read.error_code, read.log_start_offset), (0, start));
        assert!(
            records(read.records.clone())
                .iter()
                .all(|(offset, _)| offset + 2 > start)
        );
        let earliest = client.call(8, &list_offsets("orders", 0, -2)).await;
        assert_eq!(earliest.topics[0].partitions[0].offset, start);
        let by_time = client.call(8, &list_offsets("orders", 0, 0)).await;
        let found = if start < 8 { start } else { -1 };
        assert_eq!(by_time.topics[0].partitions[0].offset, found);
    }
    for (topic, partition, offset, code) in [
        ("orders", 0, 9, ResponseError::OffsetOutOfRange),
        ("orders", 0, -2, ResponseError::OffsetOutOfRange),
        ("orders", 1, 0, ResponseError::UnknownTopicOrPartition),
        ("nobody", 0, 0, ResponseError::UnknownTopicOrPartition),
    ] {
        let response = client.call(2, &deletion(topic, partition, offset)).await;
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (code.code(), -1));
    }
}

#[tokio::test]
async fn the_cluster_and_its_topics_are_described_page_by_page() {
    let (server, mut client) = server_with("b", 3).await;
    client.call(7, &create("a", 2)).await;
    for version in 0..=2 {
        let mut request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        request.endpoint_type = 1;
        let response = client.call(version, &request).await;
        assert_eq!((response.error_code, response.brokers.len()), (0, 1));
        assert_eq!(response.controller_id, response.brokers[0].broker_id);
        assert_eq!(response.brokers[0].port, i32::from(server.running.kafka.port()));
        let same = client.call(13, &metadata("a")).await.cluster_id.unwrap();
        assert_eq!(response.cluster_id, same);
        if version >= 1 {
            request.endpoint_type = 2;
            let refused = client.call(version, &request).await;
            assert_eq!(refused.error_code, ResponseError::UnsupportedEndpointType.code());
        }
    }
    let mut request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
    let mut seen = Vec::new();
    loop {
        let response = client.call(0, &request).await;
        for topic in &response.topics {
            for partition in &topic.partitions {
                seen.push((
                    topic.name.as_ref().unwrap().to_string(),
                    partition.partition_index,
                ));
            }
        }
        let Some(next) = response.next_cursor else { break };
        let next = Cursor::default()
            .with_topic_name(next.topic_name)
            .with_partition_index(next.partition_index);
        request = request.with_cursor(Some(next));
    }
    let expected = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)];
    assert_eq!(
        seen,
        expected.map(|(topic, partition)| (topic.to_owned(), partition))
    );
    let wanted = ["nobody", "a b"].map(|topic| TopicRequest::default().with_name(name(topic)));
    let request = DescribeTopicPartitionsRequest::default().with_topics(wanted.to_vec());
    let response = client.call(0, &request).await;
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(
        codes,
        [
            ResponseError::InvalidTopicException.code(),
            ResponseError::UnknownTopicOrPartition.code()
        ]
    );
}

#[tokio::test]
async fn log_dirs_and_leader_epochs_say_what_is_stored_in_every_version() {
    let (_server, mut client) = server_with("orders", 2).await;
    let bytes = batch(1_000, &["a", "b"]);
    client
        .call(9, &produce(9, "orders", Uuid::nil(), 1, bytes.clone()))
        .await;
    for version in 1..=4 {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let response = client.call(version, &request).await;
        let partitions = &response.results[0].topics[0].partitions;
        let sizes: Vec<_> = partitions
            .iter()
            .map(|partition| partition.partition_size)
            .collect();
        assert_eq!(sizes, [0, bytes.len() as i64], "v{version}");
    }
    for version in 2..=4 {
        for (partition, epoch, expected) in [
            (1, 0, (0, 0, 2)),
            (0, 0, (0, 0, 0)),
            (1, 1, (0, -1, -1)),
            (2, 0, (ResponseError::UnknownTopicOrPartition.code(), -1, -1)),
        ] {
            let wanted = OffsetForLeaderPartition::default()
                .with_partition(partition)
                .with_current_leader_epoch(0)
                .with_leader_epoch(epoch);
            let topic = OffsetForLeaderTopic::default()
                .with_topic(name("orders"))
                .with_partitions(vec![wanted]);
            let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            if version >= 3 {
                request.replica_id = BrokerId(-1);
            }
            let response = client.call(version, &request).await;
            let end = &response.topics[0].partitions[0];
            assert_eq!(
                (end.error_code, end.leader_epoch, end.end_offset),
                expected,
                "v{version}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_is_elected_or_reassigned() {
    let (_server, mut client) = server_with("orders", 1).await;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    for version in 0..=2 {
        let topic = TopicPartitions::default()
            .with_topic(name("orders"))
            .with_partitions(vec![0, 1]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
        let response = client.call(version, &request).await;
        let results = &response.replica_election_results[0].partition_result;
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ResponseError::ElectionNotNeeded.code(), unknown]);
        let all = ElectLeadersRequest::default().with_topic_partitions(None);
        let response = client.call(version, &all).await;
        assert!(response.error_code == 0 && response.replica_election_results.is_empty());
    }
    let me = client.call(13, &metadata("orders")).await.brokers[0].node_id;
    for version in 0..=1 {
        for (partition, replicas, code) in [
            (0, Some(vec![me]), 0),
            (
                0,
                Some(vec![BrokerId(99)]),
                ResponseError::InvalidReplicaAssignment.code(),
            ),
            (0, None, ResponseError::NoReassignmentInProgress.code()),
            (1, Some(vec![me]), unknown),
        ] {
            let partition = ReassignablePartition::default()
                .with_partition_index(partition)
                .with_replicas(replicas);
            let topic = ReassignableTopic::default()
                .with_name(name("orders"))
                .with_partitions(vec![partition]);
            let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
            let response = client.call(version, &request).await;
            assert_eq!(response.responses[0].partitions[0].error_code, code);
        }
    }
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let response = client.call(0, &request).await;
    assert!(response.error_code == 0 && response.topics.is_empty());
}

fn quota_of(
    kind: &str,
    entity: Option<&str>,
    key: &str,
    value: f64,
    remove: bool,
) -> AlterClientQuotasRequest {
    let part = quota::EntityData::default()
        .with_entity_type(text(kind))
        .with_entity_name(entity.map(text));
    let op = quota::OpData::default()
        .with_key(text(key))
        .with_value(value)
        .with_remove(remove);
    let entry = quota::EntryData::default()
        .with_entity(vec![part])
        .with_ops(vec![op]);
    AlterClientQuotasRequest::default().with_entries(vec![entry])
}

#[tokio::test]
async fn quotas_are_set_shown_and_removed_in_every_version() {
    let (_server, mut client) = server_with("orders", 1).await;
    for version in 0..=1 {
        let set = quota_of("client-id", None, "producer_byte_rate", 1024.0, false);
        let mut only = set.clone();
        only.validate_only = true;
        let describe = |kind: &str, match_type| {
            let component = ComponentData::default()
                .with_entity_type(text(kind))
                .with_match_type(match_type)
                .with_match(None);
            DescribeClientQuotasRequest::default()
                .with_components(vec![component])
                .with_strict(true)
        };
        let shown = async |client: &mut Client, kind: &str, match_type| {
            let response = client.call(version, &describe(kind, match_type)).await;
            assert_eq!(response.error_code, 0);
            let entries = response.entries.unwrap();
            let rates: Vec<f64> = entries
                .iter()
                .flat_map(|entry| &entry.values)
                .map(|v| v.value)
                .collect();
            rates
        };
        assert_eq!(client.call(version, &only).await.entries[0].error_code, 0);
        assert!(shown(&mut client, "client-id", 2).await.is_empty());
        assert_eq!(client.call(version, &set).await.entries[0].error_code, 0);
        assert_eq!(shown(&mut client, "client-id", 2).await, [1024.0]);
        assert_eq!(shown(&mut client, "client-id", 1).await, [1024.0]);
        assert!(shown(&mut client, "user", 2).await.is_empty());
        assert!(shown(&mut client, "ip", 2).await.is_empty());
        let gone = quota_of("client-id", None, "producer_byte_rate", 0.0, true);
        assert_eq!(client.call(version, &gone).await.entries[0].error_code, 0);
        assert!(shown(&mut client, "client-id", 2).await.is_empty());
        for (kind, key, value) in [
            ("client-id", "request_percentage", 1.0),
            ("client-id", "producer_byte_rate", 0.5),
            ("client-id", "producer_byte_rate", f64::NAN),
            ("ip", "connection_creation_rate", 1.0),
        ] {
            let refused = client
                .call(version, &quota_of(kind, Some("x"), key, value, false))
                .await;
            assert_eq!(
                refused.entries[0].error_code,
                ResponseError::InvalidRequest.code()
            );
        }
    }
}

/// Over its rate a client is told for how long, and its next request waits that long; others do not.
#[tokio::test]
async fn nobody_has_credentials_and_who_is_named_is_told_so() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let everybody = DescribeUserScramCredentialsRequest::default().with_users(None);
    let response = client.call(0, &everybody).await;
    assert_eq!((response.error_code, response.results.len()), (0, 0));
    let named = ["a", "b", "a"].map(|user| UserName::default().with_name(text(user)));
    let named = DescribeUserScramCredentialsRequest::default().with_users(Some(named.to_vec()));
    let results = client.call(0, &named).await.results;
    let codes: Vec<_> = results.iter().map(|r| (r.user.as_str(), r.error_code)).collect();
    let (duplicate, missing) = (
        ResponseError::DuplicateResource.code(),
        ResponseError::ResourceNotFound.code(),
    );
    assert_eq!(codes, [("a", duplicate), ("b", missing)]);
}

#[tokio::test]
async fn a_client_over_its_rate_is_told_and_kept_waiting() {
    let (server, mut client) = server_with("orders", 1).await;
    for key in ["producer_byte_rate", "consumer_byte_rate"] {
        let set = quota_of("client-id", Some("test"), key, 1_000.0, false);
        client.call(1, &set).await;
    }
    let large = "x".repeat(10_400);
    let request = produce(9, "orders", Uuid::nil(), 0, batch(1_000, &[&large]));
    let began = std::time::Instant::now();
    let throttled = client.call(9, &request).await.throttle_time_ms;
    assert!((400..2_000).contains(&throttled), "{throttled}");
    // A request that is not charged is held back all the same: the connection is mute.
    client.call(12, &metadata("orders")).await;
    assert!(began.elapsed().as_millis() >= throttled.unsigned_abs().into());
    let read = client.call(12, &fetch(12, "orders", Uuid::nil(), 0, 0)).await;
    assert!(read.throttle_time_ms > 0);
    assert_eq!(records(read.responses[0].partitions[0].records.clone()).len(), 1);
    let mut other = server.client().await;
    let unlimited = quota_of("client-id", Some("test"), "producer_byte_rate", 0.0, true);
    assert_eq!(other.call(1, &unlimited).await.entries[0].error_code, 0);
    let request = produce(9, "orders", Uuid::nil(), 0, batch(1_000, &[&large]));
    assert_eq!(other.call(9, &request).await.throttle_time_ms, 0);
}
