//! CreatePartitions v0–v3: more partitions for a topic.
//!
//! A manual assignment only has to have one entry for each new partition; every partition has one
//! replica here.

use std::collections::HashMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::store::TopicError;
use tokio::time::Instant;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::response::{EncodeError, Response};
use super::topics::TopicKey;

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Fault(#[from] RequestFault),
    #[error(transparent)]
    Topic(#[from] TopicError),
}

pub async fn handle(
    context: &RequestContext,
    request: CreatePartitionsRequest,
) -> Result<Response, EncodeError> {
    let mut named: HashMap<StrBytes, usize> = HashMap::new();
    for topic in &request.topics {
        *named.entry(topic.name.0.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let twice = named.get(&topic.name.0).is_some_and(|times| *times > 1);
        let result = if twice {
            Err(RequestFault::NamedTwice.into())
        } else {
            grow(context, &topic, request.validate_only).await
        };
        let (code, message) = match &result {
            Ok(()) => (NONE, None),
            Err(refusal @ Refusal::Fault(fault)) => (
                error_code::request_fault(fault).code(),
                Some(context.explain(refusal)),
            ),
            Err(refusal @ Refusal::Topic(error)) => {
                (error_code::topic(error).code(), Some(context.explain(refusal)))
            }
        };
        results.push(
            CreatePartitionsTopicResult::default()
                .with_name(topic.name)
                .with_error_code(code)
                .with_error_message(message),
        );
    }
    let outcome = error_code::worst(results.iter().map(|result| result.error_code));
    let response = CreatePartitionsResponse::default().with_results(results);
    Response::encode(&context.head, &response, outcome)
}

async fn grow(
    context: &RequestContext,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    let agent = &context.agent;
    let key = [TopicKey::Name(topic.name.to_string())];
    let found = agent.topics.read(&key).await.map_err(TopicError::Store)?;
    let Some(known) = found.into_iter().flatten().next() else {
        return Err(TopicError::Unknown.into());
    };
    let current = known.topic.partitions;
    if topic.count <= current {
        return Err(TopicError::NotMorePartitions {
            current,
            requested: topic.count,
        }
        .into());
    }
    if let Some(assignments) = &topic.assignments {
        let fits = i32::try_from(assignments.len()).is_ok_and(|new| new == topic.count - current);
        if !fits || assignments.iter().any(|a| a.broker_ids.is_empty()) {
            return Err(RequestFault::Assignment(current).into());
        }
    }
    let limit = agent.settings.limits.partitions_max;
    if topic.count.unsigned_abs() > limit {
        return Err(TopicError::TooMany {
            what: "partitions",
            limit,
        }
        .into());
    }
    if !validate_only {
        let began = Instant::now();
        let grown = agent
            .metadata
            .create_partitions(known.topic.id, topic.count, agent.settings.limits)
            .await?;
        tracing::info!(topic = %grown.name, partitions = grown.partitions, "partitions added");
        agent.topics.remember(grown, began);
    }
    Ok(())
}
