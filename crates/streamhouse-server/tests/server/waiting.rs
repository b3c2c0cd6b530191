//! Requests that wait for others: what they keep in memory meanwhile, and whom that keeps waiting.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId, JoinGroupRequest};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::support::Server;
use crate::support::requests::{create, fetch};

/// Far shorter than the members wait, far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn large_join(group: &'static str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from(vec![0; 900_000]));
    JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str(group)))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(900_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol])
}

#[tokio::test]
async fn members_with_large_subscriptions_wait_for_each_other_and_keep_nobody_else_waiting() {
    let server = Server::with("group_initial_rebalance_delay = '10m'").await;
    let join = large_join("many");
    // Together more than the budget of requests that are no Produce.
    let mut members = Vec::new();
    for _ in 0..50 {
        let mut member = server.client().await;
        timeout(PATIENCE, member.send(3, &join)).await.unwrap();
        members.push(member);
    }
    let mut other = server.client().await;
    let named = DescribeGroupsRequest::default().with_groups(vec![join.group_id.clone()]);
    let all_have_joined = async {
        while other.call(5, &named).await.groups[0].members.len() < members.len() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, all_have_joined).await.unwrap();
}

#[tokio::test]
async fn large_fetches_that_would_wait_for_minutes_keep_nobody_else_waiting() {
    let server = Server::start().await;
    let mut other = server.client().await;
    other.call(7, &create("orders", 1)).await;
    let mut fetch = fetch(12, "orders", Uuid::nil(), 0, 0).with_max_wait_ms(300_000);
    let partition = fetch.topics[0].partitions[0].clone();
    fetch.topics[0].partitions = vec![partition; 20_000];
    let mut waiting = Vec::new();
    for _ in 0..6 {
        let mut client = server.client().await;
        timeout(PATIENCE, client.send(12, &fetch)).await.unwrap();
        waiting.push(client);
    }
    let refused = large_join("one").with_session_timeout_ms(-1);
    let answered = timeout(PATIENCE, other.call(3, &refused)).await.unwrap();
    assert_ne!(answered.error_code, 0);
}
