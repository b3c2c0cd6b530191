//! Every metric of the process, one file per area, reachable from one [`Metrics`].
//!
//! `Metrics` is made once and handed to whoever counts; there are no global statics. Names, types,
//! labels and buckets are a public contract: a family is added only together with the code that
//! feeds it. A scrape may cost a little, an event may not: closed label sets are resolved here at
//! the start, topics and partitions when they are first seen.

mod api;
pub mod buckets;
mod cache;
mod clients;
mod cluster;
mod connections;
mod consumers;
mod cost;
mod fetch;
mod groups;
mod log_events;
mod metadata;
mod object_store;
mod partition;
mod process;
mod produce;
mod runtime;
mod tasks;
#[cfg(test)]
mod tests;
mod topic;
mod verify;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::registry::{Description, Gauge, Histogram, Kind, Registry, Sample, Topic};

pub use api::{ApiMetrics, ApiName, ApiOutcome};
pub use cache::{CacheMetrics, CacheResult};
pub use clients::{
    ClientGauge, ClientKind, ClientMetrics, ClientSample, ClientSoftware, ClientSource, ClientStatistic,
    PushResult,
};
pub use cluster::{ClusterSource, ClusterView, StoredBytes};
pub use connections::{ConnectionMetrics, RejectReason};
pub use consumers::{ConsumerErrorType, ConsumerMetrics};
pub use cost::{PriceError, RequestPrices};
pub use fetch::FetchMetrics;
pub use groups::{GROUP_STATES, GroupLag, GroupView};
pub use log_events::{LogEventMetrics, LogLevel};
pub use metadata::{MetadataErrorType, MetadataMetrics, MetadataOperation, MetadataOperationMetrics};
pub use object_store::{Direction, ObjectStoreMetrics, Operation, StoreErrorType};
pub use partition::PartitionWriteMetrics;
pub use produce::{BatchCount, ProduceMetrics, SealReason, Stage};
pub use tasks::{TaskMetrics, TaskName, TaskResult};
pub use topic::{FetchSource, ProducerErrorType, TopicMetrics};
pub use verify::{VerifyMetrics, VerifyResult};

/// How long one rendering serves the scrapes that come after it.
pub const RENDERING_AGE_MAX: Duration = Duration::from_millis(250);

/// What the metrics need to know of the process.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    /// Series a metric may have before topics are folded.
    pub series_max: usize,
    pub object_store_prices: RequestPrices,
    pub version: String,
    /// The source revision of the build; empty when it is not known.
    pub revision: String,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self {
            series_max: 50_000,
            object_store_prices: RequestPrices::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: String::new(),
        }
    }
}

/// All metrics. The public fields are handles to what exists from the start.
pub struct Metrics {
    pub object_store: ObjectStoreMetrics,
    pub cache: CacheMetrics,
    pub produce: ProduceMetrics,
    pub fetch: FetchMetrics,
    pub consumers: ConsumerMetrics,
    pub clients: ClientMetrics,
    pub connections: ConnectionMetrics,
    pub metadata: MetadataMetrics,
    pub log_events: LogEventMetrics,
    pub verify: VerifyMetrics,
    /// Bytes of orphans that the last sweep found and could not delete: shown with the cluster gauges.
    pub orphan_bytes: Gauge,
    topics: topic::TopicFamilies,
    partitions: partition::PartitionFamilies,
    apis: api::ApiFamilies,
    tasks: tasks::TaskFamilies,
    runtime: runtime::RuntimeFamilies,
    cluster: cluster::Cluster,
    registry: Registry,
    rendered: Mutex<Option<(Instant, Bytes)>>,
}

impl Metrics {
    #[must_use]
    pub fn new(options: MetricsOptions) -> Arc<Self> {
        let MetricsOptions {
            series_max,
            object_store_prices,
            version,
            revision,
        } = options;
        let registry = Registry::new(series_max);
        process::register(&registry, &version, &revision);
        Arc::new(Self {
            object_store: ObjectStoreMetrics::new(&registry, object_store_prices),
            cache: CacheMetrics::new(&registry),
            produce: ProduceMetrics::new(&registry),
            fetch: FetchMetrics::new(&registry),
            consumers: ConsumerMetrics::new(&registry),
            clients: ClientMetrics::new(&registry),
            connections: ConnectionMetrics::new(&registry),
            metadata: MetadataMetrics::new(&registry),
            log_events: LogEventMetrics::new(&registry),
            verify: VerifyMetrics::new(&registry),
            orphan_bytes: Gauge::default(),
            topics: topic::TopicFamilies::new(&registry),
            partitions: partition::PartitionFamilies::new(&registry),
            apis: api::ApiFamilies::new(&registry),
            tasks: tasks::TaskFamilies::new(&registry),
            runtime: runtime::RuntimeFamilies::new(&registry),
            cluster: cluster::Cluster::new(&registry),
            registry,
            rendered: Mutex::new(None),
        })
    }

    /// The handles of a topic that exists. A look-up: resolve once and keep them.
    #[must_use]
    pub fn topic(&self, name: &str) -> Arc<TopicMetrics> {
        self.topics.topic(name)
    }

    /// Where requests for topics that do not exist are counted: errors show under `~unknown`.
    #[must_use]
    pub fn unknown_topic(&self) -> Arc<TopicMetrics> {
        self.topics.unknown()
    }

    /// The writer's handles for one partition. A look-up: resolve once and keep them.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionWriteMetrics {
        self.partitions.partition(topic, partition)
    }

    /// One API by its protocol name. A look-up: resolve once and keep it.
    #[must_use]
    pub fn api(&self, name: &'static str) -> ApiMetrics {
        self.apis.api(ApiName(name))
    }

    /// One background task. A look-up: resolve once and keep it.
    #[must_use]
    pub fn task(&self, name: &'static str) -> TaskMetrics {
        self.tasks.task(TaskName(name))
    }

    /// Removes all series of a topic that was deleted here.
    pub fn forget_topic(&self, name: &str) {
        self.retain_topics(&|topic| topic != name);
    }

    /// Topics that have series. Asked before the store is asked which topics exist, it tells those that
    /// [`Self::retain_topics`] may judge by the answer from those that were created meanwhile.
    #[must_use]
    pub fn topic_names(&self) -> HashSet<String> {
        let mut names = self.topics.names();
        names.extend(self.registry.topics());
        names
    }

    /// Removes all series of topics that exist no more, wherever they were deleted.
    pub fn retain_topics(&self, exists: &dyn Fn(&str) -> bool) {
        let keep = |topic: &Topic| exists(topic.name());
        self.topics.retain(&keep);
        self.registry.retain_topics(&keep);
    }

    /// Removes all series of a group that was deleted here.
    pub fn forget_group(&self, name: &str) {
        self.retain_groups(&|group| group != name);
    }

    /// Removes all series of groups that exist no more, wherever they were deleted. As with topics, ask for
    /// [`ConsumerMetrics::names`] before the store is asked which groups exist.
    pub fn retain_groups(&self, exists: &dyn Fn(&str) -> bool) {
        self.consumers.retain(exists);
        self.registry.retain_groups(&|group| exists(group.name()));
    }

    /// A gauge without labels that is computed at each scrape. `name` is the full name; the same
    /// name again replaces the closure, which must not block.
    pub fn register_gauge_fn(
        &self,
        name: &'static str,
        help: &'static str,
        value: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.registry.computed(name, help, Kind::Gauge, &[], move || {
            vec![Sample {
                values: Vec::new(),
                value: value(),
            }]
        });
    }

    /// `flush_oldest_seconds`: the age of the oldest batch that waits to be flushed, 0 when none does.
    pub fn register_flush_oldest(&self, age: impl Fn() -> Duration + Send + Sync + 'static) {
        self.register_gauge_fn(
            "streamhouse_flush_oldest_seconds",
            "Age of the oldest batch not yet stored; 0 when there is none.",
            move || age().as_secs_f64(),
        );
    }

    /// What is remembered for clients that fetch incrementally: sessions, their partitions, and how many
    /// sessions were evicted since the start.
    pub fn register_fetch_sessions(
        &self,
        count: impl Fn() -> (usize, usize, u64) + Clone + Send + Sync + 'static,
    ) {
        let sessions = count.clone();
        self.register_gauge_fn(
            "streamhouse_fetch_sessions",
            "Incremental fetch sessions that are remembered.",
            move || sessions().0 as f64,
        );
        let partitions = count.clone();
        self.register_gauge_fn(
            "streamhouse_fetch_session_partitions",
            "Partitions of all incremental fetch sessions.",
            move || partitions().1 as f64,
        );
        self.registry.computed(
            "streamhouse_fetch_session_evictions_total",
            "Incremental fetch sessions that were evicted to make room for others.",
            Kind::Counter,
            &[],
            move || {
                vec![Sample {
                    values: Vec::new(),
                    value: count().2 as f64,
                }]
            },
        );
    }

    /// `inflight_bytes`: what producers' requests hold of the budget, those still being read included.
    pub fn register_inflight(&self, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
        self.register_gauge_fn(
            "streamhouse_inflight_bytes",
            "Bytes of produce requests that are being read or not yet answered.",
            move || bytes() as f64,
        );
    }

    /// `cache_size_bytes`: what the read cache holds; 0 until there is one.
    pub fn register_cache_size(&self, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
        cache::register_size(&self.registry, bytes);
    }

    /// A gauge with one label that is computed at each scrape. No samples, no family.
    pub(crate) fn register_labelled_gauge_fn(
        &self,
        name: &'static str,
        help: &'static str,
        keys: &'static [&'static str],
        samples: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        self.registry.computed(name, help, Kind::Gauge, keys, samples);
    }

    /// How late the runtime's timers come. Born when somebody measures it.
    pub(crate) fn runtime_stall_seconds(&self) -> Histogram {
        self.runtime.stall()
    }

    /// What tokio says of the runtime that does the work.
    pub fn watch_runtime(&self, runtime: &tokio::runtime::Handle) {
        runtime::watch(&self.registry, runtime);
    }

    /// The cluster gauges, set by hand; `None` makes them absent.
    pub fn set_cluster_view(&self, view: Option<ClusterView>) {
        self.cluster.set(view);
    }

    /// Whom [`Self::refresh_cluster_view`] asks. The source runs on the runtime this is called on.
    pub fn set_cluster_source(&self, source: Arc<dyn ClusterSource>) {
        self.cluster.set_source(source);
    }

    /// Before a scrape: takes a new snapshot if the last one is older than ten seconds. A source that
    /// fails or takes longer than two seconds makes the cluster gauges absent.
    pub async fn refresh_cluster_view(&self) {
        self.cluster.refresh().await;
    }

    /// Every family that is registered now, by name.
    #[must_use]
    pub fn describe(&self) -> Vec<Description> {
        self.registry.describe()
    }

    /// Everything as it is now, in Prometheus text 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.registry.render()
    }

    /// Everything, at most 250 ms old: scrapes that come together share one rendering.
    #[must_use]
    pub fn exposition(&self) -> Bytes {
        // Held while rendering, so that the others wait for this rendering instead of making theirs.
        let mut rendered = self.rendered.lock();
        if let Some((at, text)) = &*rendered
            && at.elapsed() < RENDERING_AGE_MAX
        {
            return text.clone();
        }
        let text = Bytes::from(self.render());
        *rendered = Some((Instant::now(), text.clone()));
        text
    }
}
