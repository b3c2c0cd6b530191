//! Configurations of topics, of this agent and of client metrics, shared by the three APIs that describe and alter them.
//!
//! Topics are configured; what the agent is told stands in its own configuration and is only shown. Names
//! and values of topics are checked by `TopicConfig`; here is who is meant, and what a change is refused for.

pub mod alter;
mod broker;
mod client_metrics;
pub mod describe;
pub mod incremental;

use std::collections::HashSet;

use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::topic::check_topic_name;
use streamhouse_metadata::model::topic_config::ConfigChange;
use streamhouse_metadata::store::StoreError;
use streamhouse_metadata::store::admin::{AlterClientMetricsError, AlterConfigError};
use tokio::time::Instant;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::topics::{KnownTopic, TopicKey};

/// Kafka's numbers of resource types.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

/// Why a resource is not described or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Fault(#[from] RequestFault),
    #[error(transparent)]
    Alter(#[from] AlterConfigError),
    #[error(transparent)]
    ClientMetrics(#[from] AlterClientMetricsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refusal {
    pub(super) fn code(&self) -> i16 {
        match self {
            Self::Fault(fault) => error_code::request_fault(fault).code(),
            Self::Alter(error) => error_code::alter_config(error).code(),
            Self::ClientMetrics(error) => error_code::alter_client_metrics(error).code(),
            Self::Store(error) => error_code::store(error).code(),
        }
    }
}

/// Code and message of an answer.
pub(super) fn verdict(context: &RequestContext, result: &Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(()) => (NONE, None),
        Err(refusal) => (refusal.code(), Some(context.explain(refusal))),
    }
}

/// The topic of this name, read from the store: what is shown or changed is the newest.
pub(super) async fn topic(
    context: &RequestContext,
    name: &str,
) -> Result<std::sync::Arc<KnownTopic>, Refusal> {
    check_topic_name(name).map_err(RequestFault::from)?;
    let key = [TopicKey::Name(name.to_owned())];
    let found = context.agent.topics.read(&key).await?;
    let known = found.into_iter().flatten().next();
    Ok(known.ok_or(RequestFault::UnknownTopic)?)
}

/// Refuses a broker that is not this agent; an empty name means all of them.
pub(super) fn check_broker(context: &RequestContext, name: &str) -> Result<(), Refusal> {
    let node = context.agent.node.id;
    if name.is_empty() || name.parse() == Ok(node) {
        return Ok(());
    }
    Err(RequestFault::NotThisBroker {
        got: name.to_owned(),
        node,
    }
    .into())
}

/// One resource of a request that changes.
pub(super) struct Alteration {
    pub(super) kind: i8,
    pub(super) name: StrBytes,
    pub(super) change: Result<ConfigChange, RequestFault>,
}

/// Carries out what a request asks for, each resource by itself.
pub(super) async fn alter_all(
    context: &RequestContext,
    alterations: &[Alteration],
    validate_only: bool,
) -> Vec<Result<(), Refusal>> {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for alteration in alterations {
        let resource = (alteration.kind, &alteration.name);
        if !seen.insert(resource) {
            twice.insert(resource);
        }
    }
    let mut results = Vec::with_capacity(alterations.len());
    for alteration in alterations {
        results.push(if twice.contains(&(alteration.kind, &alteration.name)) {
            Err(RequestFault::ResourceTwice.into())
        } else {
            alter_one(context, alteration, validate_only).await
        });
    }
    results
}

async fn alter_one(
    context: &RequestContext,
    alteration: &Alteration,
    validate_only: bool,
) -> Result<(), Refusal> {
    let change = alteration.change.clone()?;
    let mut names = HashSet::new();
    if !change.ops.iter().all(|(name, _)| names.insert(name)) {
        return Err(RequestFault::ConfigTwice.into());
    }
    match alteration.kind {
        TOPIC => {
            let known = topic(context, &alteration.name).await?;
            if validate_only {
                let changed = known.topic.config.changed(&change);
                changed.map_err(AlterConfigError::from)?;
                return Ok(());
            }
            let agent = &context.agent;
            let began = Instant::now();
            let altered = agent.metadata.alter_topic_config(known.topic.id, change).await?;
            tracing::info!(topic = %altered.name, config = ?altered.config.entries, "topic configured");
            agent.topics.remember(altered, began);
            agent.upkeep.retention_changed();
            Ok(())
        }
        BROKER => {
            check_broker(context, &alteration.name)?;
            match change.ops.first() {
                Some((name, _)) => Err(RequestFault::StaticConfig(name.clone()).into()),
                None => Ok(()),
            }
        }
        CLIENT_METRICS => client_metrics::alter(context, &alteration.name, change, validate_only).await,
        other => Err(RequestFault::ResourceType(other).into()),
    }
}
