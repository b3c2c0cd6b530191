//! Client quotas: how long a client has to be quiet after what it produced or fetched (KIP-13, KIP-546).
//!
//! Rates lie in the metadata store and are read again when a request finds them older than a second.
//! `entity` says which rate applies to whom, `bucket` what it allows. A client that went over its rate gets
//! its answer at once, with the time it is throttled for, and nothing more is read from its connection
//! until that has passed, as in Kafka. Not here: who sleeps (the listener).

mod bucket;
mod entity;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamhouse_metadata::model::quota::{ClientQuotas, QuotaKey};
use streamhouse_metadata::store::MetadataStore;
use tokio::time::Instant;

use bucket::Bucket;
use entity::Payer;

/// How old the rates may be.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Clients remembered; beyond it those that owe nothing are forgotten, and then everybody.
const BUCKETS_MAX: usize = 10_000;
/// No client is silenced for longer at once: what it owes beyond that it pays with the next request.
pub const THROTTLE_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    rates: Arc<ClientQuotas>,
    read_at: Option<Instant>,
    buckets: HashMap<(QuotaKey, Payer), Bucket>,
}

/// See the module's head. Shared by all connections of an agent.
pub struct Quotas {
    metadata: Arc<dyn MetadataStore>,
    state: Mutex<State>,
}

impl Quotas {
    pub fn new(metadata: Arc<dyn MetadataStore>) -> Self {
        Self {
            metadata,
            state: Mutex::default(),
        }
    }

    /// The rates were changed by this agent: the next request reads them.
    pub fn forget(&self) {
        self.state.lock().read_at = None;
    }

    /// Charges what a client produced or fetched; how long it is throttled for.
    pub async fn charge(&self, key: QuotaKey, user: &str, client_id: &str, bytes: usize) -> Duration {
        self.refresh().await;
        let mut state = self.state.lock();
        let Some((payer, rate)) = entity::payer(&state.rates, key, user, client_id) else {
            return Duration::ZERO;
        };
        let now = Instant::now();
        if state.buckets.len() >= BUCKETS_MAX && !state.buckets.contains_key(&(key, payer.clone())) {
            state.buckets.retain(|_, bucket| bucket.owes(now));
            if state.buckets.len() >= BUCKETS_MAX {
                state.buckets.clear();
            }
        }
        let bucket = state.buckets.entry((key, payer));
        let bucket = bucket.or_insert_with(|| Bucket::full(rate, now));
        bucket.spend(rate, bytes, now).min(THROTTLE_MAX)
    }

    /// A store that cannot be asked leaves the rates as they were.
    async fn refresh(&self) {
        let old = |read_at: Option<Instant>| read_at.is_none_or(|at| at.elapsed() >= AGE_MAX);
        {
            let mut state = self.state.lock();
            if !old(state.read_at) {
                return;
            }
            // Others go on with what is known while this request asks.
            state.read_at = Some(Instant::now());
        }
        match self.metadata.client_quotas().await {
            Ok(rates) => self.state.lock().rates = Arc::new(rates),
            Err(error) => tracing::debug!(%error, "quotas were not read"),
        }
    }
}
