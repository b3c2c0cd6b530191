//! What counting costs, for `benches/metrics.rs`: the metrics' part of a send, of a batch's report and of a
//! poll, as the hot paths call it, and nothing else of them.

use std::sync::Arc;
use std::time::Duration;

use crate::consumer::Slot;
use crate::metrics::{ClientMetrics, Topics};

/// One topic of one producer, and one partition of one consumer.
pub struct Counting {
    topics: Arc<Topics>,
    topic: String,
    slot: Arc<Slot>,
}

impl Counting {
    #[must_use]
    pub fn new(metrics: &ClientMetrics, topic: &str) -> Self {
        let slot = Slot::new(Arc::from(topic), 0, metrics.group("bench").topic(topic));
        Self {
            topics: metrics.topics(),
            topic: topic.to_owned(),
            slot,
        }
    }

    /// What a send adds: it sees to it that the topic has series.
    pub fn send(&self) {
        self.topics.meet(std::hint::black_box(&self.topic));
    }

    /// What the report on a batch adds. The thread of reports counts in a lane of its own, so claim one first.
    pub fn batch(&self, records: u64) {
        let topic = self.topics.get(std::hint::black_box(&self.topic));
        topic.acknowledged(records, records * 100, Some(Duration::from_micros(records)));
    }

    /// What handing out one record adds.
    pub fn poll(&self) {
        std::hint::black_box(&self.slot).handed_out();
    }
}
