//! OffsetCommit v2–v9: how far a group has come.
//!
//! As a member, under its generation or (v9) its epoch (an older one for what it has had since then, KIP-1251), or
//! without one (−1) for a group that has no members.
//! Retention times that old clients name are not heard, as in Kafka: offsets expire when their group has
//! been empty for the server's retention. Metadata of an offset is bounded. A group that has no members may have an
//! empty id, under which old clients commit; it is read, described and deleted as any other, as in Kafka.

use std::sync::Arc;

use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::group::{CommittedOffset, OffsetOutcome};

use streamhouse_observability::registry::Topic;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::response::{EncodeError, Response};
use super::topics::{KnownTopic, TopicKey};

/// First version in which members of the newer protocol may commit.
const KNOWS_EPOCHS: i16 = 9;
/// Kafka's `offset.metadata.max.bytes`.
pub const METADATA_BYTES_MAX: usize = 4_096;

pub async fn handle(context: &RequestContext, request: OffsetCommitRequest) -> Result<Response, EncodeError> {
    let keys: Vec<TopicKey> = request
        .topics
        .iter()
        .map(|topic| TopicKey::Name(topic.name.to_string()))
        .collect();
    let known = context.agent.topics.resolve(&keys).await;
    let mut offsets = Vec::new();
    // Per topic and partition: refused here already, or the place of its outcome.
    let mut plan: Vec<Vec<Result<usize, i16>>> = Vec::with_capacity(keys.len());
    for (at, topic) in request.topics.iter().enumerate() {
        let mut places = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let found = match &known {
                Ok(known) => known[at]
                    .as_ref()
                    .and_then(|topic| topic.partition(wanted.partition_index)),
                Err(_) => None,
            };
            let metadata = wanted.committed_metadata.as_deref().unwrap_or_default();
            places.push(match (&known, found) {
                (Err(error), _) => Err(error_code::store(error).code()),
                _ if metadata.len() > METADATA_BYTES_MAX => {
                    Err(error_code::request_fault(&RequestFault::OffsetMetadata(metadata.len())).code())
                }
                (Ok(_), None) => Err(error_code::request_fault(&RequestFault::UnknownTopic).code()),
                (Ok(_), Some(partition)) => {
                    let committed = CommittedOffset {
                        offset: wanted.committed_offset,
                        leader_epoch: wanted.committed_leader_epoch,
                        metadata: metadata.to_owned(),
                    };
                    offsets.push((partition, committed));
                    Ok(offsets.len() - 1)
                }
            });
        }
        plan.push(places);
    }
    let moved: Vec<_> = offsets
        .iter()
        .map(|(place, committed)| (*place, committed.offset))
        .collect();
    let identity = (
        request.member_id.as_str(),
        request.group_instance_id.as_deref(),
        request.generation_id_or_member_epoch,
    );
    let knows_epochs = context.head.version >= KNOWS_EPOCHS;
    let groups = &context.agent.groups;
    let committed = groups
        .commit(&request.group_id, identity, knows_epochs, offsets)
        .await;
    if let Err(fault) = &committed {
        context.report_group(fault);
    }
    match (&committed, &known) {
        (Err(fault), _) => {
            context.count_refused(None, Some(&request.group_id), error_code::group(fault).code());
        }
        (Ok(outcomes), Ok(known)) => count(context, &request, known, &plan, (outcomes, &moved)),
        // The topics could not be looked up, so nobody knows whether they exist.
        (Ok(_), Err(_)) => {
            for code in plan.iter().flatten().filter_map(|place| place.err()) {
                context.count_refused(None, Some(&request.group_id), code);
            }
        }
    }
    let code = |place: Result<usize, i16>| match (&committed, place) {
        (Err(fault), _) => error_code::group(fault).code(),
        (Ok(_), Err(code)) => code,
        (Ok(outcomes), Ok(at)) => match outcomes.get(at) {
            Some(OffsetOutcome::Stored { .. }) => NONE,
            Some(OffsetOutcome::UnknownPartition) | None => {
                error_code::request_fault(&RequestFault::UnknownTopic).code()
            }
        },
    };
    let topics = request.topics.into_iter().zip(plan).map(|(topic, places)| {
        let partitions = topic.partitions.iter().zip(places).map(|(partition, place)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(place))
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    let response = OffsetCommitResponse::default().with_topics(topics.collect());
    let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    Response::encode(&context.head, &response, outcome)
}

/// Counts what was consumed, and what was refused partition by partition.
fn count(
    context: &RequestContext,
    request: &OffsetCommitRequest,
    known: &[Option<Arc<KnownTopic>>],
    plan: &[Vec<Result<usize, i16>>],
    (outcomes, moved): (&[OffsetOutcome], &[(TopicPartition, i64)]),
) {
    let client = context.client();
    for (known, places) in known.iter().zip(plan) {
        let topic = known.as_ref().map_or(Topic::UNKNOWN, |known| &known.topic.name);
        for place in places {
            match place {
                Err(code) => context.count_refused(Some(topic), Some(&request.group_id), *code),
                Ok(at) => match (outcomes.get(*at), moved.get(*at)) {
                    (Some(OffsetOutcome::Stored { previous }), Some((partition, offset))) => {
                        let labels = (request.group_id.as_str(), topic);
                        let consumption = &context.agent.consumption;
                        consumption.committed(labels, &client, partition, (*previous, *offset));
                    }
                    // Deleted since it was looked up.
                    _ => {
                        let gone = error_code::request_fault(&RequestFault::UnknownTopic).code();
                        context.count_refused(Some(Topic::UNKNOWN), Some(&request.group_id), gone);
                    }
                },
            }
        }
    }
}
