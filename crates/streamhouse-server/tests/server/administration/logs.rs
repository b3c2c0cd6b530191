//! Deleted records, log directories and leader epochs.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, DescribeLogDirsRequest, OffsetForLeaderEpochRequest,
};
use uuid::Uuid;

use super::server_with;
use crate::support::requests::{fetch, list_offsets, name, produce};
use crate::support::{batch, records};

fn deletion(topic: &str, partition: i32, offset: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(partition)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000)
}

/// TRACES 2 and 3: the tail holds the records still, and serves none of them.
#[tokio::test]
async fn trace_03_deleted_records_are_read_by_nobody_in_every_version() {
    let (_server, mut client) = server_with("orders", 1).await;
    for _ in 0..4 {
        let request = produce(9, "orders", Uuid::nil(), 0, batch(1_000, &["a", "b"]));
        client.call(9, &request).await;
    }
    for (version, offset, start) in [(0, 1, 1), (1, 3, 3), (2, 2, 3), (2, -1, 8)] {
        let response = client.call(version, &deletion("orders", 0, offset)).await;
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (0, start));
        let below = client
            .call(12, &fetch(12, "orders", Uuid::nil(), 0, start - 1))
            .await;
        let below = &below.responses[0].partitions[0];
        assert_eq!(
            (below.error_code, below.log_start_offset),
            (ResponseError::OffsetOutOfRange.code(), start)
        );
        let read = client.call(12, &fetch(12, "orders", Uuid::nil(), 0, start)).await;
        let read = &read.responses[0].partitions[0];
        assert_eq!((read.error_code, read.log_start_offset), (0, start));
        assert!(
            records(read.records.clone())
                .iter()
                .all(|(offset, _)| offset + 2 > start)
        );
        let earliest = client.call(8, &list_offsets("orders", 0, -2)).await;
        assert_eq!(earliest.topics[0].partitions[0].offset, start);
        let by_time = client.call(8, &list_offsets("orders", 0, 0)).await;
        let found = if start < 8 { start } else { -1 };
        assert_eq!(by_time.topics[0].partitions[0].offset, found);
    }
    for (topic, partition, offset, code) in [
        ("orders", 0, 9, ResponseError::OffsetOutOfRange),
        ("orders", 0, -2, ResponseError::OffsetOutOfRange),
        ("orders", 1, 0, ResponseError::UnknownTopicOrPartition),
        ("nobody", 0, 0, ResponseError::UnknownTopicOrPartition),
    ] {
        let response = client.call(2, &deletion(topic, partition, offset)).await;
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (code.code(), -1));
    }
}

#[tokio::test]
async fn log_dirs_and_leader_epochs_say_what_is_stored_in_every_version() {
    let (_server, mut client) = server_with("orders", 2).await;
    let bytes = batch(1_000, &["a", "b"]);
    client
        .call(9, &produce(9, "orders", Uuid::nil(), 1, bytes.clone()))
        .await;
    for version in 1..=4 {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let response = client.call(version, &request).await;
        let partitions = &response.results[0].topics[0].partitions;
        let sizes: Vec<_> = partitions
            .iter()
            .map(|partition| partition.partition_size)
            .collect();
        assert_eq!(sizes, [0, bytes.len() as i64], "v{version}");
    }
    for version in 2..=4 {
        for (partition, epoch, expected) in [
            (1, 0, (0, 0, 2)),
            (0, 0, (0, 0, 0)),
            (1, 1, (0, -1, -1)),
            (2, 0, (ResponseError::UnknownTopicOrPartition.code(), -1, -1)),
        ] {
            let wanted = OffsetForLeaderPartition::default()
                .with_partition(partition)
                .with_current_leader_epoch(0)
                .with_leader_epoch(epoch);
            let topic = OffsetForLeaderTopic::default()
                .with_topic(name("orders"))
                .with_partitions(vec![wanted]);
            let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            if version >= 3 {
                request.replica_id = BrokerId(-1);
            }
            let response = client.call(version, &request).await;
            let end = &response.topics[0].partitions[0];
            assert_eq!(
                (end.error_code, end.leader_epoch, end.end_offset),
                expected,
                "v{version}"
            );
        }
    }
}
