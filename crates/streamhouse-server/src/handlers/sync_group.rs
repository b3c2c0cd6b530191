//! SyncGroup v0–v5: the leader hands in the assignment, everybody gets their share (KIP-559 from v5).
//!
//! The request waits for the leader. An assignment is stored before anybody gets it. In a group of the newer
//! protocol the server has assigned, and nobody is waited for.

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};
use crate::group::GroupFault;

pub async fn handle(context: &RequestContext, request: SyncGroupRequest) -> Result<Response, EncodeError> {
    let assignments = request.assignments.into_iter();
    let assignments = assignments
        .map(|given| (given.member_id.to_string(), given.assignment))
        .collect();
    let identity = (
        request.member_id.as_str(),
        request.group_instance_id.as_deref(),
        request.generation_id,
    );
    let protocol = (request.protocol_type.as_deref(), request.protocol_name.as_deref());
    let synced = match request.group_id.is_empty() {
        true => Err(GroupFault::GroupId),
        false => {
            context
                .agent
                .groups
                .sync(&request.group_id, identity, protocol, assignments)
                .await
        }
    };
    let response = match synced {
        Ok(reply) => SyncGroupResponse::default()
            .with_protocol_type(Some(StrBytes::from_string(reply.protocol_type)))
            .with_protocol_name(Some(StrBytes::from_string(reply.protocol)))
            .with_assignment(reply.assignment),
        Err(fault) => {
            context.report_group(&fault);
            SyncGroupResponse::default().with_error_code(error_code::group(&fault).code())
        }
    };
    context.count_refused(None, Some(&request.group_id), response.error_code);
    Response::encode(&context.head, &response, error_code::outcome(response.error_code))
}
