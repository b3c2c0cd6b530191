//! ListPartitionReassignments v0: none is ever under way (KIP-455).

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use streamhouse_observability::families::ApiOutcome;

use super::context::RequestContext;
use super::response::{EncodeError, Response};

pub async fn handle(
    context: &RequestContext,
    _request: ListPartitionReassignmentsRequest,
) -> Result<Response, EncodeError> {
    let response = ListPartitionReassignmentsResponse::default();
    Response::encode(&context.head, &response, ApiOutcome::Ok)
}
