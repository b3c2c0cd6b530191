//! ConsumerGroupDescribe v0–v1: epochs, members and assignments of groups of the newer protocol (KIP-848); v1
//! says which members speak the classic one. A group named twice is described once, where Kafka repeats itself.

use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment as WireAssignment, DescribedGroup, Member as WireMember, TopicPartitions,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::error_code;
use super::once::each_once;
use super::response::{EncodeError, Response};
use crate::cluster_view::state_name;
use crate::group::GroupFault;
use crate::group::any::AnyGroup;
use crate::group::consumer::member::Member;
use crate::group::consumer::{Assignment, ConsumerGroup};

/// What Kafka calls members of the two protocols (v1).
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

pub async fn handle(
    context: &RequestContext,
    request: ConsumerGroupDescribeRequest,
) -> Result<Response, EncodeError> {
    let wanted = each_once(request.group_ids);
    let mut groups = Vec::with_capacity(wanted.len());
    for id in wanted {
        let described = match find(context, &id).await {
            Ok(group) => describe(&group),
            Err(fault) => {
                context.report_group(&fault);
                DescribedGroup::default()
                    .with_error_code(error_code::group(&fault).code())
                    .with_error_message(Some(context.explain(&fault)))
            }
        };
        groups.push(described.with_group_id(id).with_authorized_operations(i32::MIN));
    }
    let outcome = error_code::worst(groups.iter().map(|group| group.error_code));
    let response = ConsumerGroupDescribeResponse::default().with_groups(groups);
    Response::encode(&context.head, &response, outcome)
}

async fn find(context: &RequestContext, id: &GroupId) -> Result<ConsumerGroup, GroupFault> {
    if id.is_empty() {
        return Err(GroupFault::GroupId);
    }
    match context.agent.groups.describe(id).await? {
        Some(AnyGroup::Consumer(group)) => Ok(group),
        Some(AnyGroup::Classic(_)) => Err(GroupFault::OtherProtocol),
        None => Err(GroupFault::UnknownGroup),
    }
}

fn describe(group: &ConsumerGroup) -> DescribedGroup {
    let members = group.members.iter();
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(state_name(group.state())))
        .with_group_epoch(group.epoch)
        .with_assignment_epoch(group.assignment_epoch)
        .with_assignor_name(StrBytes::from_static_str(group.assignor().name()))
        .with_members(members.map(|(id, member)| show(group, id, member)).collect())
}

fn show(group: &ConsumerGroup, id: &str, member: &Member) -> WireMember {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let profile = &member.profile;
    let pattern = profile.subscription.pattern.as_ref();
    let names = profile
        .subscription
        .names
        .iter()
        .map(|name| TopicName(text(name)));
    WireMember::default()
        .with_member_id(text(id))
        .with_instance_id(profile.instance.as_deref().map(text))
        .with_rack_id(profile.rack.as_deref().map(text))
        .with_member_epoch(member.standing.epoch)
        .with_client_id(text(&profile.client_id))
        .with_client_host(text(&profile.client_host))
        .with_subscribed_topic_names(names.collect())
        .with_subscribed_topic_regex(pattern.map(|pattern| text(pattern.text())))
        .with_assignment(wire(group, &member.standing.assigned))
        .with_target_assignment(wire(group, &member.target))
        .with_member_type(if profile.classic.is_some() {
            CLASSIC
        } else {
            CONSUMER
        })
}

/// Topics that the group does not know any more were deleted, and are left out.
fn wire(group: &ConsumerGroup, assignment: &Assignment) -> WireAssignment {
    let topics = assignment.topics().filter_map(|(id, partitions)| {
        let name = group.subscribed.get(&id)?.name.clone();
        Some(
            TopicPartitions::default()
                .with_topic_id(id.0)
                .with_topic_name(TopicName(StrBytes::from_string(name)))
                .with_partitions(partitions.iter().copied().collect()),
        )
    });
    WireAssignment::default().with_topic_partitions(topics.collect())
}
