//! What the consumer and its thread both look at, and what a scrape does.

use std::sync::Arc;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};

use super::super::assignment::{Assignment, Slot};
use crate::config::Commits;
use crate::log;
use crate::metrics::LagSource;
use crate::native::{self, EventQueue};

/// What the consumer and its thread both look at.
pub(in crate::consumer) struct Shared {
    pub(in crate::consumer) base: BaseConsumer<Lines>,
    pub(in crate::consumer) assignment: Assignment,
    pub(in crate::consumer) group: Arc<str>,
    pub(in crate::consumer) commits: Commits,
}

impl Shared {
    /// Lets the thread look for orders.
    pub(in crate::consumer) fn wake(&self) {
        if let Some(queue) = EventQueue::consumer(self.base.client()) {
            queue.wake();
        }
    }
}

impl LagSource for Shared {
    fn group(&self) -> &str {
        &self.group
    }

    fn lags(&self) -> Vec<(Arc<str>, i32, u64)> {
        let lag = |slot: Arc<Slot>| {
            let position = slot.position()?;
            let high = native::high_watermark(self.base.client(), &slot.topic, slot.partition)?;
            let lag = u64::try_from(high - position).unwrap_or(0);
            Some((slot.topic.clone(), slot.partition, lag))
        };
        self.assignment.slots().into_iter().filter_map(lag).collect()
    }
}

/// librdkafka's log lines. Its events this crate takes itself.
pub(in crate::consumer) struct Lines;

impl ClientContext for Lines {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log::line(level as i32, facility, text);
    }
}

impl ConsumerContext for Lines {}
