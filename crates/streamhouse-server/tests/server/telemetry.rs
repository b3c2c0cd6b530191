//! Clients' own metrics over the wire: subscribed to as Kafka's tools do it, asked for, pushed, shown.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeConfigsRequest, GetTelemetrySubscriptionsRequest,
    IncrementalAlterConfigsRequest, ListConfigResourcesRequest, PushTelemetryRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::support::requests::create;
use crate::support::{Client, Server};

const CLIENT_METRICS: i8 = 16;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// Sets entries of a subscription; `None` takes one away.
async fn set(client: &mut Client, name: &str, entries: &[(&str, Option<&str>)], validate_only: bool) -> i16 {
    let config = |(entry, value): &(&str, Option<&str>)| {
        AlterableConfig::default()
            .with_name(text(entry))
            .with_config_operation(i8::from(value.is_none()))
            .with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(text(name))
        .with_configs(entries.iter().map(config).collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    client.call(1, &request).await.responses[0].error_code
}

/// Name, value and source of every entry.
async fn described(client: &mut Client, name: &str) -> Vec<(String, String, i8)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = client.call(4, &request).await;
    assert_eq!(response.results[0].error_code, 0);
    let configs = response.results[0].configs.iter();
    configs
        .map(|config| {
            let value = config.value.as_ref().unwrap().to_string();
            (config.name.to_string(), value, config.config_source)
        })
        .collect()
}

async fn listed(client: &mut Client, version: i16, kinds: &[i8]) -> (i16, Vec<(i8, String)>) {
    let request = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
    let response = client.call(version, &request).await;
    let resources = response.config_resources.iter();
    let resources = resources.map(|each| (each.resource_type, each.resource_name.to_string()));
    (response.error_code, resources.collect())
}

#[tokio::test]
async fn subscriptions_are_set_described_and_listed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let entry = |name: &str, value: &str, source| (name.to_owned(), value.to_owned(), source);
    let metrics = [
        ("metrics", Some("org.apache.kafka.")),
        ("interval.ms", Some("1000")),
    ];
    assert_eq!(set(&mut client, "mine", &metrics, true).await, 0);
    assert_eq!(listed(&mut client, 0, &[]).await, (0, vec![]));
    assert_eq!(set(&mut client, "mine", &metrics, false).await, 0);
    let expected = [
        entry("interval.ms", "1000", 7),
        entry("match", "", 5),
        entry("metrics", "org.apache.kafka.", 7),
    ];
    assert_eq!(described(&mut client, "mine").await, expected);
    let mine = (CLIENT_METRICS, "mine".to_owned());
    assert_eq!(listed(&mut client, 0, &[]).await, (0, vec![mine.clone()]));
    let broker = (4, server.running.agent.node.id.to_string());
    let all = vec![(2, "orders".to_owned()), broker, mine.clone()];
    assert_eq!(listed(&mut client, 1, &[]).await, (0, all));
    assert_eq!(listed(&mut client, 1, &[16, 16]).await, (0, vec![mine]));
    assert_eq!(listed(&mut client, 1, &[8, 32]).await, (0, vec![]));
    let unsupported = ResponseError::UnsupportedVersion.code();
    assert_eq!(listed(&mut client, 1, &[2, 99]).await, (unsupported, vec![]));

    for (name, entries, error) in [
        ("", metrics, ResponseError::InvalidRequest),
        (
            "x",
            [("interval.ms", Some("99")), metrics[0]],
            ResponseError::InvalidRequest,
        ),
        (
            "x",
            [("match", Some("nobody=x")), metrics[0]],
            ResponseError::InvalidConfig,
        ),
        (
            "x",
            [("no.such", Some("x")), metrics[0]],
            ResponseError::InvalidRequest,
        ),
    ] {
        for validate_only in [true, false] {
            let code = set(&mut client, name, &entries, validate_only).await;
            assert_eq!(code, error.code(), "{name} {entries:?}");
        }
    }
    let gone = [("metrics", None), ("interval.ms", None)];
    assert_eq!(set(&mut client, "mine", &gone, false).await, 0);
    assert_eq!(listed(&mut client, 0, &[]).await, (0, vec![]));
    assert!(
        described(&mut client, "mine")
            .await
            .iter()
            .all(|(_, _, source)| *source == 5)
    );
}

#[tokio::test]
async fn a_client_is_asked_and_its_push_is_shown_under_the_name_of_its_library() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let nobody_asks = client.call(0, &GetTelemetrySubscriptionsRequest::default()).await;
    assert_eq!(
        (nobody_asks.error_code, nobody_asks.requested_metrics.len()),
        (0, 0)
    );
    assert!(!nobody_asks.client_instance_id.is_nil());

    let only_java = [
        ("metrics", Some("*")),
        ("match", Some("client_software_name=apache-kafka-java")),
    ];
    assert_eq!(set(&mut client, "java", &only_java, false).await, 0);
    let mut java = server.client().await;
    let told = ApiVersionsRequest::default()
        .with_client_software_name(text("apache-kafka-java"))
        .with_client_software_version(text("4.3.0"));
    assert_eq!(java.call(3, &told).await.error_code, 0);
    let asked = java.call(0, &GetTelemetrySubscriptionsRequest::default()).await;
    assert_eq!(
        (asked.error_code, asked.requested_metrics.as_slice()),
        (0, &[text("*")][..])
    );
    assert_eq!((asked.push_interval_ms, asked.delta_temporality), (300_000, true));
    assert_eq!(asked.accepted_compression_types, [4, 3, 1, 2]);
    assert_eq!(asked.telemetry_max_bytes, 1 << 20);

    // The gauge producer.record.queue.time.max, 1500 ms.
    let mut point = vec![0x21];
    point.extend_from_slice(&1500f64.to_le_bytes());
    let inside = |number: u8, body: &[u8]| [&[number << 3 | 2, body.len() as u8], body].concat();
    let name = inside(1, b"org.apache.kafka.producer.record.queue.time.max");
    let metric = [name, inside(5, &inside(1, &point))].concat();
    let payload = inside(1, &inside(2, &inside(2, &metric)));
    let push = PushTelemetryRequest::default()
        .with_client_instance_id(asked.client_instance_id)
        .with_subscription_id(asked.subscription_id)
        .with_metrics(payload.into());
    assert_eq!(java.call(0, &push).await.error_code, 0);
    let labels = "client_kind=\"producer\",client_software=\"apache-kafka-java\"";
    let series = format!("streamhouse_client_record_queue_seconds{{{labels},statistic=\"max\"}}");
    assert_eq!(server.metric(&series), 1.5);
    assert_eq!(
        server.metric(&format!("streamhouse_client_instances{{{labels}}}")),
        1.0
    );

    let again = java.call(0, &push).await.error_code;
    assert_eq!(again, ResponseError::ThrottlingQuotaExceeded.code());
    let strange = push
        .clone()
        .with_client_instance_id(Uuid::from_u128(5))
        .with_subscription_id(1);
    let strange = java.call(0, &strange).await.error_code;
    assert_eq!(strange, ResponseError::UnknownSubscriptionId.code());
    let nobody = java.call(0, &PushTelemetryRequest::default()).await.error_code;
    assert_eq!(nobody, ResponseError::InvalidRequest.code());
    let broken = PushTelemetryRequest::default()
        .with_client_instance_id(asked.client_instance_id)
        .with_subscription_id(asked.subscription_id)
        .with_terminating(true)
        .with_metrics(vec![0xff; 9].into());
    let broken = java.call(0, &broken).await.error_code;
    assert_eq!(broken, ResponseError::InvalidRecord.code());
    assert_eq!(server.metric(&series), 0.0, "its last push was its last");
}
