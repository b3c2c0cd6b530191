//! LeaveGroup v0–v5: members leave at once instead of at the end of their session (batches from v3).

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::context::RequestContext;
use super::error_code::{self, NONE};
use super::response::{EncodeError, Response};
use crate::group::{GroupFault, MemberId};

/// First version with many members.
const BATCHED: i16 = 3;

pub async fn handle(context: &RequestContext, request: LeaveGroupRequest) -> Result<Response, EncodeError> {
    let batched = context.head.version >= BATCHED;
    let asked = match batched {
        true => request.members,
        false => vec![MemberIdentity::default().with_member_id(request.member_id)],
    };
    let members: Vec<(MemberId, Option<String>)> = asked
        .iter()
        .map(|member| {
            let instance = member.group_instance_id.as_ref();
            (member.member_id.to_string(), instance.map(ToString::to_string))
        })
        .collect();
    let left = match request.group_id.is_empty() {
        true => Err(GroupFault::GroupId),
        false => context.agent.groups.leave(&request.group_id, &members).await,
    };
    let code = |outcome: &Result<(), GroupFault>| match outcome {
        Ok(()) => NONE,
        Err(fault) => error_code::group(fault).code(),
    };
    let response = match left {
        Err(fault) => {
            context.report_group(&fault);
            LeaveGroupResponse::default().with_error_code(error_code::group(&fault).code())
        }
        Ok(outcomes) if batched => {
            let members = asked.into_iter().zip(&outcomes).map(|(member, outcome)| {
                MemberResponse::default()
                    .with_member_id(member.member_id)
                    .with_group_instance_id(member.group_instance_id)
                    .with_error_code(code(outcome))
            });
            LeaveGroupResponse::default().with_members(members.collect())
        }
        Ok(outcomes) => LeaveGroupResponse::default().with_error_code(outcomes.first().map_or(NONE, code)),
    };
    let codes = response.members.iter().map(|member| member.error_code);
    let outcome = error_code::worst(codes.chain([response.error_code]));
    Response::encode(&context.head, &response, outcome)
}
