//! DeleteGroups v0–v2: groups without members, with their offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::context::RequestContext;
use super::error_code::{self, NONE};
use super::once::each_once;
use super::response::{EncodeError, Response};

pub async fn handle(context: &RequestContext, request: DeleteGroupsRequest) -> Result<Response, EncodeError> {
    let wanted = each_once(request.groups_names);
    let mut results = Vec::with_capacity(wanted.len());
    for id in wanted {
        let code = match context.agent.groups.delete(&id).await {
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
