//! OffsetDelete v0: committed offsets of a group go (KIP-496).
//!
//! Topics that a member of the group is subscribed to are refused one by one.

use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::response::{EncodeError, Response};
use super::topics::{KnownTopic, TopicKey};
use crate::group::GroupFault;

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
    let names = request
        .topics
        .iter()
        .map(|topic| TopicKey::Name(topic.name.to_string()));
    let known = context.agent.topics.resolve(&names.collect::<Vec<_>>()).await?;
    let topics = || request.topics.iter().zip(&known);
    let found = topics().flat_map(|(topic, known)| {
        let places = topic.partitions.iter();
        let places = places.filter_map(|wanted| known.as_ref()?.partition(wanted.partition_index));
        places.map(|place| (topic.name.as_str(), place))
    });
    let found: Vec<_> = found.collect();
    let groups = &context.agent.groups;
    let mut outcomes = groups
        .delete_offsets(&request.group_id, &found)
        .await?
        .into_iter();
    let mut code = |known: Option<&KnownTopic>, partition: i32| {
        let place = known.and_then(|known| known.partition(partition));
        match place.and_then(|_| outcomes.next()) {
            None => error_code::request_fault(&RequestFault::UnknownTopic).code(),
            Some(Ok(())) => NONE,
            Some(Err(fault)) => error_code::group(&fault).code(),
        }
    };
    let answers = topics().map(|(topic, known)| {
        let partitions = topic.partitions.iter().map(|wanted| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(code(known.as_deref(), wanted.partition_index))
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    Ok(answers.collect())
}
