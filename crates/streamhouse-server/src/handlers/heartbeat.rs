//! Heartbeat v0–v4: a member of the classic protocol says that it lives, and learns of rebalances.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::context::RequestContext;
use super::error_code::{self, NONE};
use super::response::{EncodeError, Response};
use crate::group::GroupFault;

pub async fn handle(context: &RequestContext, request: HeartbeatRequest) -> Result<Response, EncodeError> {
    let (member, instance) = (&request.member_id, request.group_instance_id.as_deref());
    let beat = match request.group_id.is_empty() {
        true => Err(GroupFault::GroupId),
        false => {
            let groups = &context.agent.groups;
            groups
                .heartbeat(&request.group_id, (member, instance, request.generation_id))
                .await
        }
    };
    let code = match beat {
        Ok(()) => NONE,
        Err(fault) => {
            context.report_group(&fault);
            error_code::group(&fault).code()
        }
    };
    context.count_refused(None, Some(&request.group_id), code);
    let response = HeartbeatResponse::default().with_error_code(code);
    Response::encode(&context.head, &response, error_code::outcome(code))
}
