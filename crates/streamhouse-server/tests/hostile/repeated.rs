//! Small requests that ask for much: names that are repeated, answers that would be too large.

use std::sync::atomic::Ordering;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    CreatePartitionsRequest, DeleteTopicsRequest, FindCoordinatorRequest, GroupId, JoinGroupRequest,
    MetadataRequest, OffsetCommitRequest, SyncGroupRequest, TransactionalId,
};
use kafka_protocol::protocol::{Request, StrBytes};
use kafka_protocol::{ResponseError, messages};
use uuid::Uuid;

use crate::support::requests::{create, fetch, list_offsets, metadata, name};
use crate::support::{Client, Server};
use crate::{NOW, PEAK, alive};

/// How often a name is repeated, and what the answer to it may take with all that its request takes.
const REPEATS: usize = 20_000;
const REPEATED_COST_MAX: usize = 32 << 20;

/// The answer to a request that must not take more than that.
async fn cheap<R: Request>(client: &mut Client, version: i16, request: &R) -> R::Response {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let answer = client.call(version, request).await;
    let cost = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(
        cost < REPEATED_COST_MAX,
        "API {} v{version}: {cost} bytes",
        R::KEY
    );
    answer
}

fn repeated<T: Clone>(name: T) -> Vec<T> {
    vec![name; REPEATS]
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A group of one member whose assignment and committed metadata are large.
async fn large_group(client: &mut Client) {
    let group = GroupId(text("large"));
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(vec![0; 16 << 10].into());
    let join = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let joined = client.call(3, &join).await;
    assert_eq!(joined.error_code, 0);
    let share = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(vec![0; 16 << 10].into());
    let sync = SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![share]);
    assert_eq!(client.call(2, &sync).await.error_code, 0);
    let offset = OffsetCommitRequestPartition::default()
        .with_committed_offset(1)
        .with_committed_metadata(Some(text(&"m".repeat(4_096))));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![offset]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(group)
        .with_generation_id_or_member_epoch(joined.generation_id)
        .with_member_id(joined.member_id)
        .with_topics(vec![topic]);
    let committed = client.call(5, &commit).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
}

pub(crate) async fn a_name_that_is_repeated_costs_what_it_costs_once() {
    let server = Server::with("group_initial_rebalance_delay = '0s'").await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 100)).await;
    large_group(&mut client).await;
    repeated_topics(&mut client).await;
    repeated_groups(&mut client).await;
    repeated_resources(&mut client).await;
    repeated_in_vain(&mut client).await;
}

async fn repeated_topics(client: &mut Client) {
    let mut by_name = metadata("orders");
    let one = by_name.topics.take().unwrap().remove(0);
    by_name.topics = Some(repeated(one.clone()));
    let answer = cheap(client, 12, &by_name).await;
    assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 100));
    let id = one.with_name(None).with_topic_id(answer.topics[0].topic_id);
    let by_id = MetadataRequest::default().with_topics(Some(repeated(id)));
    assert_eq!(cheap(client, 12, &by_id).await.topics.len(), 1);

    let topic =
        messages::describe_topic_partitions_request::TopicRequest::default().with_name(name("orders"));
    let request = messages::DescribeTopicPartitionsRequest::default()
        .with_topics(repeated(topic))
        .with_response_partition_limit(2_000);
    assert_eq!(cheap(client, 0, &request).await.topics.len(), 1);

    let topic = DescribableLogDirTopic::default()
        .with_topic(name("orders"))
        .with_partitions(vec![0, 0]);
    let request = messages::DescribeLogDirsRequest::default().with_topics(Some(repeated(topic)));
    let answer = cheap(client, 1, &request).await;
    assert_eq!(answer.results[0].topics.len(), 1);
    assert_eq!(answer.results[0].topics[0].partitions.len(), 1);

    let topic = messages::describe_producers_request::TopicRequest::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![3, 3]);
    let request = messages::DescribeProducersRequest::default().with_topics(repeated(topic));
    let answer = cheap(client, 0, &request).await;
    assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 1));

    // As Kafka: nobody can tell which answer is for which.
    let mut request = list_offsets("orders", 0, -1);
    request.topics = repeated(request.topics.remove(0));
    let answer = cheap(client, 7, &request).await;
    let places = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let refused = ResponseError::InvalidRequest.code();
    assert!(places.clone().count() > 0 && places.into_iter().all(|place| place.error_code == refused));
}

async fn repeated_groups(client: &mut Client) {
    let group = GroupId(text("large"));
    let request = messages::DescribeGroupsRequest::default().with_groups(repeated(group.clone()));
    let answer = cheap(client, 5, &request).await;
    assert_eq!((answer.groups.len(), answer.groups[0].members.len()), (1, 1));
    assert!(answer.groups[0].members[0].member_assignment.len() >= 16 << 10);

    let request = messages::ConsumerGroupDescribeRequest::default().with_group_ids(repeated(group.clone()));
    assert_eq!(cheap(client, 0, &request).await.groups.len(), 1);

    let topic = OffsetFetchRequestTopics::default()
        .with_name(name("orders"))
        .with_partition_indexes(vec![0, 1, 0]);
    let asked = OffsetFetchRequestGroup::default().with_group_id(group.clone());
    let groups = repeated(
        asked
            .clone()
            .with_topics(Some(vec![topic.clone(), topic.clone()])),
    );
    let request = messages::OffsetFetchRequest::default().with_groups(groups);
    let answer = cheap(client, 8, &request).await;
    assert_eq!((answer.groups.len(), answer.groups[0].topics.len()), (1, 1));
    let indexes = answer.groups[0].topics[0].partitions.iter();
    let indexes: Vec<_> = indexes.map(|partition| partition.partition_index).collect();
    assert_eq!(indexes, [0, 1]);
    // Whoever asks for all of a group's topics is told of all of them.
    let groups = vec![asked.clone().with_topics(Some(vec![])), asked.with_topics(None)];
    let request = messages::OffsetFetchRequest::default().with_groups(groups);
    let answer = cheap(client, 8, &request).await;
    assert_eq!((answer.groups.len(), answer.groups[0].topics.len()), (1, 1));

    let topic = OffsetFetchRequestTopic::default()
        .with_name(name("orders"))
        .with_partition_indexes(repeated(0));
    let request = messages::OffsetFetchRequest::default()
        .with_group_id(group)
        .with_topics(Some(vec![topic.clone(), topic]));
    for version in 1..=7 {
        let answer = cheap(client, version, &request).await;
        assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 1));
        assert_eq!(
            answer.topics[0].partitions[0].metadata.as_ref().unwrap().len(),
            4_096
        );
    }

    let nobody = repeated(GroupId(text("nobody")));
    let request = messages::DeleteGroupsRequest::default().with_groups_names(nobody);
    assert_eq!(cheap(client, 1, &request).await.results.len(), 1);

    let request = FindCoordinatorRequest::default().with_coordinator_keys(repeated(text("large")));
    assert_eq!(cheap(client, 4, &request).await.coordinators.len(), 1);
}

async fn repeated_resources(client: &mut Client) {
    let resource = DescribeConfigsResource::default().with_resource_type(2);
    let resource = resource.with_resource_name(text("orders"));
    let some = resource
        .clone()
        .with_configuration_keys(Some(vec![text("retention.ms")]));
    let other = resource
        .clone()
        .with_configuration_keys(Some(vec![text("segment.ms")]));
    for (resources, entries) in [
        (repeated(resource.clone().with_configuration_keys(None)), 23),
        (repeated(some.clone()), 1),
        (vec![some.clone(), other], 2),
        (vec![some, resource.with_configuration_keys(None)], 23),
    ] {
        let request = messages::DescribeConfigsRequest::default()
            .with_resources(resources)
            .with_include_synonyms(true)
            .with_include_documentation(true);
        let answer = cheap(client, 4, &request).await;
        assert_eq!(
            (answer.results.len(), answer.results[0].configs.len()),
            (1, entries)
        );
    }
    let ids = repeated(TransactionalId(text("nobody")));
    let request = messages::DescribeTransactionsRequest::default().with_transactional_ids(ids);
    assert_eq!(cheap(client, 0, &request).await.transaction_states.len(), 1);
}

/// Where answers are as short as what is asked they are repeated or refused, as Kafka does.
async fn repeated_in_vain(client: &mut Client) {
    let mut request = create("again", 1);
    request.topics = repeated(request.topics.remove(0));
    cheap(client, 7, &request).await;
    let topic = DeleteTopicState::default().with_name(Some(name("nobody")));
    cheap(
        client,
        6,
        &DeleteTopicsRequest::default().with_topics(repeated(topic)),
    )
    .await;
    let topic = CreatePartitionsTopic::default()
        .with_name(name("orders"))
        .with_count(200)
        .with_assignments(None);
    cheap(
        client,
        3,
        &CreatePartitionsRequest::default().with_topics(repeated(topic)),
    )
    .await;
    let topic = messages::elect_leaders_request::TopicPartitions::default()
        .with_topic(name("orders"))
        .with_partitions(vec![0]);
    let request = messages::ElectLeadersRequest::default().with_topic_partitions(Some(repeated(topic)));
    cheap(client, 2, &request).await;
    let topic = messages::delete_records_request::DeleteRecordsTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![Default::default()]);
    cheap(
        client,
        2,
        &messages::DeleteRecordsRequest::default().with_topics(repeated(topic)),
    )
    .await;
    let topic = messages::offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![Default::default()]);
    let request = messages::OffsetDeleteRequest::default()
        .with_group_id(GroupId(text("large")))
        .with_topics(repeated(topic));
    cheap(client, 0, &request).await;
    let topic = messages::offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
        .with_topic(name("orders"))
        .with_partitions(vec![Default::default()]);
    let request = messages::OffsetForLeaderEpochRequest::default().with_topics(repeated(topic));
    cheap(client, 4, &request).await;
    let user = messages::describe_user_scram_credentials_request::UserName::default().with_name(text("u"));
    let request = messages::DescribeUserScramCredentialsRequest::default().with_users(Some(repeated(user)));
    cheap(client, 0, &request).await;
    let mut request = fetch(12, "orders", Uuid::nil(), 0, 0);
    request.topics = repeated(request.topics.remove(0));
    cheap(client, 12, &request).await;
}

pub(crate) async fn an_answer_that_is_too_large_is_not_even_encoded() {
    // The name of a host comes with every key.
    let host = "h".repeat(30_000);
    let server = Server::with(&format!("kafka_advertise = '{host}:9092'")).await;
    let mut client = server.client().await;
    let keys = (0..4_000).map(|at| text(&at.to_string())).collect();
    let request = FindCoordinatorRequest::default().with_coordinator_keys(keys);
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    client.send(4, &request).await;
    assert!(client.receive_frame().await.is_none());
    let cost = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(cost < REPEATED_COST_MAX, "{cost} bytes");
    for counted in [
        "streamhouse_connections_rejected_total{reason=\"frame_too_large\"}",
        "streamhouse_api_requests_total{api=\"FindCoordinator\",outcome=\"client_error\"}",
    ] {
        assert_eq!(server.metric(counted), 1.0, "{counted}");
    }
    alive(&server).await;
}
