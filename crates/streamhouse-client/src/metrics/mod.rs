//! The nine producer and consumer metrics, as a client sees them.
//!
//! Names, types, labels and buckets are those of the server's series, so that the same queries answer; what
//! each counts is the client's own view (the help texts say it, and `docs/client.md`). They lie in a registry
//! of the program's, never in the server's: both together would count every record twice.
//!
//! One [`ClientMetrics`] serves every producer and consumer of a program. Hot paths hold handles; a topic's
//! series are born at zero before its first record leaves.

mod consumer;
mod error_type;
mod known;
mod producer;
#[cfg(feature = "prometheus")]
mod prometheus;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use streamhouse_observability::registry::{Kind, Registry, Sample, Topic};

#[cfg(feature = "prometheus")]
pub use self::prometheus::PrometheusCollector;
pub(crate) use consumer::GroupMetrics;
pub use error_type::{ConsumerErrorType, ProducerErrorType};
pub(crate) use producer::{ProducerMetrics, Topics};

/// How many label sets a metric of a registry made here may have before topics share series.
const SERIES_MAX: usize = 10_000;

/// Where producers and consumers count. Cloning shares it.
#[derive(Clone)]
pub struct ClientMetrics(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    producer: ProducerMetrics,
    consumer: consumer::ConsumerFamilies,
    lags: Arc<Mutex<Vec<Weak<dyn LagSource>>>>,
}

/// A consumer, asked at each scrape how far behind it is.
pub(crate) trait LagSource: Send + Sync {
    fn group(&self) -> &str;
    /// Topic, partition and lag of every partition it owns and knows the lag of; must not block.
    fn lags(&self) -> Vec<(Arc<str>, i32, u64)>;
}

impl ClientMetrics {
    /// Registers the families. Once per registry: a second time in the same one would be a second truth.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        let lags = Arc::new(Mutex::new(Vec::new()));
        register_lag(&registry, lags.clone());
        Self(Arc::new(Inner {
            producer: ProducerMetrics::new(&registry),
            consumer: consumer::ConsumerFamilies::new(&registry),
            lags,
            registry,
        }))
    }

    /// Everything in the registry, in Prometheus text 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.registry.render()
    }

    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    /// Removes every series of a topic that the program has done with.
    pub fn forget_topic(&self, name: &str) {
        self.0.producer.topics().forget(name);
        self.0
            .registry
            .retain_topics(&|topic: &Topic| topic.name() != name);
    }

    pub(crate) fn topics(&self) -> Arc<Topics> {
        self.0.producer.topics()
    }

    pub(crate) fn group(&self, group: &str) -> GroupMetrics {
        self.0.consumer.group(group)
    }

    /// Asks this consumer as well from now on, for as long as it lives.
    pub(crate) fn watch_lag(&self, source: Weak<dyn LagSource>) {
        let mut lags = self.0.lags.lock();
        lags.retain(|source| source.strong_count() > 0);
        lags.push(source);
    }
}

/// A registry of its own.
impl Default for ClientMetrics {
    fn default() -> Self {
        Self::new(Arc::new(Registry::new(SERIES_MAX)))
    }
}

/// Lag is computed when somebody looks: keeping it right at every record would cost each of them.
fn register_lag(registry: &Registry, sources: Arc<Mutex<Vec<Weak<dyn LagSource>>>>) {
    registry.computed(
        "streamhouse_consumer_lag",
        "Records between what this consumer has processed and the high watermark of its last fetch.",
        Kind::Gauge,
        &["topic", "partition", "consumer_group"],
        move || {
            let sources: Vec<_> = sources.lock().iter().filter_map(Weak::upgrade).collect();
            // While a partition moves between two consumers of one program both may know it: the later in the
            // list tells, since a series stands once.
            let mut lags = BTreeMap::new();
            for source in &sources {
                for (topic, partition, lag) in source.lags() {
                    lags.insert((topic, partition, source.group()), lag);
                }
            }
            lags.into_iter()
                .map(|((topic, partition, group), lag)| Sample {
                    values: vec![topic.to_string(), partition.to_string(), group.to_owned()],
                    value: lag as f64,
                })
                .collect()
        },
    );
}
