//! ListConfigResources v0–v1: what has a configuration (KIP-714, KIP-1142).
//!
//! Version 0 lists client metrics subscriptions; version 1 also topics and this agent, and those of other
//! kinds that Kafka knows: none.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::store::StoreError;

use super::configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};

/// In the order of an answer to a request that names no kinds.
const KINDS: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

pub async fn handle(
    context: &RequestContext,
    request: ListConfigResourcesRequest,
) -> Result<Response, EncodeError> {
    let kinds = if context.head.version == 0 {
        vec![CLIENT_METRICS]
    } else if request.resource_types.is_empty() {
        KINDS.to_vec()
    } else {
        // Each once, whatever is asked.
        let asked = KINDS.iter().filter(|kind| request.resource_types.contains(kind));
        asked.copied().collect()
    };
    let mut response = ListConfigResourcesResponse::default();
    if request.resource_types.iter().any(|kind| !KINDS.contains(kind)) {
        response.error_code = ResponseError::UnsupportedVersion.code();
    } else {
        match list(context, &kinds).await {
            Ok(resources) => response.config_resources = resources,
            Err(error) => {
                context.report(&error);
                response.error_code = error_code::store(&error).code();
            }
        }
    }
    let outcome = error_code::outcome(response.error_code);
    Response::encode(&context.head, &response, outcome)
}

async fn list(context: &RequestContext, kinds: &[i8]) -> Result<Vec<ConfigResource>, StoreError> {
    let agent = &context.agent;
    let mut resources = Vec::new();
    for kind in kinds {
        let names = match *kind {
            TOPIC => agent
                .metadata
                .topics()
                .await?
                .into_iter()
                .map(|topic| topic.name)
                .collect(),
            BROKER => vec![agent.node.id.to_string()],
            CLIENT_METRICS => agent.metadata.client_metrics().await?.into_keys().collect(),
            _ => Vec::new(),
        };
        let resource = |name| {
            ConfigResource::default()
                .with_resource_name(StrBytes::from_string(name))
                .with_resource_type(*kind)
        };
        resources.extend(names.into_iter().map(resource));
    }
    Ok(resources)
}
