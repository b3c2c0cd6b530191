//! A producer's settings.

use std::time::Duration;

use rdkafka::ClientConfig;

use super::{Common, ConfigError, less, millis, size};

/// Whose word acknowledges a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Stored wherever the broker must store it. With StreamHouse: in the object store and committed.
    #[default]
    All,
    /// The partition's leader alone. StreamHouse makes no difference to `All`.
    Leader,
    /// Nobody's: a record is `Delivered`, without an offset, as soon as it was sent.
    None,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ProducerSettings {
    pub(crate) common: Common,
    pub(crate) acks: Acks,
    pub(crate) idempotent: bool,
    pub(crate) linger: Duration,
    pub(crate) batch_bytes_max: usize,
    pub(crate) record_bytes_max: usize,
    pub(crate) queue_bytes_max: usize,
    pub(crate) compression: Compression,
    pub(crate) delivery_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) transaction_timeout: Duration,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        Self {
            common: Common::default(),
            acks: Acks::All,
            idempotent: true,
            linger: Duration::from_millis(5),
            batch_bytes_max: 1_000_000,
            record_bytes_max: 1_000_000,
            queue_bytes_max: 64 << 20,
            compression: Compression::None,
            delivery_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(30),
            transaction_timeout: Duration::from_secs(60),
        }
    }
}

/// As librdkafka has it, less our framing.
const BYTES_MAX: usize = 900_000_000;
/// What a record and its batch take beside key and value. librdkafka's limit is on all of it, ours on what the
/// program gives; the broker's is on the batch as a whole, and has the last word.
const FRAMING_BYTES: usize = 512;

/// Set by this crate, and by which setting.
const OWNED: &[(&str, &str)] = &[
    ("acks", "acks"),
    ("request.required.acks", "acks"),
    ("enable.idempotence", "idempotent"),
    ("linger.ms", "linger"),
    ("queue.buffering.max.ms", "linger"),
    ("batch.size", "batch_bytes_max"),
    ("message.max.bytes", "record_bytes_max"),
    ("queue.buffering.max.messages", "queue_bytes_max"),
    ("queue.buffering.max.kbytes", "queue_bytes_max"),
    ("compression.type", "compression"),
    ("compression.codec", "compression"),
    ("message.timeout.ms", "delivery_timeout"),
    ("delivery.timeout.ms", "delivery_timeout"),
    ("request.timeout.ms", "request_timeout"),
    ("transactional.id", "build_transactional"),
    ("transaction.timeout.ms", "transaction_timeout"),
    ("delivery.report.only.error", "the result of each send"),
];

impl ProducerSettings {
    /// The settings as librdkafka takes them, if they do not contradict each other.
    pub(crate) fn validate(&self, transactional_id: Option<&str>) -> Result<ClientConfig, ConfigError> {
        let mut config = self.common.config(OWNED)?;
        if self.idempotent && self.acks != Acks::All {
            return Err(ConfigError::IdempotentWithoutAcks { acks: self.acks });
        }
        // A record that does not fit into the queue would wait for room for ever.
        if self.record_bytes_max > self.queue_bytes_max {
            return Err(ConfigError::Fit {
                smaller: "record_bytes_max",
                smaller_bytes: self.record_bytes_max,
                larger: "queue_bytes_max",
                larger_bytes: self.queue_bytes_max,
            });
        }
        less(
            ("linger", self.linger),
            ("delivery_timeout", self.delivery_timeout),
        )?;
        less(
            ("request_timeout", self.request_timeout),
            ("delivery_timeout", self.delivery_timeout),
        )?;
        let batch_bytes_max = size("batch_bytes_max", self.batch_bytes_max, 1, BYTES_MAX)?;
        size("record_bytes_max", self.record_bytes_max, 1_000, BYTES_MAX)?;
        let largest = self.record_bytes_max.max(self.batch_bytes_max);
        let acks = match self.acks {
            Acks::All => "all",
            Acks::Leader => "1",
            Acks::None => "0",
        };
        config
            .set("acks", acks)
            .set("enable.idempotence", self.idempotent.to_string())
            .set("linger.ms", millis("linger", self.linger, 0, 900_000)?)
            .set("batch.size", batch_bytes_max)
            .set("message.max.bytes", (largest + FRAMING_BYTES).to_string())
            .set("compression.type", self.compression.as_str())
            .set(
                "request.timeout.ms",
                millis("request_timeout", self.request_timeout, 1, 900_000)?,
            )
            // As Java does it: what is in one partition there is in the same partition here.
            .set("partitioner", "murmur2_random")
            // Room is ours to give, in bytes; librdkafka's own limits stand far behind.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", i32::MAX.to_string());
        size("queue_bytes_max", self.queue_bytes_max, 1, 1 << 40)?;
        let delivery_ms = millis("delivery_timeout", self.delivery_timeout, 1, i32::MAX as u128)?;
        if let Some(id) = transactional_id {
            if id.is_empty() {
                return Err(ConfigError::Missing {
                    setting: "transactional id",
                });
            }
            if !self.idempotent {
                return Err(ConfigError::TransactionalNotIdempotent);
            }
            config.set("transactional.id", id).set(
                "transaction.timeout.ms",
                millis(
                    "transaction_timeout",
                    self.transaction_timeout,
                    1_000,
                    i32::MAX as u128,
                )?,
            );
            // A transaction bounds its records: none may outlast it.
            let bounded = self.delivery_timeout.min(self.transaction_timeout);
            less(
                ("request_timeout", self.request_timeout),
                ("transaction_timeout", self.transaction_timeout),
            )?;
            config.set("message.timeout.ms", bounded.as_millis().to_string());
        } else {
            config.set("message.timeout.ms", delivery_ms);
        }
        Ok(config)
    }
}
