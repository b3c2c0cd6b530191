//! FindCoordinator v0–v6: who looks after a group or a transaction (KIP-699: many keys from v4).
//!
//! This agent coordinates every group and every transaction. Share groups have no coordinator here; asking
//! for one is refused with a code that clients do not retry.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::error_code::{self, RequestFault};
use super::response::{EncodeError, Response};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// First version with many keys.
const BATCHED: i16 = 4;

pub async fn handle(
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> Result<Response, EncodeError> {
    let kind = request.key_type;
    let response = if context.head.version >= BATCHED {
        let coordinators = request
            .coordinator_keys
            .into_iter()
            .map(|key| find(context, kind, key));
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    } else {
        let found = find(context, kind, request.key);
        FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_error_message(found.error_message)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port)
    };
    let codes = response.coordinators.iter().map(|found| found.error_code);
    let outcome = error_code::worst(codes.chain([response.error_code]));
    Response::encode(&context.head, &response, outcome)
}

fn find(context: &RequestContext, kind: i8, key: StrBytes) -> Coordinator {
    let fault = match kind {
        GROUP if key.is_empty() => Some(RequestFault::GroupId),
        GROUP | TRANSACTION => None,
        _ => Some(RequestFault::CoordinatorKind),
    };
    let found = Coordinator::default().with_key(key);
    match fault {
        None => {
            let node = &context.agent.node;
            found
                .with_node_id(BrokerId(node.id))
                .with_host(StrBytes::from_string(node.address.host.clone()))
                .with_port(i32::from(node.address.port))
        }
        Some(fault) => found
            .with_error_code(error_code::request_fault(&fault).code())
            .with_error_message(Some(context.explain(&fault)))
            .with_node_id(BrokerId(-1))
            .with_port(-1),
    }
}
