//! AddOffsetsToTxn v0–v4: the group of which a transaction is going to commit offsets.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::{FENCED_BY_NAME, asking};
use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, NONE};
use crate::handlers::response::{EncodeError, Response};

pub async fn handle(
    context: &RequestContext,
    request: AddOffsetsToTxnRequest,
) -> Result<Response, EncodeError> {
    let asking = asking(
        &request.transactional_id,
        request.producer_id.0,
        request.producer_epoch,
    );
    let added = context
        .agent
        .transactions
        .add_group(asking, &request.group_id)
        .await;
    let code = match added {
        Ok(()) => NONE,
        Err(fault) => {
            context.report_transaction(&fault);
            error_code::transaction(&fault, context.head.version >= FENCED_BY_NAME).code()
        }
    };
    let response = AddOffsetsToTxnResponse::default().with_error_code(code);
    Response::encode(&context.head, &response, error_code::outcome(code))
}
