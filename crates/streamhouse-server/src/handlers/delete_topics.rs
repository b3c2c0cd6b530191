//! DeleteTopics v1–v6: by name, and from v6 also by id.
//!
//! A deleted topic's name is free at once; its rows and objects go later. Its metric series leave this
//! agent with the answer.

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::store::TopicError;
use uuid::Uuid;

use super::context::RequestContext;
use super::error_code::{self, RequestFault};
use super::response::{EncodeError, Response};
use super::topics::TopicKey;

pub async fn handle(context: &RequestContext, request: DeleteTopicsRequest) -> Result<Response, EncodeError> {
    let by_state = request
        .topics
        .into_iter()
        .map(|topic| (topic.name, topic.topic_id));
    let by_name = request
        .topic_names
        .into_iter()
        .map(|name| (Some(name), Uuid::nil()));
    let mut responses = Vec::new();
    for (name, id) in by_state.chain(by_name) {
        responses.push(delete(context, name, id).await);
    }
    let outcome = error_code::worst(responses.iter().map(|result| result.error_code));
    let response = DeleteTopicsResponse::default().with_responses(responses);
    Response::encode(&context.head, &response, outcome)
}

async fn delete(context: &RequestContext, name: Option<TopicName>, id: Uuid) -> DeletableTopicResult {
    let result = DeletableTopicResult::default()
        .with_name(name.clone())
        .with_topic_id(id);
    let failed = |result: DeletableTopicResult, code: i16, error: &dyn std::fmt::Display| {
        result
            .with_error_code(code)
            .with_error_message(Some(context.explain(error)))
    };
    let (key, unknown) = match (name, id.is_nil()) {
        (Some(name), true) => (TopicKey::Name(name.to_string()), RequestFault::UnknownTopic),
        (None, false) => (TopicKey::Id(id), RequestFault::UnknownTopicId),
        (Some(_), false) | (None, true) => {
            let fault = RequestFault::NameAndId;
            return failed(result, error_code::request_fault(&fault).code(), &fault);
        }
    };
    let agent = &context.agent;
    // Read, not remembered: the name may belong to another topic by now.
    let known = match agent.topics.read(std::slice::from_ref(&key)).await {
        Ok(found) => found.into_iter().flatten().next(),
        Err(error) => {
            context.report(&error);
            return failed(result, error_code::store(&error).code(), &error);
        }
    };
    let Some(known) = known else {
        return failed(result, error_code::request_fault(&unknown).code(), &unknown);
    };
    let topic = &known.topic;
    match agent.metadata.delete_topic(topic.id).await {
        Ok(()) => {
            agent.topics.forget(&TopicKey::Id(topic.id.0));
            agent.reader.forget(topic.id);
            agent.metrics.forget_topic(&topic.name);
            agent.upkeep.topic_deleted();
            tracing::info!(topic = %topic.name, "topic deleted");
            result
                .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
                .with_topic_id(topic.id.0)
        }
        Err(TopicError::Unknown) => failed(result, error_code::request_fault(&unknown).code(), &unknown),
        Err(error) => {
            context.report(&error);
            failed(result, error_code::topic(&error).code(), &error)
        }
    }
}
