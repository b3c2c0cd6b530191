//! What a producer or a consumer is told at the start, and what of it is refused.
//!
//! The settings are few and typed; a contradiction between two of them is an error that names both, before
//! anything is connected. What is not offered here can still be given under librdkafka's own name
//! ([`ProducerBuilder::property`](crate::ProducerBuilder::property)), except for what this crate sets itself.

mod consumer;
mod producer;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

pub(crate) use consumer::ConsumerSettings;
pub use consumer::{Assignor, Commits, GroupProtocol, Isolation, Start};
pub(crate) use producer::ProducerSettings;
pub use producer::{Acks, Compression};

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("{setting} is missing")]
    Missing { setting: &'static str },
    #[error("{setting} = {got_ms} ms is out of range: {min_ms} to {max_ms} ms")]
    Duration {
        setting: &'static str,
        got_ms: u128,
        min_ms: u128,
        max_ms: u128,
    },
    #[error("{setting} = {got} is out of range: {min} to {max}")]
    Size {
        setting: &'static str,
        got: usize,
        min: usize,
        max: usize,
    },
    #[error("an idempotent producer needs acks(Acks::All), not Acks::{acks:?}; or idempotent(false)")]
    IdempotentWithoutAcks { acks: Acks },
    #[error("a transactional producer is always idempotent: idempotent(false) contradicts it")]
    TransactionalNotIdempotent,
    #[error("{smaller} ({smaller_ms} ms) must be less than {larger} ({larger_ms} ms)")]
    Order {
        smaller: &'static str,
        smaller_ms: u128,
        larger: &'static str,
        larger_ms: u128,
    },
    #[error("{smaller} ({smaller_bytes} bytes) must fit into {larger} ({larger_bytes} bytes)")]
    Fit {
        smaller: &'static str,
        smaller_bytes: usize,
        larger: &'static str,
        larger_bytes: usize,
    },
    #[error(
        "{setting} belongs to the classic group protocol; with GroupProtocol::Consumer the broker decides it"
    )]
    ClassicOnly { setting: &'static str },
    #[error("property {key} is set by this crate: use {instead}")]
    Owned { key: String, instead: &'static str },
    #[error("librdkafka refuses the configuration: {reason}")]
    Refused { reason: String },
}

impl ConfigError {
    pub(crate) fn refused(error: &KafkaError) -> Self {
        Self::Refused {
            reason: error.to_string(),
        }
    }
}

/// What producers and consumers have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Common {
    pub(crate) bootstrap: String,
    pub(crate) client_id: Option<String>,
    pub(crate) properties: BTreeMap<String, String>,
}

impl Common {
    /// Checks what is common, and starts the configuration with it.
    fn config(&self, owned: &[(&str, &'static str)]) -> Result<ClientConfig, ConfigError> {
        if self.bootstrap.trim().is_empty() {
            return Err(ConfigError::Missing { setting: "bootstrap" });
        }
        let common = [
            ("bootstrap.servers", "bootstrap"),
            ("metadata.broker.list", "bootstrap"),
            ("client.id", "client_id"),
        ];
        let mut config = ClientConfig::new();
        // Lines go to `tracing`, whose filter decides what is seen.
        config.set_log_level(RDKafkaLogLevel::Info);
        for (key, value) in &self.properties {
            let owner = common.iter().chain(owned).find(|(owned, _)| owned == key);
            if let Some((_, instead)) = owner {
                let key = key.clone();
                return Err(ConfigError::Owned { key, instead });
            }
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.bootstrap).set(
            "client.id",
            self.client_id.as_deref().unwrap_or("streamhouse-client"),
        );
        Ok(config)
    }
}

/// A duration that librdkafka takes in whole milliseconds.
fn millis(setting: &'static str, value: Duration, min_ms: u128, max_ms: u128) -> Result<String, ConfigError> {
    let got_ms = value.as_millis();
    if got_ms < min_ms || got_ms > max_ms {
        return Err(ConfigError::Duration {
            setting,
            got_ms,
            min_ms,
            max_ms,
        });
    }
    Ok(got_ms.to_string())
}

fn size(setting: &'static str, got: usize, min: usize, max: usize) -> Result<String, ConfigError> {
    if got < min || got > max {
        return Err(ConfigError::Size {
            setting,
            got,
            min,
            max,
        });
    }
    Ok(got.to_string())
}

fn less(smaller: (&'static str, Duration), larger: (&'static str, Duration)) -> Result<(), ConfigError> {
    if smaller.1 < larger.1 {
        return Ok(());
    }
    Err(ConfigError::Order {
        smaller: smaller.0,
        smaller_ms: smaller.1.as_millis(),
        larger: larger.0,
        larger_ms: larger.1.as_millis(),
    })
}
