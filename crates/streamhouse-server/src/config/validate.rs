//! What must hold of a configuration as a whole.
//!
//! Each refusal names the settings that do not go together. What passes here cannot deadlock the writer,
//! cannot lose acknowledged data silently and cannot overflow the numbers it is turned into.

use streamhouse_storage::stores::without_credentials;

use super::{Config, ConfigError, Layer};

/// What a Produce request has beside its largest batch: header, names, one partition.
const REQUEST_OVERHEAD_BYTES: u64 = 64 << 10;
const GIB: u64 = 1 << 30;

/// Bounds of single values, checked before they are narrowed.
pub(super) fn ranges(layer: &Layer) -> Result<(), ConfigError> {
    let day_ms = 24 * 3600 * 1000;
    let size = |value: Option<super::units::Size>| value.map(|size| size.0);
    let span = |value: Option<super::units::Span>| value.map(|span| span.0.as_millis() as u64);
    let count = |value: Option<u32>| value.map(u64::from);
    let bounds: &[(&'static str, Option<u64>, u64, u64)] = &[
        ("flush_interval", span(layer.flush_interval), 0, 10_000),
        ("flush_bytes", size(layer.flush_bytes), 4 << 10, GIB),
        ("inline_bytes", size(layer.inline_bytes), 0, 1 << 20),
        ("inflight_bytes", size(layer.inflight_bytes), 1 << 20, 64 * GIB),
        ("upload_slots", count(layer.upload_slots), 1, 256),
        ("cache_bytes", size(layer.cache_bytes), 1 << 20, 1 << 40),
        ("tail_bytes", size(layer.tail_bytes), 1 << 20, 1 << 40),
        ("default_partitions", count(layer.default_partitions), 1, 100_000),
        ("topics_max", count(layer.topics_max), 1, u64::from(u32::MAX)),
        (
            "partitions_max",
            count(layer.partitions_max),
            1,
            u64::from(u32::MAX),
        ),
        ("message_bytes_max", size(layer.message_bytes_max), 1 << 10, GIB),
        (
            "frame_bytes_max",
            size(layer.frame_bytes_max),
            64 << 10,
            2 * GIB - 1,
        ),
        ("fetch_bytes_max", size(layer.fetch_bytes_max), 1 << 10, GIB),
        ("connections_max", count(layer.connections_max), 1, 1_000_000),
        (
            "retention_check_interval",
            span(layer.retention_check_interval),
            100,
            365 * day_ms,
        ),
        ("delete_grace", span(layer.delete_grace), 0, 365 * day_ms),
        (
            "group_initial_rebalance_delay",
            span(layer.group_initial_rebalance_delay),
            0,
            day_ms,
        ),
        (
            "group_consumer_session_timeout",
            span(layer.group_consumer_session_timeout),
            100,
            day_ms,
        ),
        (
            "group_consumer_heartbeat_interval",
            span(layer.group_consumer_heartbeat_interval),
            10,
            day_ms,
        ),
        ("group_members_max", count(layer.group_members_max), 1, 100_000),
        ("groups_max", count(layer.groups_max), 1, 1_000_000),
        (
            "offsets_retention",
            span(layer.offsets_retention),
            1_000,
            3_650 * day_ms,
        ),
        (
            "transaction_timeout_max",
            span(layer.transaction_timeout_max),
            1,
            365 * day_ms,
        ),
        (
            "transactional_ids_max",
            count(layer.transactional_ids_max),
            1,
            1_000_000,
        ),
        (
            "transactional_id_retention",
            span(layer.transactional_id_retention),
            1_000,
            3_650 * day_ms,
        ),
        ("slow_request", span(layer.slow_request), 0, day_ms),
        ("idle_timeout", span(layer.idle_timeout), 1_000, 365 * day_ms),
        ("stall_timeout", span(layer.stall_timeout), 100, day_ms),
        ("stop_timeout", span(layer.stop_timeout), 100, day_ms),
        ("verify_rate", size(layer.verify_rate), 0, 1 << 40),
        (
            "metrics_max_series",
            count(layer.metrics_max_series),
            100,
            10_000_000,
        ),
    ];
    for &(key, value, min, max) in bounds {
        if let Some(value) = value
            && !(min..=max).contains(&value)
        {
            return Err(ConfigError::OutOfRange { key, value, min, max });
        }
    }
    Ok(())
}

impl Config {
    /// See the module's head.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        scheme(
            "object_store",
            &self.object_store,
            &["file:", "s3:", "memory:"],
            "file:, s3:, memory:",
        )?;
        scheme(
            "metadata",
            &self.metadata,
            &["sqlite:", "memory:"],
            "sqlite:, memory:",
        )?;
        let s3 = self.object_store.starts_with("s3:");
        let message = u64::from(self.message_bytes_max);
        if self.kafka_listen.ip().is_unspecified() && self.kafka_advertise.is_none() {
            return Err(ConfigError::AdvertiseMissing(self.kafka_listen));
        }
        if self.objects_in_memory() && !self.metadata_in_memory() {
            return Err(ConfigError::MemoryObjectsUnderPersistentMetadata);
        }
        if self.inflight_bytes < self.flush_bytes.saturating_add(message) {
            return Err(ConfigError::InflightTooSmall {
                inflight: self.inflight_bytes,
                flush: self.flush_bytes,
                message,
            });
        }
        if self.inline_bytes > self.flush_bytes {
            return Err(ConfigError::InlineAboveFlush {
                inline: self.inline_bytes,
                flush: self.flush_bytes,
            });
        }
        if self.group_consumer_heartbeat_interval >= self.group_consumer_session_timeout {
            return Err(ConfigError::HeartbeatsTooRare {
                interval: self.group_consumer_heartbeat_interval,
                session: self.group_consumer_session_timeout,
            });
        }
        if u64::from(self.frame_bytes_max) < message + REQUEST_OVERHEAD_BYTES {
            return Err(ConfigError::FrameTooSmall {
                frame: u64::from(self.frame_bytes_max),
                message,
            });
        }
        if !s3 && self.s3_endpoint.is_some() {
            return Err(ConfigError::Pointless {
                key: "s3_endpoint",
                only: "object_store=s3://…",
            });
        }
        if !s3 && self.s3_allow_http {
            return Err(ConfigError::Pointless {
                key: "s3_allow_http",
                only: "object_store=s3://…",
            });
        }
        Ok(())
    }
}

fn scheme(
    key: &'static str,
    value: &str,
    schemes: &[&str],
    allowed: &'static str,
) -> Result<(), ConfigError> {
    let known = schemes.iter().any(|scheme| value.starts_with(scheme));
    // A path is needed after the two that have one; memory: takes none.
    let complete = match value.split_once(':') {
        Some(("memory", rest)) => rest.is_empty(),
        Some((_, rest)) => !rest.is_empty(),
        None => false,
    };
    if known && complete {
        Ok(())
    } else {
        Err(ConfigError::Scheme {
            key,
            // Keys are written into the address by mistake.
            value: without_credentials(value),
            allowed,
        })
    }
}
