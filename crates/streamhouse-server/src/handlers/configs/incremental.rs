//! IncrementalAlterConfigs v0–v1: single entries of a topic's configuration (KIP-339).
//!
//! The operations of one resource are applied together, on the newest state, or not at all. The agent's own
//! settings cannot be changed over the protocol.

use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use streamhouse_metadata::model::topic_config::{ConfigChange, ConfigOp};

use super::{Alteration, alter_all, verdict};
use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, RequestFault};
use crate::handlers::response::{EncodeError, Response};

/// Kafka's numbers of operations.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub async fn handle(
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
) -> Result<Response, EncodeError> {
    let mut alterations = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let ops = resource.configs.into_iter().map(operation);
        alterations.push(Alteration {
            kind: resource.resource_type,
            name: resource.resource_name,
            change: ops
                .collect::<Result<_, _>>()
                .map(|ops| ConfigChange { replace: false, ops }),
        });
    }
    let results = alter_all(context, &alterations, request.validate_only).await;
    let mut responses = Vec::with_capacity(results.len());
    for (alteration, result) in alterations.into_iter().zip(&results) {
        let (code, message) = verdict(context, result);
        responses.push(
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(alteration.kind)
                .with_resource_name(alteration.name),
        );
    }
    let outcome = error_code::worst(responses.iter().map(|response| response.error_code));
    let response = IncrementalAlterConfigsResponse::default().with_responses(responses);
    Response::encode(&context.head, &response, outcome)
}

fn operation(config: AlterableConfig) -> Result<(String, ConfigOp), RequestFault> {
    let name = config.name.to_string();
    let value = config.value.map(|value| value.to_string());
    let op = match (config.config_operation, value) {
        (DELETE, _) => ConfigOp::Delete,
        (SET, Some(value)) => ConfigOp::Set(value),
        (APPEND, Some(value)) => ConfigOp::Append(value),
        (SUBTRACT, Some(value)) => ConfigOp::Subtract(value),
        (SET | APPEND | SUBTRACT, None) => return Err(RequestFault::ConfigNull(name)),
        (other, _) => return Err(RequestFault::ConfigOperation(other)),
    };
    Ok((name, op))
}
