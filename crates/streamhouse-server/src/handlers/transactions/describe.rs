//! DescribeTransactions v0: state, producer and partitions of transactional ids (KIP-664).
//!
//! An id named twice is described once, where Kafka repeats itself.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::ids::TopicId;
use streamhouse_metadata::model::transaction::Transaction;
use streamhouse_metadata::store::StoreError;

use super::phase_name;
use crate::handlers::context::RequestContext;
use crate::handlers::error_code;
use crate::handlers::once::each_once;
use crate::handlers::response::{EncodeError, Response};
use crate::transaction::TransactionFault;

pub async fn handle(
    context: &RequestContext,
    request: DescribeTransactionsRequest,
) -> Result<Response, EncodeError> {
    let wanted = each_once(request.transactional_ids);
    let mut states = Vec::with_capacity(wanted.len());
    for id in wanted {
        let state = match find(context, &id).await {
            Ok(state) => state,
            Err(fault) => {
                context.report_transaction(&fault);
                let code = error_code::transaction(&fault, true).code();
                TransactionState::default().with_error_code(code)
            }
        };
        states.push(state.with_transactional_id(id));
    }
    let outcome = error_code::worst(states.iter().map(|state| state.error_code));
    let response = DescribeTransactionsResponse::default().with_transaction_states(states);
    Response::encode(&context.head, &response, outcome)
}

async fn find(context: &RequestContext, id: &TransactionalId) -> Result<TransactionState, TransactionFault> {
    let row = context.agent.metadata.transaction(id).await?;
    let row = row.ok_or_else(|| TransactionFault::UnknownId(id.to_string()))?;
    let topics = topics(context, &row).await?;
    Ok(TransactionState::default()
        .with_transaction_state(StrBytes::from_static_str(phase_name(row.phase)))
        .with_transaction_timeout_ms(row.timeout_ms)
        .with_transaction_start_time_ms(row.started_at.map_or(-1, |at| at.0))
        .with_producer_id(ProducerId(row.current.producer_id))
        .with_producer_epoch(row.current.epoch)
        .with_topics(topics))
}

/// Its partitions by topic; what was deleted meanwhile has no name any more.
async fn topics(context: &RequestContext, row: &Transaction) -> Result<Vec<TopicData>, StoreError> {
    let mut partitions: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for partition in row.partitions.keys() {
        partitions
            .entry(partition.topic)
            .or_default()
            .push(partition.partition);
    }
    let ids: Vec<TopicId> = partitions.keys().copied().collect();
    let known = context.agent.metadata.topics_by_id(&ids).await?;
    let named = known.into_iter().zip(partitions.into_values());
    let topics = named.filter_map(|(topic, partitions)| {
        let name = TopicName(StrBytes::from_string(topic?.name));
        Some(TopicData::default().with_topic(name).with_partitions(partitions))
    });
    Ok(topics.collect())
}
