//! DescribeGroups v0–v6: state, protocol and members of classic groups.
//!
//! A group that does not exist is "Dead"; from v6 on that is an error (GROUP_ID_NOT_FOUND), as in Kafka.
//! While a rebalance is under way metadata and assignments are left out, since they are the last one's. A
//! group named twice is described once, where Kafka repeats itself.

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::error_code;
use super::once::each_once;
use super::response::{EncodeError, Response};
use crate::group::GroupFault;
use crate::group::any::AnyGroup;
use crate::group::classic::{Group, Phase};

/// First version in which a group that does not exist is an error.
const NOT_FOUND: i16 = 6;

/// Kafka's name of a phase.
#[must_use]
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Empty => "Empty",
        Phase::PreparingRebalance => "PreparingRebalance",
        Phase::CompletingRebalance => "CompletingRebalance",
        Phase::Stable => "Stable",
    }
}

pub async fn handle(
    context: &RequestContext,
    request: DescribeGroupsRequest,
) -> Result<Response, EncodeError> {
    let wanted = each_once(request.groups);
    let mut groups = Vec::with_capacity(wanted.len());
    for id in wanted {
        let answer = DescribedGroup::default();
        let answer = match context.agent.groups.describe(&id).await {
            Ok(Some(AnyGroup::Classic(group))) => describe(&group),
            // A group of the newer protocol is described by ConsumerGroupDescribe.
            Ok(Some(AnyGroup::Consumer(_)) | None) => {
                let dead = answer.with_group_state(StrBytes::from_static_str("Dead"));
                match context.head.version >= NOT_FOUND {
                    true => dead
                        .with_error_code(error_code::group(&GroupFault::UnknownGroup).code())
                        .with_error_message(Some(context.explain(&GroupFault::UnknownGroup))),
                    false => dead,
                }
            }
            Err(fault) => {
                context.report_group(&fault);
                answer.with_error_code(error_code::group(&fault).code())
            }
        };
        groups.push(answer.with_group_id(id).with_authorized_operations(i32::MIN));
    }
    let outcome = error_code::worst(groups.iter().map(|group| group.error_code));
    let response = DescribeGroupsResponse::default().with_groups(groups);
    Response::encode(&context.head, &response, outcome)
}

fn describe(group: &Group) -> DescribedGroup {
    let stable = group.phase == Phase::Stable;
    let protocol = group.protocol.clone().filter(|_| stable).unwrap_or_default();
    let members = group.members.iter().map(|(id, member)| {
        let chosen = member
            .profile
            .protocols
            .iter()
            .find(|(name, _)| stable && *name == protocol);
        DescribedGroupMember::default()
            .with_member_id(StrBytes::from_string(id.clone()))
            .with_group_instance_id(member.profile.instance.clone().map(StrBytes::from_string))
            .with_client_id(StrBytes::from_string(member.profile.client_id.clone()))
            .with_client_host(StrBytes::from_string(member.profile.client_host.clone()))
            .with_member_metadata(chosen.map(|(_, metadata)| metadata.clone()).unwrap_or_default())
            .with_member_assignment(if stable {
                member.assignment.clone()
            } else {
                bytes::Bytes::new()
            })
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(phase_name(group.phase)))
        .with_protocol_type(StrBytes::from_string(group.protocol_type.clone()))
        .with_members(members.collect())
        .with_protocol_data(StrBytes::from_string(protocol))
}
