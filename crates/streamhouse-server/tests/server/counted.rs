//! What a group's commits count: records from where its client was given them, refusals under the topic they are of.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, DeleteRecordsRequest, FetchRequest, GroupId, InitProducerIdRequest,
    OffsetCommitRequest, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::support::requests::{create, fetch, name, produce};
use crate::support::{Client, Server, batch};

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("g"))
}

async fn commit(client: &mut Client, offset: i64) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_topics(vec![topic]);
    let answer = client.call(8, &request).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

fn consumed(server: &Server) -> f64 {
    server.metric("streamhouse_consumer_records_total{topic=\"orders\",consumer_group=\"g\"}")
}

#[tokio::test]
async fn a_first_commit_counts_from_where_a_fetch_was_answered_not_from_where_it_was_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    let records = batch(1, &["a", "b", "c", "d", "e", "f"]);
    client
        .call(9, &produce(9, "orders", Uuid::nil(), 0, records))
        .await;
    let gone = DeleteRecordsPartition::default().with_offset(3);
    let topic = DeleteRecordsTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![gone]);
    client
        .call(2, &DeleteRecordsRequest::default().with_topics(vec![topic]))
        .await;
    for (offset, code) in [(0, ResponseError::OffsetOutOfRange.code()), (3, 0)] {
        let answer = client
            .call(12, &fetch(12, "orders", Uuid::nil(), 0, offset))
            .await;
        assert_eq!(answer.responses[0].partitions[0].error_code, code);
    }
    commit(&mut client, 5).await;
    assert_eq!(consumed(&server), 2.0);
}

#[tokio::test]
async fn a_fetch_that_waits_is_where_its_client_began_once_it_is_answered() {
    let server = Server::start().await;
    let (mut reader, mut other) = (server.client().await, server.client().await);
    other.call(7, &create("orders", 1)).await;
    let mut waits = fetch(12, "orders", Uuid::nil(), 0, 0).with_max_wait_ms(60_000);
    waits.min_bytes = 1;
    let correlation = reader.send(12, &waits).await;
    // The same client, over the connection to its coordinator, while its fetch waits: there is nothing to count.
    commit(&mut other, 0).await;
    other
        .call(9, &produce(9, "orders", Uuid::nil(), 0, batch(1, &["a", "b"])))
        .await;
    reader.receive::<FetchRequest>(12, correlation).await;
    commit(&mut other, 2).await;
    assert_eq!(consumed(&server), 2.0);
}

/// Offsets that a group commits in a transaction that is open: topic, partition and length of the metadata.
pub(crate) async fn in_transaction(
    client: &mut Client,
    offsets: &[(&str, i32, usize)],
) -> TxnOffsetCommitRequest {
    client.call(7, &create("orders", 1)).await;
    // From its first commit on the group is known by name.
    commit(client, 0).await;
    let id = || TransactionalId(StrBytes::from_static_str("payments"));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id()))
        .with_transaction_timeout_ms(60_000);
    let identity = client.call(4, &init).await;
    let add = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id())
        .with_producer_id(identity.producer_id)
        .with_producer_epoch(identity.producer_epoch)
        .with_group_id(group());
    assert_eq!(client.call(3, &add).await.error_code, 0);
    let topics = offsets.iter().map(|(topic, partition, length)| {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_metadata(Some(StrBytes::from_string("m".repeat(*length))));
        TxnOffsetCommitRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition])
    });
    TxnOffsetCommitRequest::default()
        .with_transactional_id(id())
        .with_group_id(group())
        .with_producer_id(identity.producer_id)
        .with_producer_epoch(identity.producer_epoch)
        .with_topics(topics.collect())
}

/// What is counted of this group as refused.
pub(crate) fn refused(server: &Server, topic: &str, error_type: &str) -> f64 {
    server.metric(&format!(
        "streamhouse_consumer_errors_total{{topic=\"{topic}\",consumer_group=\"g\",error_type=\"{error_type}\"}}"
    ))
}

#[tokio::test]
async fn offsets_refused_in_a_transaction_count_under_their_topic() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = in_transaction(
        &mut client,
        &[("orders", 0, 5_000), ("orders", 1, 0), ("nobody", 0, 0)],
    );
    let request = request.await;
    let answer = client.call(3, &request).await;
    let mut topics = answer.topics.iter();
    assert!(topics.all(|topic| topic.partitions[0].error_code != 0));
    assert_eq!(refused(&server, "orders", "invalid"), 1.0);
    assert_eq!(refused(&server, "orders", "unknown_topic"), 1.0);
    assert_eq!(refused(&server, "~unknown", "unknown_topic"), 1.0);
    assert_eq!(refused(&server, "~unknown", "invalid"), 0.0);
}
