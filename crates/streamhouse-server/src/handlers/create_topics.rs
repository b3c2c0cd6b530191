//! CreateTopics v2–v7.
//!
//! Any replication factor is accepted and one replica is reported: the object store replicates. A manual
//! assignment only says how many partitions there are. Configuration is checked by
//! `TopicConfig`; the answer lists what was set, where Kafka also lists its defaults.

use std::collections::HashMap;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicConfigError, check_topic_name};
use streamhouse_metadata::store::TopicError;
use tokio::time::Instant;

use super::context::RequestContext;
use super::error_code::{self, RequestFault};
use super::response::{EncodeError, Response};
use super::topics::TopicKey;

/// Kafka's number for "set for this topic".
const SOURCE_TOPIC: i8 = 1;

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Fault(#[from] RequestFault),
    #[error(transparent)]
    Config(#[from] TopicConfigError),
    #[error(transparent)]
    Topic(#[from] TopicError),
}

impl Refusal {
    fn code(&self) -> i16 {
        match self {
            Refusal::Fault(fault) => error_code::request_fault(fault).code(),
            Refusal::Config(error) => error_code::topic_config(error).code(),
            Refusal::Topic(error) => error_code::topic(error).code(),
        }
    }
}

pub async fn handle(context: &RequestContext, request: CreateTopicsRequest) -> Result<Response, EncodeError> {
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
            create(context, &topic, request.validate_only).await
        };
        results.push(
            match result {
                Ok(result) => result,
                Err(refusal) => CreatableTopicResult::default()
                    .with_error_code(refusal.code())
                    .with_error_message(Some(context.explain(&refusal)))
                    .with_num_partitions(-1)
                    .with_replication_factor(-1)
                    .with_configs(None),
            }
            .with_name(topic.name),
        );
    }
    let outcome = error_code::worst(results.iter().map(|result| result.error_code));
    let response = CreateTopicsResponse::default().with_topics(results);
    Response::encode(&context.head, &response, outcome)
}

async fn create(
    context: &RequestContext,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<CreatableTopicResult, Refusal> {
    let agent = &context.agent;
    check_topic_name(&topic.name).map_err(RequestFault::from)?;
    let partitions = partitions(context, topic)?;
    let mut config = TopicConfig::default();
    for entry in &topic.configs {
        // A null value asks for the default.
        if let Some(value) = &entry.value {
            config.set(&entry.name, value)?;
        }
    }
    let created = CreatableTopicResult::default()
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(Some(listed(&config)));
    let key = [TopicKey::Name(topic.name.to_string())];
    if validate_only {
        let found = agent.topics.read(&key).await.map_err(TopicError::Store)?;
        return match found.into_iter().flatten().next() {
            Some(known) => Err(TopicError::Exists(known.topic.name.clone()).into()),
            None => Ok(created),
        };
    }
    let began = Instant::now();
    let new = NewTopic {
        name: topic.name.to_string(),
        partitions,
        config,
    };
    let known = agent.topics.remember(
        agent.metadata.create_topic(new, agent.settings.limits).await?,
        began,
    );
    tracing::info!(topic = %known.topic.name, partitions, "topic created");
    Ok(created.with_topic_id(known.topic.id.0))
}

/// The number of partitions asked for, by count or by assignment.
fn partitions(context: &RequestContext, topic: &CreatableTopic) -> Result<i32, RequestFault> {
    let settings = &context.agent.settings;
    let max = settings.limits.partitions_max;
    if topic.assignments.is_empty() {
        if topic.replication_factor == 0 || topic.replication_factor < -1 {
            return Err(RequestFault::ReplicationFactor(topic.replication_factor));
        }
        return match topic.num_partitions {
            -1 => Ok(settings.default_partitions),
            count if count > 0 && count.unsigned_abs() <= max => Ok(count),
            got => Err(RequestFault::Partitions { got, max }),
        };
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        return Err(RequestFault::AssignmentAndCount);
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let consecutive = indexes
        .iter()
        .zip(0..)
        .all(|(index, expected)| *index == expected);
    if !consecutive || topic.assignments.iter().any(|a| a.broker_ids.is_empty()) {
        return Err(RequestFault::Assignment(0));
    }
    match i32::try_from(indexes.len()) {
        Ok(count) if count.unsigned_abs() <= max => Ok(count),
        _ => Err(RequestFault::Partitions { got: i32::MAX, max }),
    }
}

fn listed(config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    let entry = |(name, value): (&String, &String)| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_value(Some(StrBytes::from_string(value.clone())))
            .with_config_source(SOURCE_TOPIC)
    };
    config.entries.iter().map(entry).collect()
}
