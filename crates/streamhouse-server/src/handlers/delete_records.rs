//! DeleteRecords v0–v2: a partition's log begins later.
//!
//! −1 means the high watermark. Nobody reads below the new start once this is answered; segments that lie
//! below it wholly are removed later, and so are their objects.

use std::collections::HashMap;

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::retention::DeleteUpTo;
use streamhouse_metadata::store::StoreError;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::response::{EncodeError, Response};

const HIGH_WATERMARK: i64 = -1;
/// The low watermark of an error.
const NO_OFFSET: i64 = -1;

pub async fn handle(
    context: &RequestContext,
    request: DeleteRecordsRequest,
) -> Result<Response, EncodeError> {
    let answers = delete(context, &request).await;
    if let Err(error) = &answers {
        context.report(error);
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for (at, topic) in request.topics.into_iter().enumerate() {
        let partitions = topic.partitions.iter().map(|wanted| {
            let index = wanted.partition_index;
            let answer = match &answers {
                Ok(answers) => answers
                    .get(&(at, index))
                    .copied()
                    .unwrap_or_else(|| Err(error_code::request_fault(&RequestFault::UnknownTopic).code())),
                Err(error) => Err(error_code::store(error).code()),
            };
            let (code, low_watermark) = match answer {
                Ok(start) => (NONE, start),
                Err(code) => (code, NO_OFFSET),
            };
            DeleteRecordsPartitionResult::default()
                .with_partition_index(index)
                .with_low_watermark(low_watermark)
                .with_error_code(code)
        });
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_partitions(partitions.collect())
                .with_name(topic.name),
        );
    }
    let codes = topics.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    let response = DeleteRecordsResponse::default().with_topics(topics);
    Response::encode(&context.head, &response, outcome)
}

type Answers = HashMap<(usize, i32), Result<i64, i16>>;

/// New log starts or error codes, by the topic's place in the request and the partition. What the store
/// does not know is missing.
async fn delete(context: &RequestContext, request: &DeleteRecordsRequest) -> Result<Answers, StoreError> {
    let agent = &context.agent;
    let names: Vec<String> = request
        .topics
        .iter()
        .map(|topic| topic.name.to_string())
        .collect();
    let found = agent.metadata.topics_by_name(&names).await?;
    let mut places = Vec::new();
    let mut deletions = Vec::new();
    for (at, (topic, known)) in request.topics.iter().zip(found).enumerate() {
        let Some(known) = known else { continue };
        for wanted in &topic.partitions {
            let partition = TopicPartition {
                topic: known.id,
                partition: wanted.partition_index,
            };
            let up_to = match wanted.offset {
                HIGH_WATERMARK => DeleteUpTo::HighWatermark,
                offset => DeleteUpTo::Offset(offset),
            };
            places.push((at, wanted.partition_index));
            deletions.push((partition, up_to));
        }
    }
    let answers = agent.metadata.delete_records(&deletions).await?;
    let mut by_place = Answers::new();
    for ((place, (partition, _)), answer) in places.into_iter().zip(deletions).zip(answers) {
        if let Ok(start) = answer {
            agent.reader.raise_log_start(partition, start);
        }
        let answer = answer.map_err(|error| error_code::delete_records(&error).code());
        by_place.insert(place, answer);
    }
    agent.upkeep.log_start_raised();
    Ok(by_place)
}
