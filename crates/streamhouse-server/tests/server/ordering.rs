//! Requests of one connection take effect and are answered in the order of arrival.

use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::messages::{ListOffsetsRequest, ProduceRequest};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use crate::support::requests::{create, fetch, list_offsets, produce};
use crate::support::{Server, batch, frame, records};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn trace_12_requests_of_one_connection_take_effect_in_arrival_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    // Everything is sent before anything is read.
    let mut wire = BytesMut::new();
    for at in 0..200 {
        let request = if at % 10 == 9 {
            frame(5, 1000 + at, &list_offsets("orders", 0, -1))
        } else {
            frame(
                9,
                1000 + at,
                &produce(9, "orders", Uuid::nil(), 0, batch(at.into(), &[&at.to_string()])),
            )
        };
        wire.extend_from_slice(&request);
    }
    let (sent, mut expected) = (wire.freeze(), Vec::new());
    client.stream.write_all(&sent).await.unwrap();
    for at in 0..200 {
        if at % 10 == 9 {
            let response = client.receive::<ListOffsetsRequest>(5, 1000 + at).await;
            assert_eq!(response.topics[0].partitions[0].offset, expected.len() as i64);
        } else {
            let response = client.receive::<ProduceRequest>(9, 1000 + at).await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(
                (partition.error_code, partition.base_offset),
                (0, expected.len() as i64)
            );
            expected.push((expected.len() as i64, at.to_string()));
        }
    }
    let response = client.call(12, &fetch(12, "orders", Uuid::nil(), 0, 0)).await;
    assert_eq!(
        records(response.responses[0].partitions[0].records.clone()),
        expected
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_fetch_is_woken_by_a_commit_and_answers_what_it_brought() {
    let server = Server::start().await;
    let (mut consumer, mut producer) = (server.client().await, server.client().await);
    producer.call(7, &create("orders", 1)).await;
    let request = fetch(12, "orders", Uuid::nil(), 0, 0).with_max_wait_ms(60_000);
    let waiting = tokio::spawn(async move { consumer.call(12, &request).await });
    producer
        .call(9, &produce(9, "orders", Uuid::nil(), 0, batch(1, &["a"])))
        .await;
    let response = waiting.await.unwrap();
    assert_eq!(
        records(response.responses[0].partitions[0].records.clone()),
        [(0, "a".to_owned())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_was_accepted_and_releases_waiting_fetches() {
    let server = Server::start().await;
    let (mut consumer, mut producer) = (server.client().await, server.client().await);
    producer.call(7, &create("orders", 1)).await;
    let request = fetch(12, "orders", Uuid::nil(), 0, 0).with_max_wait_ms(60_000);
    let correlation = consumer.send(12, &request).await;
    producer
        .call(9, &produce(9, "orders", Uuid::nil(), 0, batch(1, &["a"])))
        .await;
    consumer
        .receive::<kafka_protocol::messages::FetchRequest>(12, correlation)
        .await;
    let request = fetch(12, "orders", Uuid::nil(), 0, 1).with_max_wait_ms(60_000);
    let correlation = consumer.send(12, &request).await;
    // Long enough for the fetch to be read and parked.
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.running.stop().await.unwrap();
    // Released by the stop, and not by its own wait of a minute.
    let frame = tokio::time::timeout(Duration::from_secs(10), consumer.receive_frame())
        .await
        .expect("the stop did not release the waiting fetch")
        .expect("the connection was closed without an answer");
    assert_eq!(i32::from_be_bytes(frame[..4].try_into().unwrap()), correlation);
}
