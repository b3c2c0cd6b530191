//! OffsetFetch v1–v9: how far groups have come (many groups from v8, KIP-447 stability from v7).
//!
//! Linearizable: every answer is a metadata read that began after the request; the coordinator keeps no
//! offsets. A member of the newer protocol (KIP-848) that names its epoch is told when it is not its own any
//! more (v9). A partition or topic that does not exist has no committed offset, as in Kafka.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::group::GroupOffset;
use streamhouse_metadata::store::StoreError;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::response::{EncodeError, Response};
use super::topics::TopicKey;

/// First version with many groups.
const BATCHED: i16 = 8;
/// No offset was committed.
const NO_OFFSET: i64 = -1;

type Wanted = Option<Vec<(String, Vec<i32>)>>;
type Found = Vec<(String, Vec<(i32, Option<GroupOffset>)>)>;

pub async fn handle(context: &RequestContext, request: OffsetFetchRequest) -> Result<Response, EncodeError> {
    let stable = request.require_stable;
    if context.head.version >= BATCHED {
        let mut groups = Vec::with_capacity(request.groups.len());
        for asked in request.groups {
            let wanted = asked.topics.map(|topics| {
                let topics = topics.into_iter();
                topics
                    .map(|topic| (topic.name.to_string(), topic.partition_indexes))
                    .collect()
            });
            let answer = OffsetFetchResponseGroup::default();
            let member = asked.member_id.as_deref().unwrap_or_default();
            let found = match may_read(context, &asked.group_id, (member, asked.member_epoch)).await {
                Ok(()) => find(context, &asked.group_id, wanted).await,
                Err(code) => Err(code),
            };
            let answer = match found {
                Ok(found) => {
                    answer.with_topics(found.into_iter().map(|topic| batched(topic, stable)).collect())
                }
                Err(code) => answer.with_error_code(code),
            };
            groups.push(answer.with_group_id(asked.group_id));
        }
        let codes = groups.iter().flat_map(|group| {
            let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
            partitions
                .map(|partition| partition.error_code)
                .chain([group.error_code])
        });
        let outcome = error_code::worst(codes);
        let response = OffsetFetchResponse::default().with_groups(groups);
        return Response::encode(&context.head, &response, outcome);
    }
    let wanted = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| (topic.name.to_string(), topic.partition_indexes))
            .collect()
    });
    let response = OffsetFetchResponse::default();
    let response = match find(context, &request.group_id, wanted).await {
        Ok(found) => response.with_topics(found.into_iter().map(|topic| single(topic, stable)).collect()),
        Err(code) => response.with_error_code(code),
    };
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    let outcome = error_code::worst(codes.chain([response.error_code]));
    Response::encode(&context.head, &response, outcome)
}

/// Nobody who says who it is reads under an epoch that is not its own (any more).
async fn may_read(context: &RequestContext, group: &str, (member, epoch): (&str, i32)) -> Result<(), i16> {
    if group.is_empty() || (member.is_empty() && epoch < 0) {
        return Ok(());
    }
    let groups = &context.agent.groups;
    groups.may_fetch(group, member, epoch).await.map_err(|fault| {
        context.report_group(&fault);
        let code = error_code::group(&fault).code();
        context.count_refused(None, Some(group), code);
        code
    })
}

/// The offsets asked for, or all there are.
async fn find(context: &RequestContext, group: &str, wanted: Wanted) -> Result<Found, i16> {
    if group.is_empty() {
        let code = error_code::request_fault(&RequestFault::GroupId).code();
        context.count_refused(None, None, code);
        return Err(code);
    }
    let failed = |error| failed(context, group, &error);
    let metadata = &context.agent.metadata;
    let Some(wanted) = wanted else {
        return all(context, group).await;
    };
    let keys: Vec<TopicKey> = wanted
        .iter()
        .map(|(name, _)| TopicKey::Name(name.clone()))
        .collect();
    let known = context.agent.topics.resolve(&keys).await.map_err(failed)?;
    let places: Vec<_> = wanted
        .iter()
        .zip(&known)
        .flat_map(|((_, indexes), known)| {
            indexes
                .iter()
                .map(move |index| known.as_ref().and_then(|topic| topic.partition(*index)))
        })
        .collect();
    for known in known.iter().flatten() {
        // Whoever asks is about to consume: the series is there before its first count.
        context
            .agent
            .metrics
            .consumers
            .meet_topic(group, &known.topic.name);
    }
    let partitions: Vec<_> = places.iter().flatten().copied().collect();
    let offsets = metadata
        .group_offsets(group, Some(&partitions))
        .await
        .map_err(failed)?;
    let mut offsets = offsets.into_iter();
    let mut places = places.into_iter();
    let found = wanted.into_iter().map(|(name, indexes)| {
        let offsets = indexes.into_iter().map(|index| {
            let there = places.next().flatten().is_some();
            (index, if there { offsets.next() } else { None })
        });
        let offsets = offsets.collect();
        (name, offsets)
    });
    Ok(found.collect())
}

/// The store did not tell: logged, counted, and what the client is told.
fn failed(context: &RequestContext, group: &str, error: &StoreError) -> i16 {
    context.report(error);
    let code = error_code::store(error).code();
    context.count_refused(None, Some(group), code);
    code
}

async fn all(context: &RequestContext, group: &str) -> Result<Found, i16> {
    let failed = |error| failed(context, group, &error);
    let metadata = &context.agent.metadata;
    let offsets = metadata.group_offsets(group, None).await.map_err(failed)?;
    let mut ids: Vec<_> = offsets.iter().map(|offset| offset.partition.topic).collect();
    ids.dedup();
    let topics = metadata.topics_by_id(&ids).await.map_err(failed)?;
    let mut found: Found = Vec::new();
    for (id, topic) in ids.into_iter().zip(topics) {
        // Deleted meanwhile: its offsets are gone with it.
        let Some(topic) = topic else { continue };
        let here = offsets.iter().filter(|offset| offset.partition.topic == id);
        let here = here.map(|offset| (offset.partition.partition, Some(offset.clone())));
        found.push((topic.name, here.collect()));
    }
    Ok(found)
}

/// Offset, leader epoch, metadata and error of one partition.
fn shown(offset: Option<GroupOffset>, stable: bool) -> (i64, i32, StrBytes, i16) {
    let unstable = stable && offset.as_ref().is_some_and(|offset| offset.pending);
    if unstable {
        let code = error_code::request_fault(&RequestFault::UnstableOffset).code();
        return (NO_OFFSET, -1, StrBytes::default(), code);
    }
    match offset.and_then(|offset| offset.committed) {
        Some(committed) => {
            let metadata = StrBytes::from_string(committed.metadata);
            (committed.offset, committed.leader_epoch, metadata, NONE)
        }
        None => (NO_OFFSET, -1, StrBytes::default(), NONE),
    }
}

fn name(topic: String) -> TopicName {
    TopicName(StrBytes::from_string(topic))
}

fn batched(
    (topic, offsets): (String, Vec<(i32, Option<GroupOffset>)>),
    stable: bool,
) -> OffsetFetchResponseTopics {
    let partitions = offsets.into_iter().map(|(index, found)| {
        let (offset, epoch, metadata, code) = shown(found, stable);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(metadata))
            .with_error_code(code)
    });
    OffsetFetchResponseTopics::default()
        .with_name(name(topic))
        .with_partitions(partitions.collect())
}

fn single(
    (topic, offsets): (String, Vec<(i32, Option<GroupOffset>)>),
    stable: bool,
) -> OffsetFetchResponseTopic {
    let partitions = offsets.into_iter().map(|(index, found)| {
        let (offset, epoch, metadata, code) = shown(found, stable);
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(metadata))
            .with_error_code(code)
    });
    OffsetFetchResponseTopic::default()
        .with_name(name(topic))
        .with_partitions(partitions.collect())
}
