//! EndTxn v0–v5: commits or aborts a transaction.
//!
//! From v5 on (KIP-890 part 2) every end raises the producer's epoch and the answer says who it is now, so
//! that nothing of the old transaction can be taken for a part of the next.

use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};
use streamhouse_metadata::model::transaction::TransactionResult;

use super::{FENCED_BY_NAME, asking};
use crate::handlers::context::RequestContext;
use crate::handlers::error_code;
use crate::handlers::response::{EncodeError, Response};

/// First version that raises the epoch.
const BUMPS: i16 = 5;

pub async fn handle(context: &RequestContext, request: EndTxnRequest) -> Result<Response, EncodeError> {
    let version = context.head.version;
    let asking = asking(
        &request.transactional_id,
        request.producer_id.0,
        request.producer_epoch,
    );
    let result = if request.committed {
        TransactionResult::Commit
    } else {
        TransactionResult::Abort
    };
    let ended = context
        .agent
        .transactions
        .end(asking, &context.client(), result, version >= BUMPS)
        .await;
    let mut response = EndTxnResponse::default();
    match ended {
        Ok(producer) if version >= BUMPS => {
            response.producer_id = ProducerId(producer.producer_id);
            response.producer_epoch = producer.epoch;
        }
        Ok(_) => {}
        Err(fault) => {
            context.report_transaction(&fault);
            response.error_code = error_code::transaction(&fault, version >= FENCED_BY_NAME).code();
        }
    }
    let outcome = error_code::outcome(response.error_code);
    Response::encode(&context.head, &response, outcome)
}
