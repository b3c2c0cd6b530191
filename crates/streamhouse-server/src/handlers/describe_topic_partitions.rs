//! DescribeTopicPartitions v0: topics by name, page by page (KIP-966).
//!
//! Every partition is led by this agent, its only replica. Topics come in the order of their names; an
//! answer ends after 2,000 partitions at most and says where to go on.

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::topic::{Topic, check_topic_name};
use streamhouse_metadata::store::StoreError;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::metadata::TOPIC_OPERATIONS;
use super::response::{EncodeError, Response};

/// Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2_000;

pub async fn handle(
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> Result<Response, EncodeError> {
    let cursor = request.cursor.as_ref();
    let (from_topic, from_partition) = cursor.map_or(("", 0), |cursor| {
        (cursor.topic_name.as_str(), cursor.partition_index)
    });
    let mut room = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    let topics = match topics(context, &request).await {
        Ok(topics) => topics,
        Err(error) => {
            context.report(&error);
            let code = error_code::store(&error).code();
            response.topics = request
                .topics
                .into_iter()
                .map(|topic| absent(topic.name.as_str(), code))
                .collect();
            return Response::encode(&context.head, &response, error_code::outcome(code));
        }
    };
    for (name, topic) in topics {
        if name.as_str() < from_topic {
            continue;
        }
        if room == 0 {
            response.next_cursor = Some(cursor_at(&name, 0));
            break;
        }
        let Some(topic) = topic else {
            let fault = check_topic_name(&name).map_err(RequestFault::from);
            let fault = fault.err().unwrap_or(RequestFault::UnknownTopic);
            let code = error_code::request_fault(&fault).code();
            response.topics.push(absent(&name, code));
            continue;
        };
        let first = if name == from_topic {
            from_partition.max(0)
        } else {
            0
        };
        let end = topic.partitions.min(first.saturating_add(room)).max(first);
        room -= end - first;
        response.topics.push(described(context, &topic, first..end));
        if end < topic.partitions {
            response.next_cursor = Some(cursor_at(&name, end));
            break;
        }
    }
    let outcome = error_code::worst(response.topics.iter().map(|topic| topic.error_code));
    Response::encode(&context.head, &response, outcome)
}

/// What is asked for, by name and in order; all topics where nothing is named.
async fn topics(
    context: &RequestContext,
    request: &DescribeTopicPartitionsRequest,
) -> Result<Vec<(String, Option<Topic>)>, StoreError> {
    let metadata = &context.agent.metadata;
    let mut found: Vec<_> = if request.topics.is_empty() {
        let all = metadata.topics().await?.into_iter();
        all.map(|topic| (topic.name.clone(), Some(topic))).collect()
    } else {
        let names: Vec<String> = request.topics.iter().map(|t| t.name.to_string()).collect();
        let topics = metadata.topics_by_name(&names).await?;
        names.into_iter().zip(topics).collect()
    };
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.dedup_by(|(a, _), (b, _)| a == b);
    Ok(found)
}

fn cursor_at(name: &str, partition: i32) -> Cursor {
    Cursor::default()
        .with_topic_name(TopicName(StrBytes::from_string(name.to_owned())))
        .with_partition_index(partition)
}

fn absent(name: &str, code: i16) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code)
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_topic_authorized_operations(i32::MIN)
}

fn described(
    context: &RequestContext,
    topic: &Topic,
    partitions: std::ops::Range<i32>,
) -> DescribeTopicPartitionsResponseTopic {
    let agent = &context.agent;
    let me = BrokerId(agent.node.id);
    let epoch = agent.metadata.cluster().epoch;
    let partition = |index| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(me)
            .with_leader_epoch(epoch)
            .with_replica_nodes(vec![me])
            .with_isr_nodes(vec![me])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(NONE)
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id.0)
        .with_partitions(partitions.map(partition).collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}
