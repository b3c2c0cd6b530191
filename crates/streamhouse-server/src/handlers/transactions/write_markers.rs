//! WriteTxnMarkers v1: aborts what a producer has open in a partition (KIP-664), as `kafka-transactions.sh
//! abort` asks for it.
//!
//! Kafka ends the transaction in the named partition alone, and its producer may still commit the rest. Here
//! the whole transaction is aborted, in every partition it wrote, and its producer is fenced: who commits is
//! never told that records are there which nobody will see. Where nothing of that producer is open, nothing
//! is written, so a repeat changes nothing. Coordinator epochs are not compared, since no marker comes from a
//! coordinator that could be an old one. Committing is refused: brokers of Kafka ask that of each other, and
//! here a transaction ends in one step.

use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use streamhouse_metadata::model::transaction::ProducerIdentity;
use streamhouse_metadata::store::transactions::TransactionError;

use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, NONE, RequestFault};
use crate::handlers::response::{EncodeError, Response};
use crate::handlers::topics::TopicKey;
use crate::transaction::TransactionFault;

pub async fn handle(
    context: &RequestContext,
    request: WriteTxnMarkersRequest,
) -> Result<Response, EncodeError> {
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        markers.push(abort(context, marker).await);
    }
    let topics = markers.iter().flat_map(|marker| &marker.topics);
    let codes = topics.flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    let response = WriteTxnMarkersResponse::default().with_markers(markers);
    Response::encode(&context.head, &response, outcome)
}

/// One producer's marker in all the partitions that are named for it.
async fn abort(context: &RequestContext, marker: WritableTxnMarker) -> WritableTxnMarkerResult {
    let mut codes = codes(context, &marker).await.into_iter();
    let topics = marker.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.into_iter().zip(codes.by_ref());
        let results = partitions.map(|(index, code)| {
            WritableTxnMarkerPartitionResult::default()
                .with_partition_index(index)
                .with_error_code(code)
        });
        WritableTxnMarkerTopicResult::default()
            .with_partitions(results.collect())
            .with_name(topic.name)
    });
    WritableTxnMarkerResult::default()
        .with_topics(topics.collect())
        .with_producer_id(marker.producer_id)
}

/// A code for each partition, in the order asked.
async fn codes(context: &RequestContext, marker: &WritableTxnMarker) -> Vec<i16> {
    let asked: usize = marker
        .topics
        .iter()
        .map(|topic| topic.partition_indexes.len())
        .sum();
    if marker.transaction_result {
        return vec![error_code::request_fault(&RequestFault::CommitMarker).code(); asked];
    }
    let names = marker
        .topics
        .iter()
        .map(|topic| TopicKey::Name(topic.name.to_string()));
    let known = match context.agent.topics.read(&names.collect::<Vec<_>>()).await {
        Ok(known) => known,
        Err(error) => {
            context.report(&error);
            return vec![error_code::store(&error).code(); asked];
        }
    };
    let found = marker.topics.iter().zip(&known).flat_map(|(topic, known)| {
        let partition = move |index: &i32| known.as_ref().and_then(|known| known.partition(*index));
        topic.partition_indexes.iter().map(partition)
    });
    let found: Vec<_> = found.collect();
    let producer = ProducerIdentity {
        producer_id: marker.producer_id.0,
        epoch: marker.producer_epoch,
    };
    let existing = found.iter().flatten().copied().collect();
    let mut outcomes = match context.agent.transactions.abort_open(producer, existing).await {
        Ok(outcomes) => outcomes.into_iter(),
        Err(error) => return vec![refuse(context, error); asked],
    };
    let codes = found.into_iter().map(|partition| {
        let outcome = partition.and_then(|_| outcomes.next());
        match outcome.unwrap_or(Err(TransactionError::UnknownPartition)) {
            Ok(()) => NONE,
            Err(error) => refuse(context, error),
        }
    });
    codes.collect()
}

fn refuse(context: &RequestContext, error: TransactionError) -> i16 {
    let code = error_code::marker(&error).code();
    context.report_transaction(&TransactionFault::Refused(error));
    code
}
