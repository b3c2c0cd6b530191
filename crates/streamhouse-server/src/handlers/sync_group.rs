//! SyncGroup v0–v5: the leader hands in the assignment, everybody gets their share (KIP-559 from v5).
//!
//! The request waits for the leader. An assignment is stored before anybody gets it. In a group of the newer
//! protocol the server has assigned, and nobody is waited for.

use bytes::Bytes;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};
use crate::group::{GroupFault, MemberId};

pub async fn handle(
    context: &RequestContext,
    mut request: SyncGroupRequest,
) -> Result<Response, EncodeError> {
    let assignments = kept(&std::mem::take(&mut request.assignments));
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

/// Copied: a part of the request would keep the whole of it in memory as long as the generation lasts.
fn kept(assignments: &[SyncGroupRequestAssignment]) -> Vec<(MemberId, Bytes)> {
    let assignments = assignments.iter();
    assignments
        .map(|given| {
            let assignment = Bytes::copy_from_slice(&given.assignment);
            (given.member_id.to_string(), assignment)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_keeps_of_a_sync_does_not_hold_the_request() {
        let frame = Bytes::from(vec![7; 1_000]);
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(StrBytes::from_static_str("a"))
            .with_assignment(frame.slice(100..104));
        let kept = kept(&[assignment]);
        assert_eq!(kept, [("a".to_owned(), Bytes::from_static(&[7; 4]))]);
        assert!(frame.is_unique());
    }
}
