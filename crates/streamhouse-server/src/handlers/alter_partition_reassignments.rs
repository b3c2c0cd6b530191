//! AlterPartitionReassignments v0–v1: partitions have no place to be moved to (KIP-455).
//!
//! A reassignment to this agent alone is what every partition has already, and is accepted, as Kafka accepts
//! it; any other is refused by name. There is never one under way that could be cancelled.

use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use streamhouse_metadata::model::topic::Topic;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::response::{EncodeError, Response};

pub async fn handle(
    context: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> Result<Response, EncodeError> {
    let mut response = AlterPartitionReassignmentsResponse::default();
    if context.head.version >= 1 {
        response.allow_replication_factor_change = request.allow_replication_factor_change;
    }
    let names: Vec<String> = request
        .topics
        .iter()
        .map(|topic| topic.name.to_string())
        .collect();
    let found = match context.agent.metadata.topics_by_name(&names).await {
        Ok(found) => found,
        Err(error) => {
            context.report(&error);
            response.error_code = error_code::store(&error).code();
            response.error_message = Some(context.explain(&error));
            let outcome = error_code::outcome(response.error_code);
            return Response::encode(&context.head, &response, outcome);
        }
    };
    for (topic, known) in request.topics.into_iter().zip(found) {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer =
                ReassignablePartitionResponse::default().with_partition_index(wanted.partition_index);
            match judge(context, known.as_ref(), wanted) {
                Ok(()) => answer.with_error_code(NONE).with_error_message(None),
                Err(fault) => answer
                    .with_error_code(error_code::request_fault(&fault).code())
                    .with_error_message(Some(context.explain(&fault))),
            }
        });
        response.responses.push(
            ReassignableTopicResponse::default()
                .with_partitions(partitions.collect())
                .with_name(topic.name),
        );
    }
    let codes = response.responses.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    Response::encode(&context.head, &response, outcome)
}

fn judge(
    context: &RequestContext,
    known: Option<&Topic>,
    wanted: &ReassignablePartition,
) -> Result<(), RequestFault> {
    let count = known.map_or(0, |known| known.partitions);
    if !(0..count).contains(&wanted.partition_index) {
        return Err(RequestFault::UnknownTopic);
    }
    match wanted.replicas.as_deref() {
        None => Err(RequestFault::NoReassignment),
        Some([only]) if only.0 == context.agent.node.id => Ok(()),
        Some(_) => Err(RequestFault::Reassignment),
    }
}
