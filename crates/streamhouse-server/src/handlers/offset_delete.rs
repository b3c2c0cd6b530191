//! OffsetDelete v0: committed offsets of a group go (KIP-496).
//!
//! Topics that a member of the group is subscribed to are refused one by one, as far as the subscription
//! of Kafka's consumers can be read.

use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::response::{EncodeError, Response};
use super::topics::TopicKey;
use crate::group::GroupFault;
use crate::group::any::AnyGroup;
use crate::group::embedded;

pub async fn handle(context: &RequestContext, request: OffsetDeleteRequest) -> Result<Response, EncodeError> {
    let response = match delete(context, request).await {
        Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
        Err(fault) => {
            context.report_group(&fault);
            OffsetDeleteResponse::default().with_error_code(error_code::group(&fault).code())
        }
    };
    let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = codes.map(|partition| partition.error_code);
    let outcome = error_code::worst(codes.chain([response.error_code]));
    Response::encode(&context.head, &response, outcome)
}

async fn delete(
    context: &RequestContext,
    request: OffsetDeleteRequest,
) -> Result<Vec<OffsetDeleteResponseTopic>, GroupFault> {
    if request.group_id.is_empty() {
        return Err(GroupFault::GroupId);
    }
    let groups = &context.agent.groups;
    let group = groups
        .describe(&request.group_id)
        .await?
        .ok_or(GroupFault::UnknownGroup)?;
    let names = request
        .topics
        .iter()
        .map(|topic| TopicKey::Name(topic.name.to_string()));
    let known = context.agent.topics.resolve(&names.collect::<Vec<_>>()).await?;
    let mut partitions = Vec::new();
    let topics = request.topics.into_iter().zip(known).map(|(topic, known)| {
        let subscribed = is_subscribed(&group, &topic.name);
        let answers = topic.partitions.into_iter().map(|wanted| {
            let found = known
                .as_ref()
                .and_then(|known| known.partition(wanted.partition_index));
            let code = match found {
                None => error_code::request_fault(&RequestFault::UnknownTopic).code(),
                Some(_) if subscribed => error_code::group(&GroupFault::Subscribed).code(),
                Some(partition) => {
                    partitions.push(partition);
                    NONE
                }
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(code)
        });
        let answers = answers.collect();
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(answers)
    });
    let topics = topics.collect();
    groups.delete_offsets(&request.group_id, &partitions).await?;
    Ok(topics)
}

fn is_subscribed(group: &AnyGroup, topic: &str) -> bool {
    let group = match group {
        AnyGroup::Classic(group) => group,
        AnyGroup::Consumer(group) => {
            let mut members = group.members.values();
            return members.any(|member| member.profile.subscription.wants(topic));
        }
    };
    let wants = |metadata| {
        let subscription = embedded::subscription(metadata);
        subscription.is_some_and(|subscription| subscription.topics.contains(topic))
    };
    let speaks = group.protocol_type == embedded::PROTOCOL_TYPE;
    let mut members = group.members.values().filter(|_| speaks);
    members.any(|member| {
        member
            .profile
            .protocols
            .iter()
            .any(|(_, metadata)| wants(metadata))
    })
}
