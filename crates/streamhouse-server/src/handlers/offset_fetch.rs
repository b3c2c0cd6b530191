//! OffsetFetch v1–v9: how far groups have come (many groups from v8, KIP-447 stability from v7).
//!
//! Linearizable: every answer is a metadata read that began after the request; the coordinator keeps no
//! offsets. A member of the newer protocol (KIP-848) that names its epoch is told when it is not its own any
//! more (v9). A partition or topic that does not exist has no committed offset, as in Kafka. What is named twice is
//! answered once, where Kafka repeats itself.

use std::collections::HashMap;

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::group::GroupOffset;
use streamhouse_metadata::store::StoreError;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::once::partitions_once;
use super::response::{EncodeError, Response};
use super::topics::TopicKey;

/// First version with many groups.
const BATCHED: i16 = 8;
/// First version with room for an error of the whole group; before it each partition has it.
const GROUP_ERROR: i16 = 2;
/// No offset was committed.
const NO_OFFSET: i64 = -1;

type Topics = Vec<(TopicName, Vec<i32>)>;
/// The topics asked for; `None`: all there are.
type Wanted = Option<Topics>;
type FoundTopic = (TopicName, Vec<(i32, Option<GroupOffset>)>);

pub async fn handle(context: &RequestContext, request: OffsetFetchRequest) -> Result<Response, EncodeError> {
    let stable = request.require_stable;
    if context.head.version >= BATCHED {
        let asked = together(request.groups);
        let mut groups = Vec::with_capacity(asked.len());
        for (id, asked) in asked {
            let found = match may_read(context, &id, (&asked.member, asked.epoch)).await {
                Ok(()) => find(context, &id, asked.wanted).await,
                Err(code) => Err(code),
            };
            let answer = OffsetFetchResponseGroup::default().with_group_id(id);
            groups.push(match found {
                Ok(found) => {
                    answer.with_topics(found.into_iter().map(|topic| batched(topic, stable)).collect())
                }
                Err(code) => answer.with_error_code(code),
            });
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
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter();
        let topics = topics.map(|topic| (topic.name, topic.partition_indexes));
        partitions_once(topics)
    });
    let refused = match context.head.version < GROUP_ERROR {
        true => topics.clone(),
        false => None,
    };
    let response = OffsetFetchResponse::default();
    let response = match (find(context, &request.group_id, topics).await, refused) {
        (Ok(found), _) => {
            response.with_topics(found.into_iter().map(|topic| single(topic, stable)).collect())
        }
        (Err(code), Some(topics)) => response.with_topics(
            topics
                .into_iter()
                .map(|topic| failed_topic(topic, code))
                .collect(),
        ),
        (Err(code), None) => response.with_error_code(code),
    };
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    let outcome = error_code::worst(codes.chain([response.error_code]));
    Response::encode(&context.head, &response, outcome)
}

/// What is asked of one group.
struct Asked {
    member: StrBytes,
    epoch: i32,
    wanted: Wanted,
}

/// Each group once, with all that is asked of it; who asks is who asked first.
fn together(groups: Vec<OffsetFetchRequestGroup>) -> Vec<(GroupId, Asked)> {
    let mut all: Vec<(GroupId, Asked)> = Vec::with_capacity(groups.len());
    let mut at = HashMap::new();
    for group in groups {
        let wanted = group.topics.map(|topics| {
            let topics = topics.into_iter();
            topics
                .map(|topic| (topic.name, topic.partition_indexes))
                .collect()
        });
        let first = *at.entry(group.group_id.clone()).or_insert(all.len());
        match all.get_mut(first) {
            None => {
                let asked = Asked {
                    member: group.member_id.unwrap_or_default(),
                    epoch: group.member_epoch,
                    wanted,
                };
                all.push((group.group_id, asked));
            }
            Some((_, first)) => match (&mut first.wanted, wanted) {
                (Some(topics), Some(more)) => topics.extend::<Topics>(more),
                // All topics are all there is to be asked.
                (topics, _) => *topics = None,
            },
        }
    }
    for (_, asked) in &mut all {
        asked.wanted = asked.wanted.take().map(partitions_once);
    }
    all
}

/// Nobody who says who it is reads under an epoch that is not its own (any more).
async fn may_read(context: &RequestContext, group: &str, (member, epoch): (&str, i32)) -> Result<(), i16> {
    if member.is_empty() && epoch < 0 {
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
async fn find(context: &RequestContext, group: &str, wanted: Wanted) -> Result<Vec<FoundTopic>, i16> {
    let failed = |error| failed(context, group, &error);
    let metadata = &context.agent.metadata;
    let Some(wanted) = wanted else {
        return all(context, group).await;
    };
    let keys: Vec<TopicKey> = wanted
        .iter()
        .map(|(name, _)| TopicKey::Name(name.to_string()))
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

async fn all(context: &RequestContext, group: &str) -> Result<Vec<FoundTopic>, i16> {
    let failed = |error| failed(context, group, &error);
    let metadata = &context.agent.metadata;
    let offsets = metadata.group_offsets(group, None).await.map_err(failed)?;
    // They come in the order of their topics.
    let mut topics: Vec<(TopicId, Vec<GroupOffset>)> = Vec::new();
    for offset in offsets {
        let id = offset.partition.topic;
        match topics.last_mut() {
            Some((last, offsets)) if *last == id => offsets.push(offset),
            _ => topics.push((id, vec![offset])),
        }
    }
    let ids: Vec<TopicId> = topics.iter().map(|(id, _)| *id).collect();
    let known = metadata.topics_by_id(&ids).await.map_err(failed)?;
    let found = topics.into_iter().zip(known).filter_map(|((_, offsets), topic)| {
        // Deleted meanwhile: its offsets are gone with it.
        let name = TopicName(StrBytes::from_string(topic?.name));
        let offsets = offsets.into_iter();
        let offsets = offsets.map(|offset| (offset.partition.partition, Some(offset)));
        Some((name, offsets.collect()))
    });
    Ok(found.collect())
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

fn batched((topic, offsets): FoundTopic, stable: bool) -> OffsetFetchResponseTopics {
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
        .with_name(topic)
        .with_partitions(partitions.collect())
}

fn single((topic, offsets): FoundTopic, stable: bool) -> OffsetFetchResponseTopic {
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
        .with_name(topic)
        .with_partitions(partitions.collect())
}

/// The group's error at each of its partitions.
fn failed_topic((topic, indexes): (TopicName, Vec<i32>), code: i16) -> OffsetFetchResponseTopic {
    let partitions = indexes.into_iter().map(|index| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(NO_OFFSET)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(StrBytes::default()))
            .with_error_code(code)
    });
    OffsetFetchResponseTopic::default()
        .with_name(topic)
        .with_partitions(partitions.collect())
}
