//! What a process is told: the settings with their defaults filled in, checked as a whole.
//!
//! [`layer`] is the table of names, this file gives every setting its default and type, and
//! [`validate`] refuses combinations that cannot work, by name. After that no code asks whether a
//! setting makes sense. Addresses of stores stay URLs here: the storage crate opens them.

pub mod layer;
pub mod units;
mod validate;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

pub use layer::{Layer, LogFormat};
use streamhouse_observability::families::{PriceError, RequestPrices};

use crate::group::migration::MigrationPolicy;

/// Why a configuration is refused. All of them are the operator's to mend: the process exits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {error}", path.display())]
    File { path: PathBuf, error: String },
    #[error("{0}")]
    Settings(String),
    #[error("{key}: `{value}` is no address; write host:port")]
    Address { key: &'static str, value: String },
    #[error("{key}: `{value}` does not begin with one of {allowed}")]
    Scheme {
        key: &'static str,
        value: String,
        allowed: &'static str,
    },
    #[error(
        "kafka_listen is {0}, which no client can connect to as an address: say kafka_advertise=host:port"
    )]
    AdvertiseMissing(SocketAddr),
    #[error("kafka_advertise: `{0}` is no address that a client can connect to")]
    AdvertiseWildcard(String),
    #[error(
        "object_store=memory: loses with the process what persistent metadata goes on naming; \
         say metadata=memory: too, or give the objects a lasting place"
    )]
    MemoryObjectsUnderPersistentMetadata,
    #[error(
        "inflight_bytes ({inflight}) must be at least flush_bytes ({flush}) + message_bytes_max ({message}), \
         else the writer waits for itself"
    )]
    InflightTooSmall { inflight: u64, flush: u64, message: u64 },
    #[error(
        "group_consumer_heartbeat_interval ({interval:?}) must be below group_consumer_session_timeout ({session:?}): \
         every member would be taken for dead"
    )]
    HeartbeatsTooRare { interval: Duration, session: Duration },
    #[error("inline_bytes ({inline}) is larger than flush_bytes ({flush}): no object would be stored")]
    InlineAboveFlush { inline: u64, flush: u64 },
    #[error("frame_bytes_max ({frame}) is smaller than message_bytes_max ({message}) and its request")]
    FrameTooSmall { frame: u64, message: u64 },
    #[error("{key} is {value}; it must be between {min} and {max}")]
    OutOfRange {
        key: &'static str,
        value: u64,
        min: u64,
        max: u64,
    },
    #[error("object_store_prices: {0}")]
    Prices(#[source] PriceError),
    #[error("{key} is only for {only}")]
    Pointless { key: &'static str, only: &'static str },
}

/// A host and port as clients are told them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    pub host: String,
    /// 0 until the listener is bound, when the port was left to the system.
    pub port: u16,
}

impl std::fmt::Display for Advertised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Every setting, filled in and checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub kafka_listen: SocketAddr,
    /// `None`: the address the listener is bound to.
    pub kafka_advertise: Option<Advertised>,
    pub http_listen: SocketAddr,
    pub data_dir: PathBuf,
    /// `file:PATH`, `s3://bucket/prefix` or `memory:`.
    pub object_store: String,
    pub s3_endpoint: Option<String>,
    pub s3_allow_http: bool,
    /// `sqlite:PATH` or `memory:`.
    pub metadata: String,
    pub flush_interval: Duration,
    pub flush_bytes: u64,
    pub inline_bytes: u64,
    pub inflight_bytes: u64,
    pub upload_slots: usize,
    pub local_sync: bool,
    pub cache_bytes: u64,
    pub tail_bytes: u64,
    pub default_partitions: i32,
    pub auto_create_topics: bool,
    pub topics_max: u32,
    pub partitions_max: u32,
    pub message_bytes_max: u32,
    pub group_initial_rebalance_delay: Duration,
    pub group_consumer_session_timeout: Duration,
    pub group_consumer_heartbeat_interval: Duration,
    pub group_consumer_migration_policy: MigrationPolicy,
    pub group_members_max: u32,
    pub groups_max: u32,
    pub offsets_retention: Duration,
    pub transaction_timeout_max: Duration,
    pub transactional_ids_max: u32,
    pub transactional_id_retention: Duration,
    pub frame_bytes_max: u32,
    pub fetch_bytes_max: u32,
    pub connections_max: usize,
    pub retention_check_interval: Duration,
    pub delete_grace: Duration,
    pub idle_timeout: Duration,
    pub stall_timeout: Duration,
    pub stop_timeout: Duration,
    /// Bytes a second; 0 is off.
    pub verify_rate: u64,
    pub object_store_prices: RequestPrices,
    pub metrics_max_series: usize,
    /// Zero: never.
    pub slow_request: Duration,
    pub log_level: String,
    pub log_format: LogFormat,
}

impl Config {
    /// Reads `file` and the environment, lays `flags` over them and checks the whole.
    pub fn load(file: Option<&PathBuf>, flags: &Layer) -> Result<Self, ConfigError> {
        Self::resolve(layer::gather(file, flags)?)
    }

    /// Fills in what a layer does not say, and checks the whole.
    pub fn resolve(layer: Layer) -> Result<Self, ConfigError> {
        validate::ranges(&layer)?;
        let data_dir = layer
            .data_dir
            .unwrap_or_else(|| PathBuf::from("streamhouse-data"));
        let object_store = layer
            .object_store
            .unwrap_or_else(|| format!("file:{}", data_dir.join("objects").display()));
        let metadata = layer
            .metadata
            .unwrap_or_else(|| format!("sqlite:{}", data_dir.join("metadata.db").display()));
        // The local directory answers a lone record with one flush; a remote store is paid by request.
        let local = !object_store.starts_with("s3:");
        let default_interval = Duration::from_millis(if local { 0 } else { 250 });
        let listen = layer.kafka_listen.as_deref().unwrap_or("127.0.0.1:9092");
        let http = layer.http_listen.as_deref().unwrap_or("127.0.0.1:8080");
        let advertise = layer.kafka_advertise.as_deref().map(advertised).transpose()?;
        let size = |value: Option<units::Size>, default: u64| value.map_or(default, |size| size.0);
        let span =
            |value: Option<units::Span>, default: u64| value.map_or(Duration::from_secs(default), |s| s.0);
        let config = Config {
            kafka_listen: socket("kafka_listen", listen)?,
            kafka_advertise: advertise,
            http_listen: socket("http_listen", http)?,
            object_store,
            s3_endpoint: layer.s3_endpoint,
            s3_allow_http: layer.s3_allow_http.unwrap_or(false),
            metadata,
            flush_interval: layer.flush_interval.map_or(default_interval, |span| span.0),
            flush_bytes: size(layer.flush_bytes, 8 << 20),
            inline_bytes: size(layer.inline_bytes, 16 << 10),
            inflight_bytes: size(layer.inflight_bytes, 64 << 20),
            upload_slots: layer.upload_slots.unwrap_or(if local { 2 } else { 8 }) as usize,
            local_sync: layer.local_sync.unwrap_or(true),
            cache_bytes: size(layer.cache_bytes, 64 << 20),
            tail_bytes: size(layer.tail_bytes, 32 << 20),
            default_partitions: layer.default_partitions.unwrap_or(1) as i32,
            auto_create_topics: layer.auto_create_topics.unwrap_or(true),
            topics_max: layer.topics_max.unwrap_or(10_000),
            partitions_max: layer.partitions_max.unwrap_or(100_000),
            message_bytes_max: size(layer.message_bytes_max, 1_048_588) as u32,
            frame_bytes_max: size(layer.frame_bytes_max, 100 << 20) as u32,
            fetch_bytes_max: size(layer.fetch_bytes_max, 55 << 20) as u32,
            connections_max: layer.connections_max.unwrap_or(10_000) as usize,
            retention_check_interval: span(layer.retention_check_interval, 300),
            delete_grace: span(layer.delete_grace, 60),
            group_initial_rebalance_delay: span(layer.group_initial_rebalance_delay, 3),
            group_consumer_session_timeout: span(layer.group_consumer_session_timeout, 45),
            group_consumer_heartbeat_interval: span(layer.group_consumer_heartbeat_interval, 5),
            group_consumer_migration_policy: layer.group_consumer_migration_policy.unwrap_or_default(),
            group_members_max: layer.group_members_max.unwrap_or(2_000),
            groups_max: layer.groups_max.unwrap_or(20_000),
            offsets_retention: span(layer.offsets_retention, 7 * 24 * 60 * 60),
            transaction_timeout_max: span(layer.transaction_timeout_max, 15 * 60),
            transactional_ids_max: layer.transactional_ids_max.unwrap_or(20_000),
            transactional_id_retention: span(layer.transactional_id_retention, 7 * 24 * 60 * 60),
            idle_timeout: span(layer.idle_timeout, 600),
            stall_timeout: span(layer.stall_timeout, 30),
            stop_timeout: span(layer.stop_timeout, 30),
            verify_rate: size(layer.verify_rate, 0),
            object_store_prices: match layer.object_store_prices.as_deref() {
                Some(table) => table.parse().map_err(ConfigError::Prices)?,
                None if local => RequestPrices::default(),
                None => RequestPrices::s3_standard(),
            },
            metrics_max_series: layer.metrics_max_series.unwrap_or(50_000) as usize,
            slow_request: span(layer.slow_request, 1),
            log_level: layer.log_level.unwrap_or_else(|| "info".to_owned()),
            log_format: layer.log_format.unwrap_or_default(),
            data_dir,
        };
        config.validate()?;
        Ok(config)
    }

    /// The metadata lives and dies with the process.
    pub fn metadata_in_memory(&self) -> bool {
        self.metadata == "memory:"
    }

    /// The objects live and die with the process.
    pub fn objects_in_memory(&self) -> bool {
        self.object_store == "memory:"
    }
}

fn socket(key: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
    value
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| ConfigError::Address {
            key,
            value: value.to_owned(),
        })
}

/// A name is not looked up: the clients' network may know it where ours does not.
fn advertised(value: &str) -> Result<Advertised, ConfigError> {
    let wrong = || ConfigError::Address {
        key: "kafka_advertise",
        value: value.to_owned(),
    };
    let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse::<u16>().map_err(|_| wrong())?;
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    if port == 0 || matches!(host, "0.0.0.0" | "::") {
        return Err(ConfigError::AdvertiseWildcard(value.to_owned()));
    }
    Ok(Advertised {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests;
