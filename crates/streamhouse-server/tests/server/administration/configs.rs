//! Configurations of topics.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
    alter_configs_request as alter, incremental_alter_configs_request as incremental,
};
use kafka_protocol::protocol::Message as _;
use uuid::Uuid;

use super::{BROKER, TOPIC, server_with, text};
use crate::support::requests::produce;
use crate::support::{Client, batch};

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
