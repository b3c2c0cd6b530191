//! The cluster as it is described, and what cannot be asked of it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeClusterRequest, DescribeTopicPartitionsRequest,
    DescribeUserScramCredentialsRequest, ElectLeadersRequest, ListPartitionReassignmentsRequest,
};

use super::{server_with, text};
use crate::support::Server;
use crate::support::requests::{create, metadata, name};

#[tokio::test]
async fn the_cluster_and_its_topics_are_described_page_by_page() {
    let (server, mut client) = server_with("b", 3).await;
    client.call(7, &create("a", 2)).await;
    for version in 0..=2 {
        let mut request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        request.endpoint_type = 1;
        let response = client.call(version, &request).await;
        assert_eq!((response.error_code, response.brokers.len()), (0, 1));
        assert_eq!(response.controller_id, response.brokers[0].broker_id);
        assert_eq!(response.brokers[0].port, i32::from(server.running.kafka.port()));
        let same = client.call(13, &metadata("a")).await.cluster_id.unwrap();
        assert_eq!(response.cluster_id, same);
        if version >= 1 {
            request.endpoint_type = 2;
            let refused = client.call(version, &request).await;
            assert_eq!(refused.error_code, ResponseError::UnsupportedEndpointType.code());
        }
    }
    let mut request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
    let mut seen = Vec::new();
    loop {
        let response = client.call(0, &request).await;
        for topic in &response.topics {
            for partition in &topic.partitions {
                seen.push((
                    topic.name.as_ref().unwrap().to_string(),
                    partition.partition_index,
                ));
            }
        }
        let Some(next) = response.next_cursor else { break };
        let next = Cursor::default()
            .with_topic_name(next.topic_name)
            .with_partition_index(next.partition_index);
        request = request.with_cursor(Some(next));
    }
    let expected = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)];
    assert_eq!(
        seen,
        expected.map(|(topic, partition)| (topic.to_owned(), partition))
    );
    let wanted = ["nobody", "a b"].map(|topic| TopicRequest::default().with_name(name(topic)));
    let request = DescribeTopicPartitionsRequest::default().with_topics(wanted.to_vec());
    let response = client.call(0, &request).await;
    let codes: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(
        codes,
        [
            ResponseError::InvalidTopicException.code(),
            ResponseError::UnknownTopicOrPartition.code()
        ]
    );
}

#[tokio::test]
async fn nothing_is_elected_or_reassigned() {
    let (_server, mut client) = server_with("orders", 1).await;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    for version in 0..=2 {
        let topic = TopicPartitions::default()
            .with_topic(name("orders"))
            .with_partitions(vec![0, 1]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
        let response = client.call(version, &request).await;
        let results = &response.replica_election_results[0].partition_result;
        let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ResponseError::ElectionNotNeeded.code(), unknown]);
        let all = ElectLeadersRequest::default().with_topic_partitions(None);
        let response = client.call(version, &all).await;
        assert!(response.error_code == 0 && response.replica_election_results.is_empty());
    }
    let me = client.call(13, &metadata("orders")).await.brokers[0].node_id;
    for version in 0..=1 {
        for (partition, replicas, code) in [
            (0, Some(vec![me]), 0),
            (
                0,
                Some(vec![BrokerId(99)]),
                ResponseError::InvalidReplicaAssignment.code(),
            ),
            (0, None, ResponseError::NoReassignmentInProgress.code()),
            (1, Some(vec![me]), unknown),
        ] {
            let partition = ReassignablePartition::default()
                .with_partition_index(partition)
                .with_replicas(replicas);
            let topic = ReassignableTopic::default()
                .with_name(name("orders"))
                .with_partitions(vec![partition]);
            let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
            let response = client.call(version, &request).await;
            assert_eq!(response.responses[0].partitions[0].error_code, code);
        }
    }
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let response = client.call(0, &request).await;
    assert!(response.error_code == 0 && response.topics.is_empty());
}

/// Over its rate a client is told for how long, and its next request waits that long; others do not.
#[tokio::test]
async fn nobody_has_credentials_and_who_is_named_is_told_so() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let everybody = DescribeUserScramCredentialsRequest::default().with_users(None);
    let response = client.call(0, &everybody).await;
    assert_eq!((response.error_code, response.results.len()), (0, 0));
    let named = ["a", "b", "a"].map(|user| UserName::default().with_name(text(user)));
    let named = DescribeUserScramCredentialsRequest::default().with_users(Some(named.to_vec()));
    let results = client.call(0, &named).await.results;
    let codes: Vec<_> = results.iter().map(|r| (r.user.as_str(), r.error_code)).collect();
    let (duplicate, missing) = (
        ResponseError::DuplicateResource.code(),
        ResponseError::ResourceNotFound.code(),
    );
    assert_eq!(codes, [("a", duplicate), ("b", missing)]);
}
