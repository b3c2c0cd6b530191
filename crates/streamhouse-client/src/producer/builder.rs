//! A producer's settings, one method each.

use std::sync::Arc;
use std::time::Duration;

use super::Producer;
use super::core::Core;
use crate::config::{Acks, Compression, ConfigError, ProducerSettings};
use crate::metrics::ClientMetrics;
use crate::trace::TraceContext;
use crate::transaction::{TransactionError, TransactionalProducer};

/// Asked at every send which trace the record belongs to; called inside the span `send`, so that the current
/// span is the one that sends.
pub type TraceHook = Arc<dyn Fn() -> Option<TraceContext> + Send + Sync>;

/// Made by [`Producer::builder`].
#[derive(Clone, Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct ProducerBuilder {
    settings: ProducerSettings,
    metrics: Option<ClientMetrics>,
    trace: Option<TraceHook>,
}

impl ProducerBuilder {
    /// `host:port`, several with commas. Required.
    pub fn bootstrap(mut self, servers: impl Into<String>) -> Self {
        self.settings.common.bootstrap = servers.into();
        self
    }

    /// What the broker's logs and quotas know this program as.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.settings.common.client_id = Some(client_id.into());
        self
    }

    /// Whose word acknowledges a record; all by default.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// Whether a retry is recognised by the broker, so that it neither doubles nor reorders; true by default.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.settings.idempotent = idempotent;
        self
    }

    /// How long a record may wait for others to share its batch; 5 ms by default.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// Bytes of a batch at which it leaves without waiting; 1,000,000 by default.
    pub fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes_max = bytes;
        self
    }

    /// Bytes of the largest record that is accepted; 1,000,000 by default. The broker has a limit of its own.
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.record_bytes_max = bytes;
        self
    }

    /// Bytes that may wait for their acknowledgement; 64 MiB by default. Beyond it sends wait.
    pub fn queue_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.queue_bytes_max = bytes;
        self
    }

    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// How long a record may take from the send to its acknowledgement, retries included; 120 s by default.
    /// In a transaction it is at most the transaction's timeout.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// How long the broker may take for one request; 30 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// After how long the broker aborts a transaction that nobody ended; 60 s by default.
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.settings.transaction_timeout = timeout;
        self
    }

    /// Anything else, under librdkafka's name (its `CONFIGURATION.md`); for TLS the program enables the
    /// feature `ssl` of the crate `rdkafka`. What this crate sets itself is refused.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.common.properties.insert(key.into(), value.into());
        self
    }

    /// Where to count; a registry of its own by default.
    pub fn metrics(mut self, metrics: &ClientMetrics) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Asked at every send for the trace that the record belongs to.
    pub fn trace(mut self, hook: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        self.trace = Some(Arc::new(hook));
        self
    }

    /// Whether the settings hold together, without making anything of them.
    ///
    /// # Errors
    /// The first contradiction, by the names of the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.settings.validate(None).map(drop)
    }

    /// The producer. Nothing is connected yet: a broker that cannot be reached shows at the first send.
    ///
    /// # Errors
    /// Settings that contradict each other, or that librdkafka refuses.
    pub fn build(self) -> Result<Producer, ConfigError> {
        let config = self.settings.validate(None)?;
        Ok(Producer::new(self.start(&config)?))
    }

    /// A producer whose records all belong to transactions. It takes the transactional id over from whoever
    /// had it, and aborts what that one left open; so it waits for the broker, at most this long.
    ///
    /// # Errors
    /// Settings that contradict each other; a broker that refuses or does not answer.
    pub async fn build_transactional(
        self,
        transactional_id: &str,
        limit: Duration,
    ) -> Result<TransactionalProducer, TransactionError> {
        let config = self.settings.validate(Some(transactional_id))?;
        let core = self.start(&config)?;
        TransactionalProducer::start(core, transactional_id, limit).await
    }

    fn start(self, config: &rdkafka::ClientConfig) -> Result<Arc<Core>, ConfigError> {
        Core::start(
            config,
            &self.settings,
            self.metrics.unwrap_or_default(),
            self.trace,
        )
    }
}
