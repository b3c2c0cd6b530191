//! GetTelemetrySubscriptions v0: what a client is asked to push of its own metrics (KIP-714).
//!
//! Nothing, until somebody subscribes (client metrics resources, as `kafka-client-metrics.sh` sets them). A
//! client without an id is given one. Increases are asked for, not totals.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};
use crate::telemetry::{COMPRESSION_TYPES, PUSH_BYTES_MAX};

pub async fn handle(
    context: &RequestContext,
    request: GetTelemetrySubscriptionsRequest,
) -> Result<Response, EncodeError> {
    let instance = if request.client_instance_id.is_nil() {
        Uuid::new_v4()
    } else {
        request.client_instance_id
    };
    let asked = context.agent.telemetry.ask(&context.asker(instance)).await;
    let response = match asked {
        Ok(asked) => GetTelemetrySubscriptionsResponse::default()
            .with_client_instance_id(instance)
            .with_subscription_id(asked.id)
            .with_accepted_compression_types(COMPRESSION_TYPES.to_vec())
            .with_push_interval_ms(i32::try_from(asked.interval.as_millis()).unwrap_or(i32::MAX))
            .with_telemetry_max_bytes(PUSH_BYTES_MAX as i32)
            .with_delta_temporality(true)
            .with_requested_metrics(asked.metrics.into_iter().map(StrBytes::from_string).collect()),
        Err(fault) => {
            context.report_telemetry(&fault);
            let code: ResponseError = error_code::telemetry(&fault);
            GetTelemetrySubscriptionsResponse::default().with_error_code(code.code())
        }
    };
    let outcome = error_code::outcome(response.error_code);
    Response::encode(&context.head, &response, outcome)
}
