//! Metadata v0–v13: the agents and the topics (KIP-516: topic ids from v10).
//!
//! Every partition is led by this agent, its only replica. Node ids come from the metadata store and stay
//! the same over restarts. Topics asked for by name are created where client and operator allow it, at
//! once and in this answer, where Kafka answers UNKNOWN_TOPIC_OR_PARTITION first. Without an authorizer
//! everybody may do everything; that is what authorized operations say when asked for, as in Kafka. While the
//! metadata store cannot be asked, topics that are asked for have LEADER_NOT_AVAILABLE, and who asks for all of them
//! is disconnected.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::topic::{NewTopic, Topic, TopicConfig, check_topic_name};
use streamhouse_metadata::store::{StoreError, TopicError};
use tokio::time::Instant;

use super::HandleError;
use super::context::{Node, RequestContext};
use super::error_code::{self, NONE, RequestFault};
use super::once::each_once;
use super::response::Response;
use super::topics::{KnownTopic, TopicKey};

/// Bits of the operations that exist for a topic and for the cluster (KIP-430).
pub(super) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
pub(super) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
pub(super) const NOT_ASKED: i32 = i32::MIN;
/// First version that has room for an error of the whole.
const TOP_LEVEL_ERROR: i16 = 13;

pub async fn handle(context: &RequestContext, request: MetadataRequest) -> Result<Response, HandleError> {
    let agent = &context.agent;
    let node = &agent.node;
    let epoch = agent.metadata.cluster().epoch;
    let operations = if request.include_topic_authorized_operations {
        TOPIC_OPERATIONS
    } else {
        NOT_ASKED
    };
    let describe = |topic: &Topic| describe(topic, node, epoch).with_topic_authorized_operations(operations);
    // In version 0 an empty list means all topics; later that is null, and empty means none.
    let wanted = request
        .topics
        .filter(|topics| context.head.version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => match agent.metadata.topics().await {
            Ok(topics) => topics.iter().map(describe).collect(),
            Err(error) => return Err(unsayable(context, &error)),
        },
        Some(wanted) => {
            let keys = each_once(wanted.into_iter().map(|topic| match topic.name {
                Some(name) if topic.topic_id.is_nil() => TopicKey::Name(name.to_string()),
                _ => TopicKey::Id(topic.topic_id),
            }));
            let create = request.allow_auto_topic_creation && agent.settings.auto_create_topics;
            let found = match agent.topics.resolve(&keys).await {
                Ok(found) => found,
                Err(error) => return failed(context, keys, operations, &error),
            };
            let mut topics = Vec::with_capacity(keys.len());
            for (key, known) in keys.into_iter().zip(found) {
                topics.push(match known {
                    Some(known) => describe(&known.topic),
                    None => match missing(context, &key, create).await {
                        Ok(known) => describe(&known.topic),
                        Err(code) => absent(key, code).with_topic_authorized_operations(operations),
                    },
                });
            }
            topics
        }
    };
    let cluster_operations = if request.include_cluster_authorized_operations {
        CLUSTER_OPERATIONS
    } else {
        NOT_ASKED
    };
    let outcome = error_code::worst(topics.iter().map(|topic| topic.error_code));
    let response = cluster(node)
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster_operations);
    Ok(Response::encode(&context.head, &response, outcome)?)
}

/// The code of a topic that the store cannot be asked about: every client asks again after it.
fn not_known_now() -> i16 {
    ResponseError::LeaderNotAvailable.code()
}

/// A topic the store does not have: created, or the code to answer with.
async fn missing(context: &RequestContext, key: &TopicKey, create: bool) -> Result<Arc<KnownTopic>, i16> {
    let agent = &context.agent;
    let name = match key {
        TopicKey::Id(_) => return Err(error_code::request_fault(&RequestFault::UnknownTopicId).code()),
        TopicKey::Name(name) => name,
    };
    if let Err(fault) = check_topic_name(name).map_err(RequestFault::from) {
        return Err(error_code::request_fault(&fault).code());
    }
    if !create {
        return Err(error_code::request_fault(&RequestFault::UnknownTopic).code());
    }
    let began = Instant::now();
    let new = NewTopic {
        name: name.clone(),
        partitions: agent.settings.default_partitions,
        config: TopicConfig::default(),
    };
    match agent.metadata.create_topic(new, agent.settings.limits).await {
        Ok(topic) => {
            tracing::info!(topic = %topic.name, partitions = topic.partitions, "topic created by a client's use");
            Ok(agent.topics.remember(topic, began))
        }
        // Somebody else was faster.
        Err(TopicError::Exists(_)) => match agent.topics.read(std::slice::from_ref(key)).await {
            Ok(mut found) => found
                .pop()
                .flatten()
                .ok_or(error_code::request_fault(&RequestFault::UnknownTopic).code()),
            Err(error) => {
                context.report(&error);
                Err(not_known_now())
            }
        },
        Err(error) => {
            context.report(&error);
            Err(match error {
                TopicError::Store(_) => not_known_now(),
                _ => error_code::topic(&error).code(),
            })
        }
    }
}

fn cluster(node: &Node) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(node.id))
        .with_host(StrBytes::from_string(node.address.host.clone()))
        .with_port(i32::from(node.address.port));
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(StrBytes::from_string(node.cluster_id.clone())))
        .with_controller_id(BrokerId(node.id))
        .with_cluster_authorized_operations(NOT_ASKED)
}

fn describe(topic: &Topic, node: &Node, epoch: i32) -> MetadataResponseTopic {
    let me = vec![BrokerId(node.id)];
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(node.id))
            .with_leader_epoch(epoch)
            .with_replica_nodes(me.clone())
            .with_isr_nodes(me.clone())
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id.0)
        .with_partitions((0..topic.partitions).map(partition).collect())
}

fn absent(key: TopicKey, code: i16) -> MetadataResponseTopic {
    let topic = MetadataResponseTopic::default().with_error_code(code);
    match key {
        TopicKey::Name(name) => topic.with_name(Some(TopicName(StrBytes::from_string(name)))),
        TopicKey::Id(id) => topic.with_name(None).with_topic_id(id),
    }
}

/// The store cannot be asked about these topics: each is to be asked for again. Without them a client would take
/// what it is told for all there is.
fn failed(
    context: &RequestContext,
    keys: Vec<TopicKey>,
    operations: i32,
    error: &StoreError,
) -> Result<Response, HandleError> {
    context.report(error);
    let code = error_code::store(error).code();
    debug_assert_ne!(code, NONE);
    let topics = keys.into_iter();
    let topics = topics.map(|key| absent(key, not_known_now()).with_topic_authorized_operations(operations));
    let mut response = cluster(&context.agent.node).with_topics(topics.collect());
    if context.head.version >= TOP_LEVEL_ERROR {
        response.error_code = code;
    }
    let outcome = error_code::outcome(code);
    Ok(Response::encode(&context.head, &response, outcome)?)
}

/// The store cannot be asked for all topics. No topics would be an empty cluster to every client: also to Java's of
/// version 13, which reads its error for one code alone.
fn unsayable(context: &RequestContext, error: &StoreError) -> HandleError {
    context.report(error);
    HandleError::Unsayable {
        api: context.head.api,
        version: context.head.version,
        message: error.to_string(),
    }
}
