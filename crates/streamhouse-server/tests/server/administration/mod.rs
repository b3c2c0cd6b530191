//! Administration over the wire: configurations, descriptions, and logs that begin later.

mod cluster;
mod configs;
mod logs;
mod quotas;

use kafka_protocol::protocol::StrBytes;

use crate::support::requests::create;
use crate::support::{Client, Server};

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
