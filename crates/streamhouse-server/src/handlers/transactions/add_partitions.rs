//! AddPartitionsToTxn v0–v3: the partitions that a transaction is going to write.
//!
//! All or none, as in Kafka: where one does not exist, the others are not attempted. Versions 4 and 5 are for
//! brokers among themselves. Clients of the newer protocol do without (Produce v12).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::store::StoreError;

use super::{FENCED_BY_NAME, asking};
use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, NONE, RequestFault};
use crate::handlers::response::{EncodeError, Response};
use crate::handlers::topics::TopicKey;

pub async fn handle(
    context: &RequestContext,
    request: AddPartitionsToTxnRequest,
) -> Result<Response, EncodeError> {
    let found = resolve(context, &request).await;
    let unknown = error_code::request_fault(&RequestFault::UnknownTopic).code();
    let (all, missing) = match &found {
        Ok(found) if found.iter().flatten().all(Option::is_some) => {
            let partitions: Vec<TopicPartition> = found.iter().flatten().flatten().copied().collect();
            (add(context, &request, &partitions).await, unknown)
        }
        Ok(_) => (ResponseError::OperationNotAttempted.code(), unknown),
        Err(error) => {
            context.report(error);
            let code = ResponseError::CoordinatorNotAvailable.code();
            (code, code)
        }
    };
    let topics = request.v3_and_below_topics.into_iter().enumerate();
    let results = topics.map(|(at, topic)| {
        let partitions = topic.partitions.iter().enumerate().map(|(nth, index)| {
            let known = found.as_ref().is_ok_and(|found| found[at][nth].is_some());
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(if known { all } else { missing })
        });
        AddPartitionsToTxnTopicResult::default()
            .with_results_by_partition(partitions.collect())
            .with_name(topic.name)
    });
    let response =
        AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results.collect());
    let codes = response.results_by_topic_v3_and_below.iter();
    let codes = codes.flat_map(|topic| &topic.results_by_partition);
    let outcome = error_code::worst(codes.map(|partition| partition.partition_error_code));
    Response::encode(&context.head, &response, outcome)
}

/// By topic and partition as asked; read from the store, because a topic may just have grown.
async fn resolve(
    context: &RequestContext,
    request: &AddPartitionsToTxnRequest,
) -> Result<Vec<Vec<Option<TopicPartition>>>, StoreError> {
    let asked = &request.v3_and_below_topics;
    let names = asked.iter().map(|topic| TopicKey::Name(topic.name.to_string()));
    let known = context.agent.topics.read(&names.collect::<Vec<_>>()).await?;
    let found = asked.iter().zip(known).map(|(topic, known)| {
        let partition = |index: &i32| known.as_ref().and_then(|known| known.partition(*index));
        topic.partitions.iter().map(partition).collect()
    });
    Ok(found.collect())
}

async fn add(
    context: &RequestContext,
    request: &AddPartitionsToTxnRequest,
    partitions: &[TopicPartition],
) -> i16 {
    let asking = asking(
        &request.v3_and_below_transactional_id,
        request.v3_and_below_producer_id.0,
        request.v3_and_below_producer_epoch,
    );
    match context
        .agent
        .transactions
        .add_partitions(asking, partitions)
        .await
    {
        Ok(()) => NONE,
        Err(fault) => {
            context.report_transaction(&fault);
            error_code::transaction(&fault, context.head.version >= FENCED_BY_NAME).code()
        }
    }
}
