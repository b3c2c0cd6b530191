//! DescribeLogDirs v1–v4: how many bytes each partition holds.
//!
//! There is one "directory", the object store, of no known size. A partition's size is that of its segments
//! as stored; no replica lags behind and none moves.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::topic::Topic;
use streamhouse_metadata::store::StoreError;

use super::context::RequestContext;
use super::error_code;
use super::once::partitions_once;
use super::response::{EncodeError, Response};

/// The name of the one place.
const PLACE: &str = "object-store";
/// Kafka's way to say that a size is not known.
const UNKNOWN_BYTES: i64 = -1;

pub async fn handle(
    context: &RequestContext,
    request: DescribeLogDirsRequest,
) -> Result<Response, EncodeError> {
    let result = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_static_str(PLACE))
        .with_total_bytes(UNKNOWN_BYTES)
        .with_usable_bytes(UNKNOWN_BYTES);
    let result = match sizes(context, &request).await {
        Ok(topics) => result.with_topics(topics),
        Err(error) => {
            context.report(&error);
            result.with_error_code(error_code::store(&error).code())
        }
    };
    let outcome = error_code::outcome(result.error_code);
    let response = DescribeLogDirsResponse::default().with_results(vec![result]);
    Response::encode(&context.head, &response, outcome)
}

/// Topics and partitions that do not exist are left out, and repeats too, as in Kafka.
async fn sizes(
    context: &RequestContext,
    request: &DescribeLogDirsRequest,
) -> Result<Vec<DescribeLogDirsTopic>, StoreError> {
    let metadata = &context.agent.metadata;
    let mut wanted: Vec<(Topic, Vec<i32>)> = Vec::new();
    match &request.topics {
        None => {
            for topic in metadata.topics().await? {
                let partitions = (0..topic.partitions).collect();
                wanted.push((topic, partitions));
            }
        }
        Some(asked) => {
            let asked = asked.iter();
            let asked =
                partitions_once(asked.map(|topic| (topic.topic.to_string(), topic.partitions.clone())));
            let names: Vec<String> = asked.iter().map(|(name, _)| name.clone()).collect();
            let found = metadata.topics_by_name(&names).await?;
            for (topic, (_, partitions)) in found.into_iter().zip(asked) {
                wanted.extend(topic.map(|topic| (topic, partitions)));
            }
        }
    }
    let ids: Vec<TopicPartition> = wanted
        .iter()
        .flat_map(|(topic, partitions)| {
            partitions.iter().map(|partition| TopicPartition {
                topic: topic.id,
                partition: *partition,
            })
        })
        .collect();
    let sizes = metadata.partition_sizes(&ids).await?;
    let mut by_topic: BTreeMap<_, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (id, size) in ids.iter().zip(sizes) {
        let Some(size) = size else { continue };
        let partition = DescribeLogDirsPartition::default()
            .with_partition_index(id.partition)
            .with_partition_size(i64::try_from(size).unwrap_or(i64::MAX));
        by_topic.entry(id.topic).or_default().push(partition);
    }
    let mut topics = Vec::with_capacity(wanted.len());
    for (topic, _) in wanted {
        if let Some(partitions) = by_topic.remove(&topic.id) {
            topics.push(
                DescribeLogDirsTopic::default()
                    .with_name(TopicName(StrBytes::from_string(topic.name)))
                    .with_partitions(partitions),
            );
        }
    }
    Ok(topics)
}
