//! InitProducerId v0–v5: who a producer is (KIP-98, KIP-360).
//!
//! As in Kafka, a producer without a transactional id always gets a new producer id with epoch 0, also
//! when it names its old one. With a transactional id it gets the next epoch, which fences every earlier
//! start of it; a transaction that was open is aborted in the same step, where Kafka would have the client
//! ask again until it is (CONCURRENT_TRANSACTIONS).

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use streamhouse_metadata::model::transaction::ProducerIdentity;

use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};
use crate::transaction::TransactionFault;

/// First version whose clients know PRODUCER_FENCED.
const FENCED_BY_NAME: i16 = 4;
const NOBODY: ProducerIdentity = ProducerIdentity {
    producer_id: -1,
    epoch: -1,
};

pub async fn handle(
    context: &RequestContext,
    request: InitProducerIdRequest,
) -> Result<Response, EncodeError> {
    let mut response = InitProducerIdResponse::default();
    let producer = match init(context, &request).await {
        Ok(producer) => producer,
        Err(fault) => {
            context.report_transaction(&fault);
            let fenced_by_name = context.head.version >= FENCED_BY_NAME;
            response.error_code = error_code::transaction(&fault, fenced_by_name).code();
            NOBODY
        }
    };
    let response = response
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(producer.epoch);
    let outcome = error_code::outcome(response.error_code);
    Response::encode(&context.head, &response, outcome)
}

async fn init(
    context: &RequestContext,
    request: &InitProducerIdRequest,
) -> Result<ProducerIdentity, TransactionFault> {
    let Some(transactional_id) = &request.transactional_id else {
        let producer_id = context.agent.metadata.allocate_producer_ids(1).await?;
        return Ok(ProducerIdentity {
            producer_id,
            epoch: 0,
        });
    };
    let named = ProducerIdentity {
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let recovering = match (named.producer_id < 0, named.epoch < 0) {
        (true, true) => None,
        (false, false) => Some(named),
        _ => return Err(TransactionFault::HalfIdentity),
    };
    let transactions = &context.agent.transactions;
    transactions
        .init(transactional_id, request.transaction_timeout_ms, recovering)
        .await
}
