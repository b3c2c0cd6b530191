//! AlterConfigs v0–v2: the whole configuration of a topic, what is not named goes back to its default.
//!
//! Deprecated in Kafka in favour of IncrementalAlterConfigs (KIP-339), and still served by it. The agent's
//! own settings cannot be changed over the protocol.

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use streamhouse_metadata::model::topic_config::{ConfigChange, ConfigOp};

use super::{Alteration, alter_all, verdict};
use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, RequestFault};
use crate::handlers::response::{EncodeError, Response};

pub async fn handle(context: &RequestContext, request: AlterConfigsRequest) -> Result<Response, EncodeError> {
    let mut alterations = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let ops = resource.configs.into_iter().map(|config| match config.value {
            Some(value) => Ok((config.name.to_string(), ConfigOp::Set(value.to_string()))),
            None => Err(RequestFault::ConfigNull(config.name.to_string())),
        });
        alterations.push(Alteration {
            kind: resource.resource_type,
            name: resource.resource_name,
            change: ops
                .collect::<Result<_, _>>()
                .map(|ops| ConfigChange { replace: true, ops }),
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
    let response = AlterConfigsResponse::default().with_responses(responses);
    Response::encode(&context.head, &response, outcome)
}
