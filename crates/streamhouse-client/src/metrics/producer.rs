//! What a producer counts, by topic.
//!
//! The send itself counts nothing: it only sees to it that its topic's series exist, by one look into what its
//! thread remembers (`known`). All counting happens where reports come in, once for each batch.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use streamhouse_observability::families::buckets;
use streamhouse_observability::registry::{Counter, Family, Histogram, Registry, Topic};

use super::error_type::ProducerErrorType;
use super::known::{Known, Remembered, Seen};

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
                known: Known::default(),
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

/// The topics that have series.
pub(crate) struct Topics {
    families: Families,
    known: Known<Arc<TopicMetrics>>,
}

thread_local! {
    static SEEN: RefCell<Option<Seen<Arc<TopicMetrics>>>> = const { RefCell::new(None) };
}

impl Remembered for Arc<TopicMetrics> {
    fn memory<R>(work: impl FnOnce(&RefCell<Option<Seen<Self>>>) -> R) -> Option<R> {
        SEEN.try_with(work).ok()
    }
}

impl Topics {
    /// Sees to it that the topic's series exist; they are born at zero.
    pub(crate) fn meet(&self, name: &str) {
        if !self.known.contains(name) {
            self.born(name);
        }
    }

    /// The handles of a topic.
    pub(crate) fn get(&self, name: &str) -> Arc<TopicMetrics> {
        self.known.get(name).unwrap_or_else(|| self.born(name))
    }

    #[cold]
    fn born(&self, name: &str) -> Arc<TopicMetrics> {
        self.known.get_or_insert(name, || {
            let topic = Topic::new(name);
            let key = (topic.clone(),);
            Arc::new(TopicMetrics {
                records: self.families.records.get(&key),
                bytes: self.families.bytes.get(&key),
                latency: self.families.latency.get(&key),
                batch_size: self.families.batch_size.get(&key),
                errors: ProducerErrorType::ALL
                    .iter()
                    .map(|error_type| self.families.errors.get(&(topic.clone(), *error_type)))
                    .collect(),
            })
        })
    }

    pub(super) fn forget(&self, name: &str) {
        self.known.remove(name);
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
