//! What clients push of their own metrics (KIP-714): who is asked for what, who may push now, and what all
//! of them said last.
//!
//! Subscriptions lie in the metadata store, as client metrics resources, and are read again when a request
//! finds them older than a second. Which of them meet a client is worked out at each request, so a change
//! reaches clients with their next push. Clients are remembered by their instance id, a bounded number of
//! them; one that this agent does not know any more is as good as new, and its push is taken. `instance` is
//! the pure part, `payload` and `otlp` read what is pushed, `standard` says what of it is shown.
//!
//! Not here: names of families and how they are summed over agents (`streamhouse_observability::families`).

mod instance;
mod otlp;
mod payload;
mod standard;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamhouse_metadata::model::client_metrics::Subscription;
use streamhouse_metadata::store::MetadataStore;
use streamhouse_observability::Metrics;
use streamhouse_observability::families::{
    ClientGauge, ClientKind, ClientSample, ClientSoftware, ClientSource, PushResult,
};
use tokio::time::Instant;
use uuid::Uuid;

use instance::Instance;
pub use subscription::Asked;

/// How old the subscriptions may be.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Clients remembered; beyond it the one that has been silent for longest goes.
const INSTANCES_MAX: usize = 10_000;
/// The largest push, before and after decompression: Kafka's default of `telemetry.max.bytes`.
pub const PUSH_BYTES_MAX: u32 = 1 << 20;
/// Codecs in the order in which clients should prefer them, as Kafka's brokers list them: zstd, lz4, gzip, snappy.
pub const COMPRESSION_TYPES: [i8; 4] = [4, 3, 1, 2];
/// Names and versions that are longer are not remembered.
const SOFTWARE_BYTES_MAX: usize = 256;

/// Which library a connection's client says that it is (KIP-511).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Software {
    name: Arc<str>,
    version: Arc<str>,
}

impl Default for Software {
    fn default() -> Self {
        Self::new("unknown", "unknown")
    }
}

impl Software {
    pub fn new(name: &str, version: &str) -> Self {
        let kept = |text: &str| {
            Arc::from(if text.len() > SOFTWARE_BYTES_MAX {
                "unknown"
            } else {
                text
            })
        };
        Self {
            name: kept(name),
            version: kept(version),
        }
    }
}

/// Of one connection: told by ApiVersions, read by what comes after.
pub type ConnectionSoftware = Arc<Mutex<Software>>;

/// Which client asks or pushes.
#[derive(Clone, Debug)]
pub struct Asker {
    pub instance: Uuid,
    pub client_id: String,
    pub software: Software,
    pub address: SocketAddr,
}

/// Why a client is not told, or its push not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryFault {
    #[error("the client instance id is none")]
    InstanceId,
    #[error("the client has said that its last push was its last")]
    Terminated,
    #[error("the client's push interval has not passed")]
    TooEarly,
    #[error("the client's subscription is another one now")]
    UnknownSubscription,
    #[error("compression type {0} is not supported")]
    Compression(i8),
    #[error("a push may have {PUSH_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the push holds no metrics that can be read")]
    Malformed,
}

/// One push.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    pub subscription: i32,
    pub terminating: bool,
    pub compression: i8,
    pub payload: &'a [u8],
}

#[derive(Default)]
struct State {
    subscriptions: Arc<Vec<Subscription>>,
    /// None: they have to be read before anybody is told anything.
    read_at: Option<Instant>,
    /// How often they were changed by this agent: what was read before that is none of the newest.
    changes: u64,
    instances: HashMap<Uuid, Instance>,
}

/// See the module's head. Shared by all connections of an agent.
pub struct ClientTelemetry {
    metadata: Arc<dyn MetadataStore>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Held by who reads while nothing is known that others could go on with.
    reading: tokio::sync::Mutex<()>,
}

impl ClientTelemetry {
    pub fn new(metadata: Arc<dyn MetadataStore>, metrics: Arc<Metrics>) -> Self {
        Self {
            metadata,
            metrics,
            state: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    /// The subscriptions were changed by this agent: the next request reads them.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        state.read_at = None;
        state.changes += 1;
    }

    /// What a client is asked to push.
    pub async fn ask(&self, asker: &Asker) -> Result<Asked, TelemetryFault> {
        let subscriptions = self.subscriptions().await;
        let asked = subscription::asked(&subscriptions, asker);
        let now = Instant::now();
        let mut state = self.state.lock();
        state.instance(asker, &asked, now).get(&asked, now)?;
        Ok(asked)
    }

    /// Takes a push and adds it to what is shown.
    pub async fn push(&self, asker: &Asker, push: Push<'_>) -> Result<(), TelemetryFault> {
        let taken = self.take(asker, push).await;
        let result = match taken {
            Ok(()) => PushResult::Ok,
            Err(TelemetryFault::TooEarly) => PushResult::TooEarly,
            Err(TelemetryFault::UnknownSubscription) => PushResult::UnknownSubscription,
            Err(TelemetryFault::Compression(_)) => PushResult::UnsupportedCompression,
            Err(TelemetryFault::TooLarge) => PushResult::TooLarge,
            Err(TelemetryFault::InstanceId | TelemetryFault::Terminated | TelemetryFault::Malformed) => {
                PushResult::Invalid
            }
        };
        self.metrics.clients.pushes(result).inc();
        taken
    }

    async fn take(&self, asker: &Asker, push: Push<'_>) -> Result<(), TelemetryFault> {
        // Kafka reserves the first two ids.
        if asker.instance.as_u128() <= 1 {
            return Err(TelemetryFault::InstanceId);
        }
        let subscriptions = self.subscriptions().await;
        let asked = subscription::asked(&subscriptions, asker);
        let now = Instant::now();
        let admitted = {
            let mut state = self.state.lock();
            state.instance(asker, &asked, now).push(&asked, push, now)
        };
        admitted?;
        if push.payload.is_empty() {
            return Ok(());
        }
        let pushed = payload::decompress(push).and_then(|payload| otlp::read(&payload))?;
        self.metrics.clients.ignored.add(pushed.ignored);
        let mut state = self.state.lock();
        let instance = state.instance(asker, &asked, now);
        instance.apply(
            &pushed,
            ClientSoftware::named(&asker.software.name),
            &self.metrics.clients,
        );
        Ok(())
    }

    /// A store that cannot be asked leaves the subscriptions as they were.
    async fn subscriptions(&self) -> Arc<Vec<Subscription>> {
        if let Some(fresh) = self.state.lock().fresh() {
            return fresh;
        }
        let known = {
            let mut state = self.state.lock();
            // Others go on with what is known while this request asks.
            state.read_at.as_mut().map(|at| *at = Instant::now()).is_some()
        };
        let _turn = match known {
            true => None,
            false => Some(self.reading.lock().await),
        };
        if !known && let Some(fresh) = self.state.lock().fresh() {
            return fresh;
        }
        let changes = self.state.lock().changes;
        let read = match self.metadata.client_metrics().await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "client metrics subscriptions were not read");
                // The next to ask is a second away: those who wait do not all find out for themselves.
                let mut state = self.state.lock();
                state.read_at = Some(Instant::now());
                return state.subscriptions.clone();
            }
        };
        // What is stored was checked; one that a newer agent understands and this does not is passed over.
        let parsed = read
            .values()
            .filter_map(|entries| Subscription::parse(entries).ok());
        let parsed = Arc::new(parsed.collect::<Vec<_>>());
        let mut state = self.state.lock();
        if state.changes == changes {
            state.subscriptions = parsed.clone();
            state.read_at = Some(Instant::now());
        }
        parsed
    }
}

impl State {
    /// The subscriptions, if they were read not long ago.
    fn fresh(&self) -> Option<Arc<Vec<Subscription>>> {
        let fresh = self.read_at.is_some_and(|at| at.elapsed() < AGE_MAX);
        fresh.then(|| self.subscriptions.clone())
    }

    /// The client, remembered anew if it was not known; room is made for it.
    fn instance(&mut self, asker: &Asker, asked: &Asked, now: Instant) -> &mut Instance {
        if !self.instances.contains_key(&asker.instance) && self.instances.len() >= INSTANCES_MAX {
            self.instances.retain(|_, instance| !instance.is_gone(now));
            let silent = self.instances.iter().min_by_key(|(_, instance)| instance.seen());
            if let Some(silent) = silent
                .map(|(id, _)| *id)
                .filter(|_| self.instances.len() >= INSTANCES_MAX)
            {
                self.instances.remove(&silent);
            }
        }
        let instance = self.instances.entry(asker.instance).or_default();
        instance.meet(asked, now);
        instance
    }

    fn shown(&self, now: Instant) -> impl Iterator<Item = (ClientKind, ClientSoftware, &Instance)> {
        self.instances.values().filter_map(move |instance| {
            let (kind, software) = instance.shown(now)?;
            Some((kind, software, instance))
        })
    }
}

impl ClientSource for ClientTelemetry {
    fn clients(&self) -> Vec<(ClientKind, ClientSoftware, usize)> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.instances.retain(|_, instance| !instance.is_gone(now));
        let mut counts = std::collections::BTreeMap::new();
        for (kind, software, _) in state.shown(now) {
            *counts.entry((kind, software)).or_default() += 1;
        }
        let counts = counts.into_iter();
        counts
            .map(|((kind, software), count)| (kind, software, count))
            .collect()
    }

    fn gauge(&self, gauge: ClientGauge) -> Vec<ClientSample> {
        let now = Instant::now();
        let state = self.state.lock();
        let values = state.shown(now).flat_map(|(kind, software, instance)| {
            let values = instance.gauge(gauge);
            values.map(move |(statistic, value)| ((kind, software, statistic), value))
        });
        standard::summed(values)
    }
}
