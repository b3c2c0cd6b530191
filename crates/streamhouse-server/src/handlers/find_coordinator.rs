//! FindCoordinator v0–v6: who looks after a group or a transaction (KIP-699: many keys from v4).
//!
//! This agent coordinates every group and every transaction. Share groups have no coordinator here; asking
//! for one is refused with a code that clients do not retry. A key named twice is answered once, where Kafka repeats
//! itself.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::error_code::{self, RequestFault};
use super::once::each_once;
use super::response::{EncodeError, Response};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// First version with many keys.
const BATCHED: i16 = 4;

pub async fn handle(
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> Result<Response, EncodeError> {
    // The same for every key.
    let found = find(context, request.key_type);
    let response = if context.head.version >= BATCHED {
        let keys = each_once(request.coordinator_keys).into_iter();
        let coordinators = keys.map(|key| found.clone().with_key(key));
        FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
    } else {
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

fn find(context: &RequestContext, kind: i8) -> Coordinator {
    let found = Coordinator::default();
    if !matches!(kind, GROUP | TRANSACTION) {
        let fault = RequestFault::CoordinatorKind;
        return found
            .with_error_code(error_code::request_fault(&fault).code())
            .with_error_message(Some(context.explain(&fault)))
            .with_node_id(BrokerId(-1))
            .with_port(-1);
    }
    let node = &context.agent.node;
    found
        .with_node_id(BrokerId(node.id))
        .with_host(StrBytes::from_string(node.address.host.clone()))
        .with_port(i32::from(node.address.port))
}
