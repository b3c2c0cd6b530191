//! What one client is asked for: all subscriptions that match it, put together.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use streamhouse_metadata::model::client_metrics::{MatchKey, Subscription};

use super::Asker;

/// How often clients come back that nobody asks for anything: Kafka's default of `interval.ms`.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(300);
/// Asks for everything.
const ALL: &str = "*";

/// What a client is asked to push, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Another one whenever the client is asked for something else.
    pub id: i32,
    /// Prefixes of names, sorted; empty: nothing.
    pub metrics: Vec<String>,
    pub interval: Duration,
}

pub(super) fn asked(subscriptions: &[Subscription], asker: &Asker) -> Asked {
    let value = |key| match key {
        MatchKey::InstanceId => crate::ids::kafka_uuid(asker.instance),
        MatchKey::ClientId => asker.client_id.clone(),
        MatchKey::SoftwareName => asker.software.name.to_string(),
        MatchKey::SoftwareVersion => asker.software.version.to_string(),
        MatchKey::SourceAddress => asker.address.ip().to_canonical().to_string(),
        MatchKey::SourcePort => asker.address.port().to_string(),
    };
    let mut metrics = BTreeSet::new();
    let mut interval = INTERVAL_DEFAULT;
    for subscription in subscriptions.iter().filter(|each| each.is_for(value)) {
        metrics.extend(subscription.metrics.iter().cloned());
        interval = interval.min(subscription.interval);
    }
    if metrics.contains(ALL) {
        metrics = BTreeSet::from([ALL.to_owned()]);
    }
    // Agents of another build may hash otherwise: their clients ask once more when they come here.
    let mut hasher = DefaultHasher::new();
    (&metrics, interval, asker.instance).hash(&mut hasher);
    Asked {
        id: hasher.finish() as i32,
        metrics: metrics.into_iter().collect(),
        interval,
    }
}
