//! What both kinds of producer are made of: librdkafka's producer, the room in its queue, its reports' thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header as WireHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig};
use tokio::sync::Semaphore;
use tracing::Instrument;

use super::builder::TraceHook;
use super::delivery::{Delivery, Pending, SendError};
use super::reports::{self, Reports};
use super::{FlushError, reports::fate_of_a_refusal};
use crate::config::{ConfigError, ProducerSettings};
use crate::metrics::{ClientMetrics, ProducerErrorType, Topics};
use crate::native;
use crate::record::{Header, Record};
use crate::trace;

/// How long the thread of reports may take to answer what was given up.
const GIVEN_UP_LIMIT: Duration = Duration::from_secs(1);

pub(crate) struct Core {
    base: Arc<BaseProducer<Reports>>,
    room: Arc<Semaphore>,
    /// Each record that has no answer yet holds a share of it. (librdkafka's own count holds events as well.)
    unanswered: Arc<()>,
    record_bytes_max: usize,
    queue_bytes_max: usize,
    topics: Arc<Topics>,
    metrics: ClientMetrics,
    trace: Option<TraceHook>,
    stop: Arc<AtomicBool>,
}

impl Core {
    pub(super) fn start(
        config: &ClientConfig,
        settings: &ProducerSettings,
        metrics: ClientMetrics,
        trace: Option<TraceHook>,
    ) -> Result<Arc<Self>, ConfigError> {
        let topics = metrics.topics();
        let base: BaseProducer<Reports> = config
            .create_with_context(Reports::new(topics.clone()))
            .map_err(|error| ConfigError::refused(&error))?;
        let base = Arc::new(base);
        let stop = Arc::new(AtomicBool::new(false));
        reports::spawn(base.clone(), stop.clone()).map_err(|error| ConfigError::Refused {
            reason: error.to_string(),
        })?;
        Ok(Arc::new(Self {
            base,
            room: Arc::new(Semaphore::new(settings.queue_bytes_max)),
            unanswered: Arc::new(()),
            record_bytes_max: settings.record_bytes_max,
            queue_bytes_max: settings.queue_bytes_max,
            topics,
            metrics,
            trace,
            stop,
        }))
    }

    pub(crate) fn base(&self) -> &BaseProducer<Reports> {
        &self.base
    }

    pub(crate) fn metrics(&self) -> &ClientMetrics {
        &self.metrics
    }

    pub(super) fn queued_bytes(&self) -> (usize, usize) {
        let free = self.room.available_permits();
        (self.queue_bytes_max.saturating_sub(free), self.queue_bytes_max)
    }

    pub(crate) async fn enqueue(&self, record: Record) -> Result<Delivery, SendError> {
        let span = tracing::debug_span!("send", topic = %record.topic);
        self.admit(record).instrument(span).await
    }

    async fn admit(&self, record: Record) -> Result<Delivery, SendError> {
        self.topics.meet(&record.topic);
        let bytes = record.queued_bytes();
        let too_large = record.value_and_key_bytes() > self.record_bytes_max;
        // What takes more than the whole queue (headers may) would wait for ever.
        if too_large || bytes > self.queue_bytes_max {
            self.topics.get(&record.topic).failed(ProducerErrorType::TooLarge);
            return Err(SendError::TooLarge {
                bytes: record.value_and_key_bytes(),
                bytes_max: self.record_bytes_max,
                topic: record.topic,
            });
        }
        let room = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().acquire_many_owned(room).await else {
            return Err(SendError::Closed { topic: record.topic });
        };
        let (pending, delivery) = Pending::new(record.topic.clone(), room, self.unanswered.clone());
        self.hand_over(record, pending)?;
        Ok(delivery)
    }

    /// Gives the record to librdkafka, which copies it.
    fn hand_over(&self, mut record: Record, pending: Pending) -> Result<(), SendError> {
        let context = record
            .trace
            .take()
            .or_else(|| self.trace.as_ref().and_then(|hook| hook()));
        if let Some(context) = context {
            trace::into_headers(&context, &mut record.headers);
        }
        let mut message = BaseRecord::with_opaque_to(&record.topic, Box::new(pending));
        message.partition = record.partition;
        message.timestamp = record.timestamp_ms;
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        message.headers = wire_headers(&record.headers);
        let Err((error, message)) = self.base.send(message) else {
            return Ok(());
        };
        let topic = message.delivery_opaque.topic().clone();
        let (error_type, error) = fate_of_a_refusal(topic, record.partition, (&error).into());
        self.topics.get(&record.topic).failed(error_type);
        Err(error)
    }

    pub(crate) async fn flush(&self, limit: Duration) -> Result<(), FlushError> {
        let base = self.base.clone();
        let flushed = tokio::task::spawn_blocking(move || native::flush(base.client(), limit)).await;
        if flushed.unwrap_or(false) {
            Ok(())
        } else {
            Err(self.left())
        }
    }

    fn left(&self) -> FlushError {
        FlushError {
            left: Arc::strong_count(&self.unanswered) - 1,
        }
    }

    /// Takes nothing more, whoever has a clone.
    pub(crate) fn refuse(&self) {
        self.room.close();
    }

    pub(crate) async fn close(&self, limit: Duration) -> Result<(), FlushError> {
        self.refuse();
        let flushed = self.flush(limit).await;
        if flushed.is_err() {
            self.base.purge(PurgeConfig::default().queue().inflight());
            let _ = self.flush(GIVEN_UP_LIMIT).await;
        }
        flushed
    }

    /// The same from a thread that may block.
    pub(crate) fn flush_blocking(&self, until: Instant) -> bool {
        let limit = until.saturating_duration_since(Instant::now());
        native::flush(self.base.client(), limit)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let left = self.left().left;
        if left > 0 {
            tracing::warn!(
                left,
                "producer dropped without close: records that are not sent are given up"
            );
        }
        self.stop.store(true, Ordering::Release);
        reports::wake(&self.base);
    }
}

fn wire_headers(headers: &[Header]) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let wire = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(wire, |wire, header| {
        wire.insert(WireHeader {
            key: &header.name,
            value: header.value.as_deref(),
        })
    }))
}
