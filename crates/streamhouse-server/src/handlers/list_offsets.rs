//! ListOffsets v1–v10: earliest, latest, by timestamp to the exact record, and the record with the
//! largest timestamp (KIP-734).
//!
//! Every answer comes from a metadata read that began after the request (TRACES 2). Tiered storage does
//! not exist here, so EARLIEST_LOCAL is the log start and LATEST_TIERED finds nothing, as on a Kafka
//! where it is off (KIP-405, KIP-1005).

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use streamhouse_storage::reader::{FoundOffset, OffsetQuery};

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::request_log;
use super::response::{EncodeError, Response};
use super::topics::{KnownTopic, TopicKey};

const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub async fn handle(context: &RequestContext, request: ListOffsetsRequest) -> Result<Response, EncodeError> {
    let agent = &context.agent;
    let read_committed = request.isolation_level == READ_COMMITTED;
    let keys: Vec<_> = request
        .topics
        .iter()
        .map(|topic| TopicKey::Name(topic.name.to_string()))
        .collect();
    let found = agent.topics.resolve(&keys).await;
    let mut topics = Vec::with_capacity(keys.len());
    let twice = named_twice(&request);
    for (at, (topic, key)) in request.topics.into_iter().zip(keys).enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let answer = if twice.contains(&(topic.name.clone(), wanted.partition_index)) {
                Err(ResponseError::InvalidRequest.code())
            } else {
                match &found {
                    Err(error) => {
                        context.report(error);
                        Err(error_code::store(error).code())
                    }
                    Ok(found) => list(context, &key, found[at].as_deref(), &wanted, read_committed).await,
                }
            };
            let response =
                ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            partitions.push(match answer {
                Ok(found) => response
                    .with_offset(found.offset)
                    .with_timestamp(found.timestamp)
                    .with_leader_epoch(epoch_field(context, found.leader_epoch)),
                Err(code) => response
                    .with_error_code(code)
                    .with_offset(-1)
                    .with_timestamp(-1)
                    .with_leader_epoch(-1),
            });
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    let codes = topics.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    let response = ListOffsetsResponse::default().with_topics(topics);
    Response::encode(&context.head, &response, outcome)
}

/// The partitions that are named more than once, in one topic or two: nobody can tell which answer is for which.
fn named_twice(request: &ListOffsetsRequest) -> HashSet<(TopicName, i32)> {
    let mut seen = HashSet::new();
    let places = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| (topic.name.clone(), partition.partition_index))
    });
    places.filter(|place| !seen.insert(place.clone())).collect()
}

/// Before version 4 there is no field for the epoch, and the encoder insists on its default.
fn epoch_field(context: &RequestContext, epoch: i32) -> i32 {
    if context.head.version >= 4 { epoch } else { -1 }
}

async fn list(
    context: &RequestContext,
    key: &TopicKey,
    known: Option<&KnownTopic>,
    wanted: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<FoundOffset, i16> {
    let fault = |fault: RequestFault| error_code::request_fault(&fault).code();
    let agent = &context.agent;
    let mut partition = known.and_then(|known| known.partition(wanted.partition_index));
    if partition.is_none() && known.is_some() {
        // The topic may have grown since it was remembered.
        let read = agent.topics.read(std::slice::from_ref(key)).await;
        let read = read.map_err(|error| {
            context.report(&error);
            error_code::store(&error).code()
        })?;
        partition = read
            .into_iter()
            .flatten()
            .next()
            .and_then(|known| known.partition(wanted.partition_index));
    }
    let partition = partition.ok_or_else(|| fault(RequestFault::UnknownTopic))?;
    let version = context.head.version;
    let current = agent.metadata.cluster().epoch;
    check_epoch(wanted.current_leader_epoch, current).map_err(fault)?;
    let query = match wanted.timestamp {
        LATEST => OffsetQuery::Latest,
        EARLIEST => OffsetQuery::Earliest,
        MAX_TIMESTAMP if version >= 7 => OffsetQuery::MaxTimestamp,
        EARLIEST_LOCAL if version >= 8 => OffsetQuery::Earliest,
        LATEST_TIERED if version >= 9 => {
            return Ok(FoundOffset {
                offset: -1,
                timestamp: -1,
                leader_epoch: -1,
            });
        }
        timestamp if timestamp >= 0 => OffsetQuery::Timestamp(timestamp),
        special => return Err(fault(RequestFault::SpecialTimestamp(special))),
    };
    match agent.reader.list_offset(partition, query, read_committed).await {
        Ok(found) => Ok(found),
        Err(error) => {
            let code = error_code::read(&error).code();
            if error_code::outcome(code) == streamhouse_observability::families::ApiOutcome::ServerError {
                let topic = known.map_or("", |known| known.topic.name.as_str());
                request_log::read_failed(context, topic, wanted.partition_index, &error);
            }
            debug_assert_ne!(code, NONE);
            Err(code)
        }
    }
}

/// A client that knows another leader epoch than ours has to ask for metadata first (KIP-320).
pub fn check_epoch(got: i32, current: i32) -> Result<(), RequestFault> {
    match got {
        -1 => Ok(()),
        got if got < current => Err(RequestFault::FencedLeaderEpoch { got, current }),
        got if got > current => Err(RequestFault::UnknownLeaderEpoch { got, current }),
        _ => Ok(()),
    }
}
