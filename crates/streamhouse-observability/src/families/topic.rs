//! What is counted for each topic: produced records and their fate, fetched bytes.
//!
//! Resolved once per topic and held by whoever serves it. The producer series and every error type
//! that needs a request to a real topic are born at zero when the topic is first seen. A topic that
//! was forgotten is counted in cells nobody sees until its handle is resolved again, so a late
//! request cannot bring a deleted topic's series back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::buckets;
use super::produce::BatchCount;
use crate::registry::{Counter, Family, Histogram, Registry, Topic, closed_label};

closed_label! {
    /// Why a batch was refused. `AgentError` is every fault of ours, time-outs included.
    ProducerErrorType, "error_type" {
        AgentError = "agent_error",
        Invalid = "invalid",
        Corrupt = "corrupt",
        TooLarge = "too_large",
        UnknownTopic = "unknown_topic",
        Sequence = "sequence",
        Fenced = "fenced",
        Transaction = "transaction",
    }
}

impl ProducerErrorType {
    /// Whose fault it is, as `produce_batches_total` counts it.
    #[must_use]
    pub fn outcome(self) -> BatchCount {
        match self {
            ProducerErrorType::AgentError => BatchCount::ServerError,
            _ => BatchCount::ClientError,
        }
    }
}

closed_label! {
    /// Where fetched bytes came from.
    FetchSource, "source" {
        /// The writer's recent batches, never stored and read back.
        Tail = "tail",
        /// The read cache.
        Memory = "memory",
        /// A miss of the read cache: the object store, or the metadata store for an inline object.
        ObjectStore = "object_store",
    }
}

/// One topic's handles.
pub struct TopicMetrics {
    /// Records committed; duplicates and control batches do not count.
    pub records: Counter,
    /// Bytes of the same batches, as stored.
    pub bytes: Counter,
    /// One observation per request and topic, successes only: request read to acknowledgement written.
    pub latency: Histogram,
    /// Records of each acknowledged batch.
    pub batch_size: Histogram,
    errors: Vec<Counter>,
    fetch_bytes: Vec<Counter>,
    alive: AtomicBool,
}

impl TopicMetrics {
    /// One refused batch each.
    #[must_use]
    pub fn errors(&self, error_type: ProducerErrorType) -> &Counter {
        &self.errors[error_type as usize]
    }

    /// Bytes of record batches sent to consumers.
    #[must_use]
    pub fn fetch_bytes(&self, source: FetchSource) -> &Counter {
        &self.fetch_bytes[source as usize]
    }

    /// False once the topic was forgotten: resolve it again if it exists again.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}

pub(super) struct TopicFamilies {
    records: Family<(Topic,), Counter>,
    bytes: Family<(Topic,), Counter>,
    latency: Family<(Topic,), Histogram>,
    batch_size: Family<(Topic,), Histogram>,
    errors: Family<(Topic, ProducerErrorType), Counter>,
    fetch_bytes: Family<(Topic, FetchSource), Counter>,
    known: RwLock<HashMap<Topic, Arc<TopicMetrics>>>,
    unknown: Arc<TopicMetrics>,
}

impl TopicFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        let records = registry.family(
            "streamhouse_producer_records_total",
            "Records committed, each counted once; duplicates and control batches do not count.",
            (),
        );
        let bytes = registry.family(
            "streamhouse_producer_bytes_total",
            "Bytes of committed record batches, as stored.",
            (),
        );
        let latency = registry.family(
            "streamhouse_producer_latency_seconds",
            "Successful produce requests per topic, from request read to acknowledgement written.",
            &buckets::PRODUCER_LATENCY,
        );
        let batch_size = registry.family(
            "streamhouse_producer_batch_size",
            "Records of each acknowledged batch.",
            &buckets::PRODUCER_BATCH_SIZE,
        );
        let errors = registry.family(
            "streamhouse_producer_errors_total",
            "Batches refused, by reason; agent_error is every fault of the server, time-outs included.",
            (),
        );
        let fetch_bytes = registry.family(
            "streamhouse_fetch_bytes_total",
            "Bytes of record batches sent to consumers, by where they were read.",
            (),
        );
        let unknown = unknown_topic(&records, &latency, &batch_size, &errors);
        Self {
            records,
            bytes,
            latency,
            batch_size,
            errors,
            fetch_bytes,
            known: RwLock::new(HashMap::new()),
            unknown,
        }
    }

    pub(super) fn topic(&self, name: &str) -> Arc<TopicMetrics> {
        if let Some(metrics) = self.known.read().get(name) {
            return metrics.clone();
        }
        let mut known = self.known.write();
        if let Some(metrics) = known.get(name) {
            return metrics.clone();
        }
        let topic = Topic::new(name);
        let key = (topic.clone(),);
        let metrics = Arc::new(TopicMetrics {
            records: self.records.get(&key),
            bytes: self.bytes.get(&key),
            latency: self.latency.get(&key),
            batch_size: self.batch_size.get(&key),
            errors: ProducerErrorType::ALL
                .iter()
                .map(|error_type| self.errors.get(&(topic.clone(), *error_type)))
                .collect(),
            fetch_bytes: FetchSource::ALL
                .iter()
                .map(|source| self.fetch_bytes.get(&(topic.clone(), *source)))
                .collect(),
            alive: AtomicBool::new(true),
        });
        known.insert(topic, metrics.clone());
        metrics
    }

    pub(super) fn unknown(&self) -> Arc<TopicMetrics> {
        self.unknown.clone()
    }

    pub(super) fn names(&self) -> HashSet<String> {
        self.known
            .read()
            .keys()
            .map(|topic| topic.name().to_owned())
            .collect()
    }

    /// Forgets the handles; the series are the registry's to remove.
    pub(super) fn retain(&self, keep: &dyn Fn(&Topic) -> bool) {
        self.known.write().retain(|topic, metrics| {
            let stays = keep(topic);
            if !stays {
                metrics.alive.store(false, Ordering::Relaxed);
            }
            stays
        });
    }
}

/// A topic that does not exist has errors and nothing else; the rest is counted unseen.
fn unknown_topic(
    count: &Family<(Topic,), Counter>,
    latency: &Family<(Topic,), Histogram>,
    batch_size: &Family<(Topic,), Histogram>,
    errors: &Family<(Topic, ProducerErrorType), Counter>,
) -> Arc<TopicMetrics> {
    let topic = Topic::new(Topic::UNKNOWN);
    Arc::new(TopicMetrics {
        records: count.detached(),
        bytes: count.detached(),
        latency: latency.detached(),
        batch_size: batch_size.detached(),
        errors: ProducerErrorType::ALL
            .iter()
            .map(|error_type| errors.get(&(topic.clone(), *error_type)))
            .collect(),
        fetch_bytes: FetchSource::ALL.iter().map(|_| count.detached()).collect(),
        alive: AtomicBool::new(true),
    })
}
