//! JoinGroup v0–v9: becoming a member of a group of the classic protocol (KIP-345, KIP-394, KIP-814).
//!
//! The request waits until its generation is complete. Kafka's bounds of session timeouts hold. Versions
//! below 1 name no rebalance timeout: the session's is taken. In a group of the newer protocol (KIP-848) it waits
//! for nobody: the server assigns. Such a group refuses a subscription that cannot be read with
//! INCONSISTENT_GROUP_PROTOCOL, where Kafka has an UNKNOWN_SERVER_ERROR.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};
use crate::group::classic::{Join, Profile};
use crate::group::step::JoinReply;
use crate::group::{GroupFault, MemberId};

/// First version in which a new member is told its id before it joins.
const KNOWN_MEMBER: i16 = 4;
/// First version in which a static leader may be told to keep its assignment.
const SKIP_ASSIGNMENT: i16 = 9;
/// First version in which the answer may name no protocol.
const NO_PROTOCOL: i16 = 7;

pub async fn handle(context: &RequestContext, request: JoinGroupRequest) -> Result<Response, EncodeError> {
    let version = context.head.version;
    let given = request.member_id.to_string();
    let group = request.group_id.to_string();
    let joined = match check(context, &request) {
        Ok(()) => {
            context
                .agent
                .groups
                .join(&group, describe(context, request))
                .await
        }
        Err(fault) => Err((fault, given)),
    };
    let text = StrBytes::from_string;
    let response = match joined {
        Ok(reply) => answer(reply),
        Err((fault, member)) => {
            context.report_group(&fault);
            JoinGroupResponse::default()
                .with_error_code(error_code::group(&fault).code())
                .with_generation_id(-1)
                .with_protocol_name((version < NO_PROTOCOL).then(StrBytes::default))
                .with_member_id(text(member))
        }
    };
    context.count_refused(None, Some(&group), response.error_code);
    Response::encode(&context.head, &response, error_code::outcome(response.error_code))
}

fn check(context: &RequestContext, request: &JoinGroupRequest) -> Result<(), GroupFault> {
    if request.group_id.is_empty() {
        return Err(GroupFault::GroupId);
    }
    let settings = context.agent.groups.settings();
    let session = std::time::Duration::from_millis(u64::try_from(request.session_timeout_ms).unwrap_or(0));
    if session < settings.session_timeout_min || session > settings.session_timeout_max {
        return Err(GroupFault::SessionTimeout(request.session_timeout_ms));
    }
    Ok(())
}

fn describe(context: &RequestContext, request: JoinGroupRequest) -> Join {
    let millis = |timeout: i32| u64::try_from(timeout).unwrap_or(0);
    let client_id = context.head.client_id.as_deref().unwrap_or_default().to_owned();
    let instance = request.group_instance_id.map(|instance| instance.to_string());
    let rebalance_timeout_ms = match context.head.version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    Join {
        member: request.member_id.to_string(),
        new_member: format!("{}-{}", instance.as_deref().unwrap_or(&client_id), Uuid::new_v4()),
        protocol_type: request.protocol_type.to_string(),
        profile: Profile {
            instance,
            client_id,
            client_host: format!("/{}", context.peer.ip()),
            session_timeout_ms: millis(request.session_timeout_ms),
            rebalance_timeout_ms: millis(rebalance_timeout_ms),
            protocols: kept(&request.protocols),
        },
        needs_known_member: context.head.version >= KNOWN_MEMBER,
        may_skip_assignment: context.head.version >= SKIP_ASSIGNMENT,
    }
}

/// Copied: a part of the request would keep the whole of it in memory as long as the member is there.
fn kept(protocols: &[JoinGroupRequestProtocol]) -> Vec<(String, Bytes)> {
    let protocols = protocols.iter();
    protocols
        .map(|protocol| {
            let metadata = Bytes::copy_from_slice(&protocol.metadata);
            (protocol.name.to_string(), metadata)
        })
        .collect()
}

fn answer(reply: JoinReply) -> JoinGroupResponse {
    let text = StrBytes::from_string;
    let member = |(id, instance, metadata): (MemberId, Option<String>, Bytes)| {
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
            .with_metadata(metadata)
    };
    JoinGroupResponse::default()
        .with_generation_id(reply.generation)
        .with_protocol_type(Some(text(reply.protocol_type)))
        .with_protocol_name(Some(text(reply.protocol)))
        .with_leader(text(reply.leader))
        .with_skip_assignment(reply.skip_assignment)
        .with_member_id(text(reply.member))
        .with_members(reply.members.into_iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_keeps_of_a_join_does_not_hold_the_request() {
        let frame = Bytes::from(vec![7; 1_000]);
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(frame.slice(100..104));
        let kept = kept(&[protocol]);
        assert_eq!(kept, [("range".to_owned(), Bytes::from_static(&[7; 4]))]);
        assert!(frame.is_unique());
    }
}
