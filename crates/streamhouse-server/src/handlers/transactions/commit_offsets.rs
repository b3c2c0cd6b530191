//! TxnOffsetCommit v0–v5: offsets that become committed when their transaction commits.
//!
//! From v3 on the member says who it is and is judged as in a plain commit (KIP-447), but that it may commit before
//! its group has an assignment, as in Kafka; from v5 on its group joins the transaction by itself (KIP-890 part 2).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::group::CommittedOffset;
use streamhouse_metadata::store::StoreError;
use streamhouse_metadata::store::transactions::TransactionError;
use streamhouse_observability::registry::Topic;

use super::asking;
use crate::group::GroupFault;
use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, NONE, RequestFault};
use crate::handlers::offset_commit::METADATA_BYTES_MAX;
use crate::handlers::response::{EncodeError, Response};
use crate::handlers::topics::{KnownTopic, TopicKey};
use crate::transaction::TransactionFault;

/// First version that knows TRANSACTION_ABORTABLE, and first whose groups join by themselves.
const ABORTABLE: i16 = 4;
const IMPLICIT: i16 = 5;

/// What is known of an offset before the store is asked: refused, or its place there.
type Place = Result<usize, i16>;

pub async fn handle(
    context: &RequestContext,
    request: TxnOffsetCommitRequest,
) -> Result<Response, EncodeError> {
    let names = request
        .topics
        .iter()
        .map(|topic| TopicKey::Name(topic.name.to_string()));
    let known = context.agent.topics.read(&names.collect::<Vec<_>>()).await;
    let (places, offsets) = plan(&request, &known);
    let version = context.head.version;
    let asking = asking(
        &request.transactional_id,
        request.producer_id.0,
        request.producer_epoch,
    );
    let member = (
        request.member_id.as_str(),
        request.group_instance_id.as_deref(),
        request.generation_id,
    );
    let held = context
        .agent
        .transactions
        .add_offsets(asking, (&request.group_id, member), version >= IMPLICIT, offsets)
        .await;
    if let Err(fault) = &held {
        context.report_transaction(fault);
        context.count_refused(None, Some(&request.group_id), fault_code(fault, version));
    }
    let unknown = error_code::request_fault(&RequestFault::UnknownTopic).code();
    if let Ok(outcomes) = &held {
        for (at, places) in places.iter().enumerate() {
            let name = known.as_ref().map(|known| match known.get(at) {
                Some(Some(known)) => known.topic.name.as_str(),
                Some(None) | None => Topic::UNKNOWN,
            });
            for place in places {
                match place {
                    // Where the topics could not be looked up nobody knows whether they exist.
                    Err(code) => context.count_refused(name.ok(), Some(&request.group_id), *code),
                    Ok(at) if outcomes.get(*at).is_none_or(Result::is_err) => {
                        // Deleted since it was looked up.
                        context.count_refused(Some(Topic::UNKNOWN), Some(&request.group_id), unknown);
                    }
                    Ok(_) => {}
                }
            }
        }
    }
    let code = |place: Place| match (&held, place) {
        (Err(fault), _) => fault_code(fault, version),
        (Ok(_), Err(code)) => code,
        (Ok(outcomes), Ok(at)) => match outcomes.get(at) {
            Some(Ok(())) => NONE,
            Some(Err(_)) | None => unknown,
        },
    };
    let topics = request.topics.into_iter().zip(places).map(|(topic, places)| {
        let partitions = topic.partitions.iter().zip(places).map(|(partition, place)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(place))
        });
        TxnOffsetCommitResponseTopic::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    let response = TxnOffsetCommitResponse::default().with_topics(topics.collect());
    let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    Response::encode(&context.head, &response, outcome)
}

fn fault_code(fault: &TransactionFault, version: i16) -> i16 {
    match fault {
        // No version of this API knows member epochs by name.
        TransactionFault::Group(GroupFault::StaleEpoch) => ResponseError::IllegalGeneration.code(),
        TransactionFault::Refused(TransactionError::InvalidState(_)) if version >= ABORTABLE => {
            ResponseError::TransactionAbortable.code()
        }
        // As in Kafka, where the group's log and not the coordinator finds the epoch too old.
        fault => error_code::transaction(fault, false).code(),
    }
}

fn plan(
    request: &TxnOffsetCommitRequest,
    known: &Result<Vec<Option<Arc<KnownTopic>>>, StoreError>,
) -> (Vec<Vec<Place>>, Vec<(TopicPartition, CommittedOffset)>) {
    let mut offsets = Vec::new();
    let mut places = Vec::with_capacity(request.topics.len());
    for (at, topic) in request.topics.iter().enumerate() {
        let mut of_topic = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let metadata = wanted.committed_metadata.as_deref().unwrap_or_default();
            let partition = match known {
                Err(error) => Err(error_code::store(error).code()),
                Ok(_) if metadata.len() > METADATA_BYTES_MAX => {
                    Err(error_code::request_fault(&RequestFault::OffsetMetadata(metadata.len())).code())
                }
                Ok(known) => known[at]
                    .as_ref()
                    .and_then(|topic| topic.partition(wanted.partition_index))
                    .ok_or_else(|| error_code::request_fault(&RequestFault::UnknownTopic).code()),
            };
            of_topic.push(partition.map(|partition| {
                let committed = CommittedOffset {
                    offset: wanted.committed_offset,
                    leader_epoch: wanted.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                };
                offsets.push((partition, committed));
                offsets.len() - 1
            }));
        }
        places.push(of_topic);
    }
    (places, offsets)
}
