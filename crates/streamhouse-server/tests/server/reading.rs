//! What consumers are told: offsets out of range, limits, sessions, topics that come and go.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest};
use uuid::Uuid;

use crate::support::requests::{create, fetch, list_offsets, metadata, name, produce};
use crate::support::{Server, batch, records};

#[tokio::test]
async fn trace_2_out_of_range_is_answered_with_the_range_as_it_is() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    client
        .call(9, &produce(9, "orders", Uuid::nil(), 0, batch(1, &["a", "b"])))
        .await;
    for (offset, code) in [
        (-1, ResponseError::OffsetOutOfRange.code()),
        (2, 0),
        (3, ResponseError::OffsetOutOfRange.code()),
    ] {
        let response = client
            .call(12, &fetch(12, "orders", Uuid::nil(), 0, offset))
            .await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(
            (
                partition.error_code,
                partition.high_watermark,
                partition.log_start_offset
            ),
            (code, 2, 0),
            "{offset}"
        );
    }
}

#[tokio::test]
async fn a_fetch_holds_its_limits_but_always_one_batch() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 2)).await;
    for at in 0..10 {
        for partition in 0..2 {
            let value = format!("{at}");
            client
                .call(
                    9,
                    &produce(9, "orders", Uuid::nil(), partition, batch(1, &[&value])),
                )
                .await;
        }
    }
    let one = batch(1, &["0"]).len() as i32;
    for (max_bytes, partition_bytes, expected) in [
        (1, 1 << 20, 1),
        (1 << 20, one * 3, 6),
        (one * 4, 1 << 20, 4),
        (0, 0, 1),
    ] {
        let mut request = fetch(12, "orders", Uuid::nil(), 0, 0).with_max_bytes(max_bytes);
        let second: FetchPartition = request.topics[0].partitions[0].clone().with_partition(1);
        request.topics[0].partitions.push(second);
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_bytes;
        }
        let response = client.call(12, &request).await;
        let got: usize = response.responses[0]
            .partitions
            .iter()
            .map(|partition| records(partition.records.clone()).len())
            .sum();
        assert_eq!(got, expected, "{max_bytes} {partition_bytes}");
    }
}

/// An incremental fetch that names nothing.
fn incremental(session_id: i32, epoch: i32) -> FetchRequest {
    fetch(12, "orders", Uuid::nil(), 0, 0)
        .with_topics(Vec::new())
        .with_session_id(session_id)
        .with_session_epoch(epoch)
}

#[tokio::test]
async fn a_session_is_told_what_changed_over_any_connection() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let full = client.call(12, &fetch(12, "orders", Uuid::nil(), 0, 0)).await;
    assert_eq!((full.error_code, full.responses.len()), (0, 1));
    assert!(full.session_id > 0);

    let quiet = client.call(12, &incremental(full.session_id, 1)).await;
    assert_eq!((quiet.session_id, quiet.responses.len()), (full.session_id, 0));
    client
        .call(9, &produce(9, "orders", Uuid::nil(), 0, batch(1, &["a"])))
        .await;
    let mut other = server.client().await;
    let news = other.call(12, &incremental(full.session_id, 2)).await;
    let partition = &news.responses[0].partitions[0];
    assert_eq!(records(partition.records.clone()).len(), 1);
    assert_eq!(partition.high_watermark, 1);

    for (request, code) in [
        (
            incremental(full.session_id + 1, 3),
            ResponseError::FetchSessionIdNotFound,
        ),
        (
            incremental(full.session_id, 2),
            ResponseError::InvalidFetchSessionEpoch,
        ),
    ] {
        let answer = client.call(12, &request).await;
        assert_eq!((answer.error_code, answer.responses.len()), (code.code(), 0));
    }
    assert_eq!(server.metric("streamhouse_fetch_sessions"), 1.0);
    let ended = client.call(12, &incremental(full.session_id, -1)).await;
    assert_eq!((ended.error_code, ended.session_id), (0, 0));
    assert_eq!(server.metric("streamhouse_fetch_sessions"), 0.0);
}

#[tokio::test]
async fn trace_18_a_recreated_name_is_another_topic() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let old = client.call(12, &metadata("orders")).await.topics[0].topic_id;
    client
        .call(9, &produce(9, "orders", Uuid::nil(), 0, batch(1, &["a"])))
        .await;
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![name("orders")]);
    assert_eq!(client.call(5, &delete).await.responses[0].error_code, 0);
    client.call(7, &create("orders", 1)).await;
    let new = client.call(12, &metadata("orders")).await.topics[0].topic_id;
    assert_ne!(old, new);
    let unknown = ResponseError::UnknownTopicId.code();
    let response = client.call(13, &fetch(13, "", old, 0, 0)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, unknown);
    let response = client.call(13, &produce(13, "", old, 0, batch(1, &["x"]))).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, unknown);
    let latest = client.call(5, &list_offsets("orders", 0, -1)).await;
    assert_eq!(latest.topics[0].partitions[0].offset, 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_counted() {
    let server = Server::with("connections_max = 1").await;
    let mut first = server.client().await;
    first.call(7, &create("orders", 1)).await;
    let mut second = server.client().await;
    assert!(second.receive_frame().await.is_none());
    assert_eq!(
        server.metric("streamhouse_connections_rejected_total{reason=\"limit\"}"),
        1.0
    );
    assert_eq!(server.metric("streamhouse_connections_active"), 1.0);
    first.call(12, &metadata("orders")).await;
}

#[tokio::test]
async fn a_client_that_asks_nothing_is_closed_and_counted() {
    let server = Server::with("idle_timeout = '1s'").await;
    let mut client = server.client().await;
    assert!(client.receive_frame().await.is_none());
    assert_eq!(
        server.metric("streamhouse_connections_rejected_total{reason=\"idle\"}"),
        1.0
    );
}

#[tokio::test]
async fn a_session_goes_on_only_in_versions_that_name_topics_as_it_does() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let id = client.call(12, &metadata("orders")).await.topics[0].topic_id;
    let refused = ResponseError::FetchSessionTopicIdError.code();
    for (begins, goes_on) in [(13, 12), (12, 13)] {
        let begun = client.call(begins, &fetch(begins, "orders", id, 0, 0)).await;
        assert_ne!(begun.session_id, 0);
        // Nothing is named: all that is fetched is what the session knows.
        let mut next = fetch(begins, "orders", id, 0, 0)
            .with_session_id(begun.session_id)
            .with_session_epoch(1);
        next.topics.clear();
        let other = client.call(goes_on, &next).await;
        assert_eq!(
            (other.error_code, other.responses.len()),
            (refused, 0),
            "v{begins}"
        );
        let same = client.call(begins, &next).await;
        assert_eq!((same.error_code, same.session_id), (0, begun.session_id));
    }
}
