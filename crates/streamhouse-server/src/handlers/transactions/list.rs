//! ListTransactions v0–v2: transactional ids, by state, producer id, (v1) age of what is open and (v2) pattern
//! (KIP-664, KIP-994, KIP-1152).
//!
//! A pattern is one of the whole id, in RE2's syntax as in Kafka.

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ListTransactionsRequest, ListTransactionsResponse, ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::ids::StoreTime;
use streamhouse_metadata::model::transaction::Transaction;
use streamhouse_metadata::store::StoreError;

use super::{STATES, phase_name};
use crate::group::GroupFault;
use crate::group::consumer::pattern::Pattern;
use crate::handlers::context::RequestContext;
use crate::handlers::error_code;
use crate::handlers::response::{EncodeError, Response};

pub async fn handle(
    context: &RequestContext,
    request: ListTransactionsRequest,
) -> Result<Response, EncodeError> {
    let named = match pattern(&request) {
        Ok(named) => named,
        Err(fault) => {
            context.report_group(&fault);
            let code = error_code::group(&fault).code();
            let response = ListTransactionsResponse::default().with_error_code(code);
            return Response::encode(&context.head, &response, error_code::outcome(code));
        }
    };
    let response = match read(context).await {
        Err(error) => {
            context.report(&error);
            ListTransactionsResponse::default().with_error_code(error_code::store(&error).code())
        }
        Ok((rows, now)) => {
            let matches = |row: &Transaction| {
                let id = &row.transactional_id;
                named.as_ref().is_none_or(|named| named.matches(id))
            };
            let listed = rows
                .into_iter()
                .filter(|row| matches(row) && wanted(&request, row, now));
            let states = listed.map(|row| {
                TransactionState::default()
                    .with_transaction_state(StrBytes::from_static_str(phase_name(row.phase)))
                    .with_producer_id(ProducerId(row.current.producer_id))
                    .with_transactional_id(TransactionalId(StrBytes::from_string(row.transactional_id)))
            });
            let unknown = request
                .state_filters
                .iter()
                .filter(|state| !STATES.contains(&state.as_str()));
            ListTransactionsResponse::default()
                .with_unknown_state_filters(unknown.cloned().collect())
                .with_transaction_states(states.collect())
        }
    };
    Response::encode(&context.head, &response, error_code::outcome(response.error_code))
}

/// The ids that are asked for; an empty pattern is none. Patterns are those with which members subscribe.
fn pattern(request: &ListTransactionsRequest) -> Result<Option<Pattern>, GroupFault> {
    let text = request.transactional_id_pattern.as_deref();
    let text = text.filter(|text| !text.is_empty());
    text.map(Pattern::new).transpose()
}

async fn read(context: &RequestContext) -> Result<(Vec<Transaction>, StoreTime), StoreError> {
    let metadata = &context.agent.metadata;
    let mut rows = metadata.transactions().await?;
    rows.sort_unstable_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
    Ok((rows, metadata.now().await?))
}

fn wanted(request: &ListTransactionsRequest, row: &Transaction, now: StoreTime) -> bool {
    let states = &request.state_filters;
    let in_state = states.is_empty() || states.iter().any(|state| state.as_str() == phase_name(row.phase));
    let producers = &request.producer_id_filters;
    let by_producer = producers.is_empty() || producers.iter().any(|id| id.0 == row.current.producer_id);
    let old_enough = request.duration_filter < 0
        || row
            .started_at
            .is_some_and(|at| now.0.saturating_sub(at.0) > request.duration_filter);
    in_state && by_producer && old_enough
}
