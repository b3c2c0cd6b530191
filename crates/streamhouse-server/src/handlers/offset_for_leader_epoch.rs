//! OffsetForLeaderEpoch v2–v4: where an epoch of a partition ends (KIP-101, KIP-320).
//!
//! Nothing is ever truncated here and the leader epoch is the cluster's: it rises only when metadata is
//! restored. So every epoch up to the current one ends at the high watermark: a client beyond it learns that
//! records it has read were lost with the restored metadata, any other goes on. A later epoch is unknown.
//! Every answer comes from a metadata read that began after the request (TRACES 2).

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::topic::Topic;

use super::context::RequestContext;
use super::error_code::{self, RequestFault};
use super::list_offsets::check_epoch;
use super::response::{EncodeError, Response};

/// Kafka's way to say that nothing is known of an epoch.
const UNDEFINED: i32 = -1;

pub async fn handle(
    context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
) -> Result<Response, EncodeError> {
    let names: Vec<String> = request
        .topics
        .iter()
        .map(|topic| topic.topic.to_string())
        .collect();
    let found = context.agent.metadata.topics_by_name(&names).await;
    if let Err(error) = &found {
        context.report(error);
    }
    let mut topics = Vec::with_capacity(names.len());
    for (at, wanted) in request.topics.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(wanted.partitions.len());
        for partition in &wanted.partitions {
            let end = match &found {
                Ok(found) => end_of(context, found[at].as_ref(), partition).await,
                Err(error) => Err(error_code::store(error).code()),
            };
            let answer = EpochEndOffset::default().with_partition(partition.partition);
            partitions.push(match end {
                Ok((epoch, offset)) => answer.with_leader_epoch(epoch).with_end_offset(offset),
                Err(code) => answer.with_error_code(code),
            });
        }
        topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(wanted.topic)
                .with_partitions(partitions),
        );
    }
    let codes = topics.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    let response = OffsetForLeaderEpochResponse::default().with_topics(topics);
    Response::encode(&context.head, &response, outcome)
}

/// The epoch that is meant and its end.
async fn end_of(
    context: &RequestContext,
    topic: Option<&Topic>,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), i16> {
    let fault = |fault: RequestFault| error_code::request_fault(&fault).code();
    let metadata = &context.agent.metadata;
    let topic = topic.ok_or_else(|| fault(RequestFault::UnknownTopic))?;
    let current = metadata.cluster().epoch;
    check_epoch(wanted.current_leader_epoch, current).map_err(fault)?;
    let partition = TopicPartition {
        topic: topic.id,
        partition: wanted.partition,
    };
    let snapshots = metadata.snapshots(&[partition]).await.map_err(|error| {
        context.report(&error);
        error_code::store(&error).code()
    })?;
    let Some(Ok(snapshot)) = snapshots.into_iter().next() else {
        return Err(fault(RequestFault::UnknownTopic));
    };
    if (0..=current).contains(&wanted.leader_epoch) {
        Ok((wanted.leader_epoch, snapshot.high_watermark))
    } else {
        Ok((UNDEFINED, -1))
    }
}
