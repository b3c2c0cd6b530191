//! Consumers that ask for much and take nothing: what that costs us, and who still gets data.

use kafka_protocol::messages::FetchRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

use crate::support::requests::{create, fetch, produce};
use crate::support::{Client, Server, batch, records};

const MIB: usize = 1 << 20;
const FLOOR: usize = 64 << 10;

fn all_of(topic: &str) -> FetchRequest {
    let mut request = fetch(12, topic, Uuid::nil(), 0, 0).with_max_bytes(i32::MAX);
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    request
}

/// A client whose kernel takes next to nothing for it.
async fn with_small_window(server: &Server) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream: TcpStream = socket.connect(server.running.kafka).await.unwrap();
    let mut client = server.client().await;
    client.stream = stream;
    client
}

#[tokio::test]
async fn clients_that_do_not_read_share_one_budget_and_others_still_get_data() {
    let server = Server::with("fetch_bytes_max = '16MiB'").await;
    let memory = server.running.agent.responses.clone();
    assert_eq!(memory.limit_bytes(), 32 * MIB);
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let value = "x".repeat(1_000_000);
    for _ in 0..17 {
        let request = produce(9, "orders", Uuid::nil(), 0, batch(1, &[&value]));
        client.call(9, &request).await;
    }

    let mut stuck = Vec::new();
    let mut announced = Vec::new();
    for _ in 0..6 {
        let mut client = with_small_window(&server).await;
        client.send(12, &all_of("orders")).await;
        // The length comes first: the response stands, and is written no further than the kernel takes.
        announced.push(client.stream.read_u32().await.unwrap() as usize);
        stuck.push(client);
    }
    // The kernel may hold some small ones whole, which are ours no longer; without the budget there
    // would be six times 16 MB.
    assert!(announced[0] > 14 * MIB, "{announced:?}");
    assert!(announced[1] > 6 * MIB && announced[1] < 10 * MIB, "{announced:?}");
    let all: usize = announced.iter().sum();
    assert!(all < 2 * memory.limit_bytes(), "{announced:?}");
    assert!(memory.held_bytes() > 20 * MIB, "{}", memory.held_bytes());

    let response = client.call(12, &all_of("orders")).await;
    let read = records(response.responses[0].partitions[0].records.clone());
    assert!(!read.is_empty());

    drop(stuck);
    while memory.held_bytes() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn with_no_room_at_all_a_fetch_gets_the_floor_or_one_batch() {
    let server = Server::start().await;
    let memory = server.running.agent.responses.clone();
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let value = "x".repeat(20_000);
    for _ in 0..10 {
        let request = produce(9, "orders", Uuid::nil(), 0, batch(1, &[&value]));
        client.call(9, &request).await;
    }
    let full = memory.hold(memory.limit_bytes()).unwrap();
    let response = client.call(12, &all_of("orders")).await;
    let bytes = response.responses[0].partitions[0].records.clone();
    assert!(bytes.as_ref().unwrap().len() <= FLOOR);
    assert_eq!(records(bytes).len(), 3);
    drop(full);
    let response = client.call(12, &all_of("orders")).await;
    assert_eq!(
        records(response.responses[0].partitions[0].records.clone()).len(),
        10
    );
}

#[tokio::test]
async fn a_client_that_takes_no_more_of_its_answer_is_closed_and_counted() {
    let server = Server::with("idle_timeout = '1s'").await;
    let memory = server.running.agent.responses.clone();
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let value = "x".repeat(1_000_000);
    for _ in 0..9 {
        let request = produce(9, "orders", Uuid::nil(), 0, batch(1, &[&value]));
        client.call(9, &request).await;
    }
    let mut stuck = with_small_window(&server).await;
    stuck.send(12, &all_of("orders")).await;
    stuck.stream.read_u32().await.unwrap();
    assert!(memory.held_bytes() > 8 * MIB);
    // Its socket stays open here: only the server can end this.
    while memory.held_bytes() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(
        server.metric("streamhouse_connections_rejected_total{reason=\"stalled\"}"),
        1.0
    );
}

#[tokio::test]
async fn clients_that_hang_do_not_keep_the_agent_from_stopping_in_order() {
    let server = Server::with("stop_timeout = '2s'").await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let value = "x".repeat(1_000_000);
    for _ in 0..9 {
        let request = produce(9, "orders", Uuid::nil(), 0, batch(1, &[&value]));
        client.call(9, &request).await;
    }
    let mut does_not_read = with_small_window(&server).await;
    does_not_read.send(12, &all_of("orders")).await;
    does_not_read.stream.read_u32().await.unwrap();
    let mut sends_half_a_frame = server.client().await;
    sends_half_a_frame
        .stream
        .write_all(&[0, 0, 1, 0, 0])
        .await
        .unwrap();
    let mut waits_for_data = server.client().await;
    let mut request = fetch(12, "orders", Uuid::nil(), 0, 9).with_max_wait_ms(600_000);
    request.min_bytes = 1;
    waits_for_data.send(12, &request).await;
    // Their sockets stay open: who stops does not wait for them beyond its limit.
    server.running.stop().await.unwrap();
}
