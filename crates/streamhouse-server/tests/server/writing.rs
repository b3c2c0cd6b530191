//! What producers are told: refusals by code, acks 0, and what is counted of them.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::support::requests::{create, fetch, metadata, produce};
use crate::support::{Server, batch, records};

#[tokio::test]
async fn bad_batches_are_refused_by_name_and_counted() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let good = batch(1000, &["a"]).to_vec();
    let broken = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        Bytes::from(bytes)
    };
    let twice = Bytes::from([good.clone(), good.clone()].concat());
    for (records, code, counted) in [
        (Bytes::new(), ResponseError::InvalidRecord, "invalid"),
        (broken(16, &[1]), ResponseError::InvalidRecord, "invalid"),
        (broken(17, &[0; 4]), ResponseError::CorruptMessage, "corrupt"),
        (
            Bytes::from(good[..40].to_vec()),
            ResponseError::CorruptMessage,
            "corrupt",
        ),
        (twice, ResponseError::InvalidRecord, "invalid"),
    ] {
        let series =
            format!("streamhouse_producer_errors_total{{topic=\"orders\",error_type=\"{counted}\"}}");
        let before = server.metric(&series);
        let response = client
            .call(9, &produce(9, "orders", Uuid::nil(), 0, records))
            .await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, code.code(), "{partition:?}");
        assert_eq!(partition.base_offset, -1);
        assert!(partition.error_message.is_some());
        assert_eq!(server.metric(&series), before + 1.0);
    }
    // None of it is there.
    let response = client.call(12, &fetch(12, "orders", Uuid::nil(), 0, 0)).await;
    assert_eq!(response.responses[0].partitions[0].high_watermark, 0);
}

#[tokio::test]
async fn unknown_topics_and_partitions_are_told_apart_from_unknown_ids() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let id = client.call(12, &metadata("orders")).await.topics[0].topic_id;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    for (version, topic, id, partition, code) in [
        (9, "nowhere", Uuid::nil(), 0, unknown),
        (9, "orders", Uuid::nil(), 1, unknown),
        (9, "orders", Uuid::nil(), -1, unknown),
        (
            13,
            "",
            Uuid::from_u128(99),
            0,
            ResponseError::UnknownTopicId.code(),
        ),
        (13, "", id, 5, unknown),
    ] {
        let request = produce(version, topic, id, partition, batch(1000, &["a"]));
        let response = client.call(version, &request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, code);
        let response = client
            .call(version, &fetch(version, topic, id, partition, 0))
            .await;
        assert_eq!(
            response.responses[0].partitions[0].error_code, code,
            "{topic} {partition}"
        );
    }
    let unknown = "streamhouse_producer_errors_total{topic=\"~unknown\",error_type=\"unknown_topic\"}";
    assert_eq!(server.metric(unknown), 2.0);
}

#[tokio::test]
async fn acks_0_stores_without_an_answer_and_a_failure_closes_the_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let request = produce(9, "orders", Uuid::nil(), 0, batch(1000, &["a"])).with_acks(0);
    client.send(9, &request).await;
    // The next request waits for the unanswered one, so it sees its record.
    let response = client.call(12, &fetch(12, "orders", Uuid::nil(), 0, 0)).await;
    let partition = &response.responses[0].partitions[0];
    assert_eq!(records(partition.records.clone()), [(0, "a".to_owned())]);
    assert_eq!(
        server.metric("streamhouse_producer_records_total{topic=\"orders\"}"),
        1.0
    );

    let request = produce(9, "nowhere", Uuid::nil(), 0, batch(1000, &["a"])).with_acks(0);
    client.send(9, &request).await;
    assert!(client.receive_frame().await.is_none());
}

#[tokio::test]
async fn only_three_values_of_acks_exist() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    for (acks, code) in [(1, 0), (-1, 0), (2, ResponseError::InvalidRequiredAcks.code())] {
        let request = produce(9, "orders", Uuid::nil(), 0, batch(1000, &["a"])).with_acks(acks);
        let response = client.call(9, &request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, code);
    }
}

#[tokio::test]
async fn a_topic_with_append_time_tells_the_producer_the_time() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut request = create("timed", 1);
    request.topics[0].configs = vec![
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str("message.timestamp.type"))
            .with_value(Some(StrBytes::from_static_str("LogAppendTime"))),
    ];
    assert_eq!(client.call(7, &request).await.topics[0].error_code, 0);
    let response = client
        .call(9, &produce(9, "timed", Uuid::nil(), 0, batch(1000, &["a"])))
        .await;
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0);
    assert!(partition.log_append_time_ms > 1_600_000_000_000);
}

#[tokio::test]
async fn topics_beyond_the_limits_are_refused() {
    let server = Server::with("topics_max = 2\npartitions_max = 5").await;
    let mut client = server.client().await;
    let mut codes = Vec::new();
    for (topic, partitions) in [("a", 2), ("b", 6), ("b", 3), ("c", 1)] {
        codes.push(client.call(7, &create(topic, partitions)).await.topics[0].error_code);
    }
    let policy = ResponseError::PolicyViolation.code();
    assert_eq!(codes, [0, ResponseError::InvalidPartitions.code(), 0, policy]);
    let auto = client.call(12, &metadata("d")).await;
    assert_eq!(auto.topics[0].error_code, policy);
}

#[tokio::test]
async fn names_that_kafka_keeps_for_itself_stay_free() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let code = ResponseError::InvalidTopicException.code();
    for topic in [
        "__consumer_offsets",
        "__transaction_state",
        "a b",
        "..",
        "~unknown",
    ] {
        assert_eq!(
            client.call(7, &create(topic, 1)).await.topics[0].error_code,
            code,
            "{topic}"
        );
        assert_eq!(
            client.call(12, &metadata(topic)).await.topics[0].error_code,
            code,
            "{topic}"
        );
    }
}
