//! What a producer counts, by topic.
//!
//! The send itself counts nothing: it only sees to it that its topic's series exist, by one look into a map
//! that no lock guards. All counting happens where reports come in, once for each batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use streamhouse_observability::families::buckets;
use streamhouse_observability::registry::{Counter, Family, Histogram, Registry, Topic};

use super::error_type::ProducerErrorType;

pub(crate) struct ProducerMetrics {
    topics: Arc<Topics>,
}

impl ProducerMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            topics: Arc::new(Topics {
                families: Families {
                    records: registry.family(
                        "streamhouse_producer_records_total",
                        "Records that were acknowledged to this producer.",
                        (),
                    ),
                    bytes: registry.family(
                        "streamhouse_producer_bytes_total",
                        "Bytes of the keys and values of acknowledged records, before compression.",
                        (),
                    ),
                    latency: registry.family(
                        "streamhouse_producer_latency_seconds",
                        "Acknowledged batches, from the send of their first record to its report.",
                        &buckets::PRODUCER_LATENCY,
                    ),
                    batch_size: registry.family(
                        "streamhouse_producer_batch_size",
                        "Records of each acknowledged batch.",
                        &buckets::PRODUCER_BATCH_SIZE,
                    ),
                    errors: registry.family(
                        "streamhouse_producer_errors_total",
                        "Records that were not acknowledged, by reason.",
                        (),
                    ),
                },
                known: ArcSwap::default(),
                births: Mutex::new(()),
            }),
        }
    }

    pub(super) fn topics(&self) -> Arc<Topics> {
        self.topics.clone()
    }
}

struct Families {
    records: Family<(Topic,), Counter>,
    bytes: Family<(Topic,), Counter>,
    latency: Family<(Topic,), Histogram>,
    batch_size: Family<(Topic,), Histogram>,
    errors: Family<(Topic, ProducerErrorType), Counter>,
}

/// Hashed fast: every send looks once, and the names are the program's own.
type Known = HashMap<Box<str>, Arc<TopicMetrics>, RandomState>;

/// The topics that have series. Copied when one is born, so that nobody waits for a look.
pub(crate) struct Topics {
    families: Families,
    known: ArcSwap<Known>,
    births: Mutex<()>,
}

impl Topics {
    /// Sees to it that the topic's series exist; they are born at zero.
    pub(crate) fn meet(&self, name: &str) {
        if !self.known.load().contains_key(name) {
            self.born(name);
        }
    }

    /// The handles of a topic.
    pub(crate) fn get(&self, name: &str) -> Arc<TopicMetrics> {
        match self.known.load().get(name) {
            Some(topic) => topic.clone(),
            None => self.born(name),
        }
    }

    #[cold]
    fn born(&self, name: &str) -> Arc<TopicMetrics> {
        let _one_at_a_time = self.births.lock();
        let known = self.known.load_full();
        if let Some(topic) = known.get(name) {
            return topic.clone();
        }
        let topic = Topic::new(name);
        let key = (topic.clone(),);
        let metrics = Arc::new(TopicMetrics {
            records: self.families.records.get(&key),
            bytes: self.families.bytes.get(&key),
            latency: self.families.latency.get(&key),
            batch_size: self.families.batch_size.get(&key),
            errors: ProducerErrorType::ALL
                .iter()
                .map(|error_type| self.families.errors.get(&(topic.clone(), *error_type)))
                .collect(),
        });
        let mut grown = HashMap::clone(&known);
        grown.insert(name.into(), metrics.clone());
        self.known.store(Arc::new(grown));
        metrics
    }

    pub(super) fn forget(&self, name: &str) {
        let _one_at_a_time = self.births.lock();
        let mut fewer = HashMap::clone(&self.known.load());
        if fewer.remove(name).is_some() {
            self.known.store(Arc::new(fewer));
        }
    }
}

/// One topic's handles.
pub(crate) struct TopicMetrics {
    records: Counter,
    bytes: Counter,
    latency: Histogram,
    batch_size: Histogram,
    errors: Vec<Counter>,
}

impl TopicMetrics {
    /// One batch was acknowledged. `latency` is that of its first record, which waited longest.
    pub(crate) fn acknowledged(&self, records: u64, bytes: u64, latency: Option<Duration>) {
        self.records.add(records);
        self.bytes.add(bytes);
        self.batch_size.observe_value(records);
        if let Some(latency) = latency {
            self.latency.observe(latency);
        }
    }

    pub(crate) fn failed(&self, error_type: ProducerErrorType) {
        self.errors[error_type as usize].inc();
    }
}
