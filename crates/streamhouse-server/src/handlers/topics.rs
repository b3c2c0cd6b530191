//! Topics by name and by id, remembered for at most a second.
//!
//! The memory may only say yes (TRACES 2, 18): an unknown name, an unknown id and a partition beyond the
//! last one are looked up in the metadata store before anybody is refused. A topic's metric handles and
//! what its configuration asks of batches are resolved once and kept with it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::topic::{TimestampType, Topic, TopicConfig};
use streamhouse_metadata::store::{MetadataStore, StoreError};
use streamhouse_observability::Metrics;
use streamhouse_observability::families::{PartitionWriteMetrics, TopicMetrics};
use tokio::time::Instant;
use uuid::Uuid;

/// How old a yes may be.
const AGE_MAX: Duration = Duration::from_secs(1);

/// A topic with all that a request needs of it.
pub struct KnownTopic {
    pub topic: Topic,
    pub metrics: Arc<TopicMetrics>,
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie behind and ahead of the clock, milliseconds.
    pub timestamp_before_after_max_ms: (i64, i64),
    /// Largest record batch, bytes.
    pub message_bytes_max: u32,
    partitions: Vec<OnceLock<PartitionWriteMetrics>>,
    seen_at: Instant,
}

impl KnownTopic {
    /// `None` when the topic has no such partition.
    pub fn partition(&self, index: i32) -> Option<TopicPartition> {
        (0..self.topic.partitions)
            .contains(&index)
            .then_some(TopicPartition {
                topic: self.topic.id,
                partition: index,
            })
    }

    /// The writer's handles for a partition, born when it first buffers.
    pub fn write_metrics(&self, metrics: &Metrics, index: i32) -> PartitionWriteMetrics {
        let make = || metrics.partition(&self.topic.name, index);
        match usize::try_from(index)
            .ok()
            .and_then(|index| self.partitions.get(index))
        {
            Some(cell) => cell.get_or_init(make).clone(),
            None => make(),
        }
    }
}

/// Bounds of one record batch, bytes.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// Of topics that say nothing.
    pub default: u32,
    /// Above it no topic can go: the writer could not hold the batch.
    pub ceiling: u32,
}

impl MessageLimits {
    /// The topic's own limit where it has one, as in Kafka, but never above the ceiling.
    fn of(self, config: &TopicConfig) -> u32 {
        let own = config.entries.contains_key("max.message.bytes");
        let limit = if own {
            config.max_message_bytes()
        } else {
            self.default
        };
        limit.min(self.ceiling)
    }
}

/// How a request names a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicKey {
    Name(String),
    Id(Uuid),
}

#[derive(Default)]
struct Memory {
    by_name: HashMap<String, Arc<KnownTopic>>,
    by_id: HashMap<TopicId, Arc<KnownTopic>>,
}

impl Memory {
    fn get(&self, key: &TopicKey) -> Option<&Arc<KnownTopic>> {
        match key {
            TopicKey::Name(name) => self.by_name.get(name),
            TopicKey::Id(id) => self.by_id.get(&TopicId(*id)),
        }
    }
}

/// See the module's head.
pub struct Topics {
    metadata: Arc<dyn MetadataStore>,
    metrics: Arc<Metrics>,
    limits: MessageLimits,
    memory: RwLock<Memory>,
}

impl Topics {
    pub fn new(metadata: Arc<dyn MetadataStore>, metrics: Arc<Metrics>, limits: MessageLimits) -> Self {
        Self {
            metadata,
            metrics,
            limits,
            memory: RwLock::default(),
        }
    }

    /// What the memory knows of a topic, if it is young enough.
    pub fn remembered(&self, key: &TopicKey) -> Option<Arc<KnownTopic>> {
        let memory = self.memory.read();
        memory
            .get(key)
            .filter(|known| known.seen_at.elapsed() < AGE_MAX)
            .cloned()
    }

    /// Answers in the order asked; what the memory does not know is read from the store in one go.
    pub async fn resolve(&self, keys: &[TopicKey]) -> Result<Vec<Option<Arc<KnownTopic>>>, StoreError> {
        let mut found: Vec<_> = keys.iter().map(|key| self.remembered(key)).collect();
        let missing: Vec<usize> = (0..keys.len()).filter(|at| found[*at].is_none()).collect();
        if !missing.is_empty() {
            let asked: Vec<_> = missing.iter().map(|at| keys[*at].clone()).collect();
            for (at, known) in missing.into_iter().zip(self.read(&asked).await?) {
                found[at] = known;
            }
        }
        Ok(found)
    }

    /// The same, but read from the store in any case: before a no, and after a change.
    pub async fn read(&self, keys: &[TopicKey]) -> Result<Vec<Option<Arc<KnownTopic>>>, StoreError> {
        let began = Instant::now();
        let mut names = Vec::new();
        let mut ids = Vec::new();
        for key in keys {
            match key {
                TopicKey::Name(name) => names.push(name.clone()),
                TopicKey::Id(id) => ids.push(TopicId(*id)),
            }
        }
        let mut by_name = if names.is_empty() {
            Vec::new()
        } else {
            self.metadata.topics_by_name(&names).await?
        }
        .into_iter();
        let mut by_id = if ids.is_empty() {
            Vec::new()
        } else {
            self.metadata.topics_by_id(&ids).await?
        }
        .into_iter();
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            let topic = match key {
                TopicKey::Name(_) => by_name.next().flatten(),
                TopicKey::Id(_) => by_id.next().flatten(),
            };
            match topic {
                Some(topic) => answers.push(Some(self.remember(topic, began))),
                None => {
                    self.forget(key);
                    answers.push(None);
                }
            }
        }
        Ok(answers)
    }

    /// Keeps what the store said at `seen_at`, with the handles resolved before where it is the same
    /// topic.
    pub fn remember(&self, topic: Topic, seen_at: Instant) -> Arc<KnownTopic> {
        let mut memory = self.memory.write();
        // Handles of series that were removed count where nobody looks: all of them are resolved again.
        let before = memory.by_id.get(&topic.id).cloned();
        let before = before.filter(|known| known.metrics.is_alive());
        let metrics = match &before {
            Some(known) => known.metrics.clone(),
            None => self.metrics.topic(&topic.name),
        };
        let partitions = (0..usize::try_from(topic.partitions).unwrap_or(0))
            .map(|index| match &before {
                Some(known) => known.partitions.get(index).cloned().unwrap_or_default(),
                None => OnceLock::new(),
            })
            .collect();
        let known = Arc::new(KnownTopic {
            metrics,
            timestamp_type: topic.config.timestamp_type(),
            timestamp_before_after_max_ms: topic.config.timestamp_before_after_max_ms(),
            message_bytes_max: self.limits.of(&topic.config),
            partitions,
            seen_at,
            topic,
        });
        memory.by_id.insert(known.topic.id, known.clone());
        memory.by_name.insert(known.topic.name.clone(), known.clone());
        known
    }

    /// Forgets a topic: it was found to be gone.
    pub fn forget(&self, key: &TopicKey) {
        let mut memory = self.memory.write();
        let Some(known) = memory.get(key).cloned() else {
            return;
        };
        memory.by_id.remove(&known.topic.id);
        // The name may belong to a newer topic by now.
        if memory
            .by_name
            .get(&known.topic.name)
            .is_some_and(|now| now.topic.id == known.topic.id)
        {
            memory.by_name.remove(&known.topic.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use streamhouse_metadata::model::topic::{NewTopic, TopicLimits};
    use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
    use streamhouse_observability::MetricsOptions;

    use super::*;

    #[test]
    fn a_topics_message_limit_replaces_the_default_below_the_ceiling() {
        let limits = MessageLimits {
            default: 1000,
            ceiling: 8000,
        };
        for (own, expected) in [("500", 500), ("5000", 5000), ("50000", 8000)] {
            let mut config = TopicConfig::default();
            config.set("max.message.bytes", own).unwrap();
            assert_eq!(limits.of(&config), expected);
        }
        assert_eq!(limits.of(&TopicConfig::default()), 1000);
    }

    #[tokio::test]
    async fn a_topic_whose_series_were_removed_counts_again_where_it_is_seen() {
        let metadata = Arc::new(SqliteStore::open(SqliteOptions::new(Location::Memory)).unwrap());
        let metrics = Metrics::new(MetricsOptions::default());
        let limits = MessageLimits {
            default: 1000,
            ceiling: 8000,
        };
        let topics = Topics::new(metadata.clone(), metrics.clone(), limits);
        let topic = NewTopic {
            name: "orders".to_owned(),
            partitions: 1,
            config: TopicConfig::default(),
        };
        let topic_limits = TopicLimits {
            topics_max: 1,
            partitions_max: 1,
        };
        metadata.create_topic(topic, topic_limits).await.unwrap();
        let name = [TopicKey::Name("orders".to_owned())];
        let read = async || topics.read(&name).await.unwrap().remove(0).unwrap();
        let count = |known: &KnownTopic| {
            known.metrics.records.inc();
            known.write_metrics(&metrics, 0).segment_writes.inc();
        };
        count(&*read().await);
        metrics.retain_topics(&|_| false);
        count(&*read().await);
        let text = metrics.render();
        for series in [
            "producer_records_total{topic=\"orders\"} 1\n",
            "segment_writes_total{topic=\"orders\",partition=\"0\"} 1\n",
        ] {
            assert!(text.contains(series), "{series}{text}");
        }
    }
}
