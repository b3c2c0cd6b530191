//! Quotas of clients.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, DescribeClientQuotasRequest, alter_client_quotas_request as quota,
};
use uuid::Uuid;

use super::{server_with, text};
use crate::support::requests::{fetch, metadata, produce};
use crate::support::{Client, batch, records};

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
