//! PushTelemetry v0: a client's own metrics, as it was asked for them (KIP-714).
//!
//! What KIP-714 standardises is shown on `/metrics` as `streamhouse_client_*`, summed up over all clients of a
//! kind and library; anything else is counted as ignored. A push may have 1 MiB, before and after decompression.

use kafka_protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};

use super::context::RequestContext;
use super::error_code::{self, NONE};
use super::response::{EncodeError, Response};
use crate::telemetry::Push;

pub async fn handle(
    context: &RequestContext,
    request: PushTelemetryRequest,
) -> Result<Response, EncodeError> {
    let push = Push {
        subscription: request.subscription_id,
        terminating: request.terminating,
        compression: request.compression_type,
        payload: &request.metrics,
    };
    let asker = context.asker(request.client_instance_id);
    let code = match context.agent.telemetry.push(&asker, push).await {
        Ok(()) => NONE,
        Err(fault) => {
            context.report_telemetry(&fault);
            error_code::telemetry(&fault).code()
        }
    };
    let response = PushTelemetryResponse::default().with_error_code(code);
    Response::encode(&context.head, &response, error_code::outcome(code))
}
