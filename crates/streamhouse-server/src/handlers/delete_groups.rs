//! DeleteGroups v0–v2: groups without members, with their offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::context::RequestContext;
use super::error_code::{self, NONE};
use super::response::{EncodeError, Response};
use crate::group::GroupFault;

pub async fn handle(context: &RequestContext, request: DeleteGroupsRequest) -> Result<Response, EncodeError> {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for id in request.groups_names {
        // The empty name is no group's, as any other that does not exist.
        let deleted = match id.is_empty() {
            true => Err(GroupFault::UnknownGroup),
            false => context.agent.groups.delete(&id).await,
        };
        let code = match deleted {
            Ok(()) => NONE,
            Err(fault) => {
                context.report_group(&fault);
                error_code::group(&fault).code()
            }
        };
        results.push(
            DeletableGroupResult::default()
                .with_group_id(id)
                .with_error_code(code),
        );
    }
    let outcome = error_code::worst(results.iter().map(|result| result.error_code));
    let response = DeleteGroupsResponse::default().with_results(results);
    Response::encode(&context.head, &response, outcome)
}
