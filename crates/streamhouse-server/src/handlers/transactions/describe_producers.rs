//! DescribeProducers v0: who writes to a partition, and since where its transaction is open (KIP-664).
//!
//! The coordinator's epoch is never told (−1): markers are not kept apart, so whose the last one was is not known.
//! A partition named twice is described once, where Kafka repeats itself.

use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use streamhouse_metadata::model::producer::ActiveProducer;

use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, RequestFault};
use crate::handlers::once::partitions_once;
use crate::handlers::response::{EncodeError, Response};
use crate::handlers::topics::{KnownTopic, TopicKey};

pub async fn handle(
    context: &RequestContext,
    request: DescribeProducersRequest,
) -> Result<Response, EncodeError> {
    let asked = request.topics.into_iter();
    let asked = partitions_once(asked.map(|topic| (topic.name, topic.partition_indexes)));
    let names = asked.iter().map(|(name, _)| TopicKey::Name(name.to_string()));
    let known = context.agent.topics.read(&names.collect::<Vec<_>>()).await;
    let mut topics = Vec::with_capacity(asked.len());
    for (at, (name, indexes)) in asked.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(indexes.len());
        for index in indexes {
            let found = match &known {
                Ok(known) => find(context, known[at].as_deref(), index).await,
                Err(error) => Err(error_code::store(error).code()),
            };
            let partition = PartitionResponse::default().with_partition_index(index);
            partitions.push(match found {
                Ok(active) => partition.with_active_producers(active.iter().map(describe).collect()),
                Err(code) => partition.with_error_code(code),
            });
        }
        topics.push(
            TopicResponse::default()
                .with_partitions(partitions)
                .with_name(name),
        );
    }
    let codes = topics.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    let response = DescribeProducersResponse::default().with_topics(topics);
    Response::encode(&context.head, &response, outcome)
}

async fn find(
    context: &RequestContext,
    known: Option<&KnownTopic>,
    index: i32,
) -> Result<Vec<ActiveProducer>, i16> {
    let unknown = || error_code::request_fault(&RequestFault::UnknownTopic).code();
    let partition = known
        .and_then(|known| known.partition(index))
        .ok_or_else(unknown)?;
    match context.agent.metadata.producers(partition).await {
        Ok(found) => found.map_err(|_| unknown()),
        Err(error) => {
            context.report(&error);
            Err(error_code::store(&error).code())
        }
    }
}

fn describe(producer: &ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_used.0)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(producer.transaction_start_offset.unwrap_or(-1))
}
