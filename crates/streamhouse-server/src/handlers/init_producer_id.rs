//! InitProducerId v0–v5: an id for an idempotent producer.
//!
//! As in Kafka, a producer without a transactional id always gets a new producer id with epoch 0, also
//! when it names its old one (KIP-360). With a transactional id the request is refused, since there are
//! no transactions yet, with a code that clients take as final.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::response::{EncodeError, Response};

pub async fn handle(
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> Result<Response, EncodeError> {
    let (code, id, epoch) = if request.transactional_id.is_some() {
        (
            error_code::request_fault(&RequestFault::Transactions).code(),
            -1,
            -1,
        )
    } else {
        match context.agent.metadata.allocate_producer_ids(1).await {
            Ok(id) => (NONE, id, 0),
            Err(error) => {
                context.report(&error);
                (error_code::store(&error).code(), -1, -1)
            }
        }
    };
    let response = InitProducerIdResponse::default()
        .with_error_code(code)
        .with_producer_id(ProducerId(id))
        .with_producer_epoch(epoch);
    Response::encode(&context.head, &response, error_code::outcome(code))
}
