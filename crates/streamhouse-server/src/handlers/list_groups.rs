//! ListGroups v0–v5: every group, by state (v4) and type (v5) if asked.
//!
//! Groups come from the metadata store; the state of those in this coordinator's memory is newer there, and those whose
//! first generation is under way are nowhere else.

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
        Ok(stored) => {
            let groups = &context.agent.groups;
            let mut seen = groups.seen();
            let stored = stored.into_iter().map(|found| {
                let newest = seen.remove(&found.group).map(|seen| seen.state);
                let state = newest.unwrap_or(found.summary.state);
                (
                    found.group,
                    found.summary.protocol_type,
                    state,
                    found.summary.kind,
                )
            });
            let mut all: Vec<_> = stored.collect();
            // Those whose first generation is under way.
            all.extend(seen.into_iter().map(|(group, seen)| {
                let protocol_type = groups.seen_type(&group);
                (group, protocol_type, seen.state, GroupKind::Classic)
            }));
            let wanted = |filter: &[StrBytes], value: &str| {
                filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
            };
            let listed = all.into_iter().filter_map(|(group, protocol_type, state, kind)| {
                let state = state_name(state);
                let kind = match kind {
                    GroupKind::Classic => "classic",
                    GroupKind::Consumer => "consumer",
                };
                let shown = wanted(&request.states_filter, state) && wanted(&request.types_filter, kind);
                shown.then(|| {
                    ListedGroup::default()
                        .with_group_id(GroupId(StrBytes::from_string(group)))
                        .with_protocol_type(StrBytes::from_string(protocol_type))
                        .with_group_state(StrBytes::from_static_str(state))
                        .with_group_type(StrBytes::from_static_str(kind))
                })
            });
            ListGroupsResponse::default().with_groups(listed.collect())
        }
    };
    Response::encode(&context.head, &response, error_code::outcome(response.error_code))
}
