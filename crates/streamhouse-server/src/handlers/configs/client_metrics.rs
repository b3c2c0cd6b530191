//! Client metrics resources (KIP-714): subscriptions to what clients push, described and altered by name.
//!
//! A subscription begins with its first entry and goes with its last. One that does not exist is described
//! with its defaults, as in Kafka.

use streamhouse_metadata::model::client_metrics::{self, ClientMetricsError, ENTRIES, Entry};
use streamhouse_metadata::model::topic_config::ConfigChange;
use streamhouse_metadata::store::admin::AlterClientMetricsError;

use super::Refusal;
use crate::handlers::context::RequestContext;

/// Subscriptions that there may be: each is compared with every client that asks.
const SUBSCRIPTIONS_MAX: u32 = 100;

/// Every entry and what was set for it.
pub(super) async fn entries(
    context: &RequestContext,
    name: &str,
) -> Result<Vec<(&'static Entry, Option<String>)>, Refusal> {
    check(name)?;
    let mut all = context.agent.metadata.client_metrics().await?;
    let mut set = all.remove(name).unwrap_or_default();
    Ok(ENTRIES
        .iter()
        .map(|entry| (entry, set.remove(entry.name)))
        .collect())
}

pub(super) async fn alter(
    context: &RequestContext,
    name: &str,
    change: ConfigChange,
    validate_only: bool,
) -> Result<(), Refusal> {
    check(name)?;
    let agent = &context.agent;
    if validate_only {
        let mut all = agent.metadata.client_metrics().await?;
        let set = all.remove(name).unwrap_or_default();
        client_metrics::changed(&set, &change).map_err(AlterClientMetricsError::from)?;
        return Ok(());
    }
    let altered = agent
        .metadata
        .alter_client_metrics(name, change, SUBSCRIPTIONS_MAX);
    altered.await?;
    tracing::info!(subscription = name, "client metrics subscription changed");
    agent.telemetry.forget();
    Ok(())
}

fn check(name: &str) -> Result<(), Refusal> {
    client_metrics::check_name(name)
        .map_err(|error: ClientMetricsError| AlterClientMetricsError::from(error).into())
}
