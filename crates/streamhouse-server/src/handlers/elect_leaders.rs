//! ElectLeaders v0–v2: there is nothing to elect.
//!
//! Any agent serves any partition, so every partition that exists has the leader it prefers: the answer is
//! the one of a Kafka whose preferred leaders lead. As there, without named partitions only those are
//! listed whose leader changed: none.

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use super::context::RequestContext;
use super::error_code::{self, RequestFault};
use super::response::{EncodeError, Response};

/// Preferred and unclean.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

pub async fn handle(context: &RequestContext, request: ElectLeadersRequest) -> Result<Response, EncodeError> {
    let mut response = ElectLeadersResponse::default();
    if context.head.version >= 1 && !ELECTION_TYPES.contains(&request.election_type) {
        let fault = RequestFault::ElectionType(request.election_type);
        response.error_code = error_code::request_fault(&fault).code();
        let outcome = error_code::outcome(response.error_code);
        return Response::encode(&context.head, &response, outcome);
    }
    let wanted = request.topic_partitions.unwrap_or_default();
    let names: Vec<String> = wanted.iter().map(|topic| topic.topic.to_string()).collect();
    match context.agent.metadata.topics_by_name(&names).await {
        Ok(found) => {
            for (topic, known) in wanted.into_iter().zip(found) {
                let count = known.map_or(0, |known| known.partitions);
                let results = topic.partitions.into_iter().map(|partition| {
                    let fault = if (0..count).contains(&partition) {
                        RequestFault::ElectionNotNeeded
                    } else {
                        RequestFault::UnknownTopic
                    };
                    PartitionResult::default()
                        .with_partition_id(partition)
                        .with_error_code(error_code::request_fault(&fault).code())
                        .with_error_message(Some(context.explain(&fault)))
                });
                response.replica_election_results.push(
                    ReplicaElectionResult::default()
                        .with_topic(topic.topic)
                        .with_partition_result(results.collect()),
                );
            }
        }
        Err(error) => {
            context.report(&error);
            let code = error_code::store(&error).code();
            // Before version 1 there is no field for it.
            if context.head.version >= 1 {
                response.error_code = code;
            }
            return Response::encode(&context.head, &response, error_code::outcome(code));
        }
    }
    let results = &response.replica_election_results;
    let codes = results.iter().flat_map(|topic| &topic.partition_result);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    Response::encode(&context.head, &response, outcome)
}
