//! ListGroups v0–v5: every group, by state (v4) and type (v5) if asked.
//!
//! Groups come from the metadata store; the state of those in this coordinator's memory is newer there.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::group::GroupKind;

use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};
use crate::cluster_view::state_name;

pub async fn handle(context: &RequestContext, request: ListGroupsRequest) -> Result<Response, EncodeError> {
    let response = match context.agent.metadata.list_groups().await {
        Err(error) => {
            context.report(&error);
            ListGroupsResponse::default().with_error_code(error_code::store(&error).code())
        }
        Ok(groups) => {
            let states = context.agent.groups.seen();
            let wanted = |filter: &[StrBytes], value: &str| {
                filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
            };
            let listed = groups.into_iter().filter_map(|found| {
                let newest = states.get(&found.group).map(|seen| seen.state);
                let state = state_name(newest.unwrap_or(found.summary.state));
                let kind = match found.summary.kind {
                    GroupKind::Classic => "classic",
                    GroupKind::Consumer => "consumer",
                };
                let shown = wanted(&request.states_filter, state) && wanted(&request.types_filter, kind);
                shown.then(|| {
                    ListedGroup::default()
                        .with_group_id(GroupId(StrBytes::from_string(found.group)))
                        .with_protocol_type(StrBytes::from_string(found.summary.protocol_type))
                        .with_group_state(StrBytes::from_static_str(state))
                        .with_group_type(StrBytes::from_static_str(kind))
                })
            });
            ListGroupsResponse::default().with_groups(listed.collect())
        }
    };
    Response::encode(&context.head, &response, error_code::outcome(response.error_code))
}
