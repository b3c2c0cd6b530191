//! The table of settings: one field is one flag, one `STREAMHOUSE_*` variable and one TOML key.
//!
//! Every field is optional here: a layer says only what its source said. Flags win over variables,
//! variables over the file, the file over the defaults in [`super`]. A key that is not in this table is
//! refused by name, wherever it came from.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::units::{Size, Span};
use crate::group::migration::MigrationPolicy;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

macro_rules! settings {
    ($( $(#[$doc:meta])* $(@[$flag:ident])? $name:ident : $kind:ident ),* $(,)?) => {
        /// What one source says; see the module's head.
        #[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Layer {
            $(
                $(#[$doc])*
                #[arg(long, $($flag,)? value_name = settings!(@value $kind), num_args = settings!(@values $kind),
                    default_missing_value = "true")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$kind>,
            )*
        }

        /// Every key of the table, for messages and tests.
        pub const KEYS: &[&str] = &[$(stringify!($name)),*];
    };
    // A switch may stand alone: `--s3-allow-http` is `--s3-allow-http true`.
    (@values bool) => { 0..=1 };
    (@values $kind:ident) => { 1 };
    (@value Size) => { "SIZE" };
    (@value Span) => { "DURATION" };
    (@value bool) => { "true|false" };
    (@value u32) => { "NUMBER" };
    (@value PathBuf) => { "PATH" };
    (@value LogFormat) => { "FORMAT" };
    (@value MigrationPolicy) => { "POLICY" };
    (@value String) => { "VALUE" };
}

settings! {
    /// Where Kafka clients connect; port 0 picks a free one [default: 127.0.0.1:9092]
    kafka_listen: String,
    /// The address that clients are told to use, host:port [default: the listen address]
    kafka_advertise: String,
    /// Where /metrics and /health are served [default: 127.0.0.1:8080]
    http_listen: String,
    /// Where everything lies that has no other place [default: ./streamhouse-data]
    data_dir: PathBuf,
    /// file:PATH, s3://bucket/prefix or memory: [default: file: under the data directory]
    object_store: String,
    /// Address of an S3-compatible server, beside the usual AWS_* variables
    s3_endpoint: String,
    /// Allow plain HTTP to the S3 server [default: false]
    s3_allow_http: bool,
    /// sqlite:PATH or memory: [default: sqlite: under the data directory]
    metadata: String,
    /// Shortest time between the starts of two uploads [default: 0 on file: and memory:, else 250ms]
    flush_interval: Span,
    /// An object is sealed when it reaches this size [default: 8MiB]
    flush_bytes: Size,
    /// Smaller objects are kept in the metadata store; 0 turns that off [default: 16KiB]
    inline_bytes: Size,
    /// Bytes accepted from producers and not yet stored [default: 64MiB]
    inflight_bytes: Size,
    /// Uploads running at the same time [default: 2 on file: and memory:, else 8]
    upload_slots: u32,
    /// fsync before acknowledging on the local directory; false can lose data [default: true]
    local_sync: bool,
    /// Memory for reading older data [default: 64MiB]
    cache_bytes: Size,
    /// Memory for the newest data, from which tail reads are served [default: 32MiB]
    tail_bytes: Size,
    /// Partitions of a topic whose creator does not say [default: 1]
    default_partitions: u32,
    /// Create topics that clients ask for by name [default: true]
    auto_create_topics: bool,
    /// Most topics that may exist [default: 10000]
    topics_max: u32,
    /// Most partitions that may exist [default: 100000]
    partitions_max: u32,
    /// Largest record batch a producer may send [default: 1048588, as Kafka]
    message_bytes_max: Size,
    /// How often retention is enforced while there is something to enforce [default: 5m, as Kafka]
    retention_check_interval: Span,
    /// How long an object that nothing names any more is kept for readers that found it before [default: 60s]
    delete_grace: Span,
    /// How long a new consumer group waits for more members [default: 3s, as Kafka]
    group_initial_rebalance_delay: Span,
    /// When a silent member of the newer group protocol (KIP-848) is taken for dead [default: 45s, as Kafka]
    group_consumer_session_timeout: Span,
    /// How often members of the newer group protocol send heartbeats [default: 5s, as Kafka]
    group_consumer_heartbeat_interval: Span,
    /// Which way consumer groups with members may go over to the other group protocol: disabled, upgrade,
    /// downgrade or bidirectional [default: bidirectional, as Kafka]
    @[value_enum] group_consumer_migration_policy: MigrationPolicy,
    /// Members a consumer group may have [default: 2000]
    group_members_max: u32,
    /// Most consumer groups that may exist [default: 20000]
    groups_max: u32,
    /// How long committed offsets outlive the last member of their group [default: 7d, as Kafka]
    offsets_retention: Span,
    /// The longest transaction timeout that a producer may ask for [default: 15m, as Kafka]
    transaction_timeout_max: Span,
    /// Most transactional ids that may be known [default: 20000]
    transactional_ids_max: u32,
    /// How long a transactional id is remembered after its last transaction [default: 7d, as Kafka]
    transactional_id_retention: Span,
    /// Largest request frame [default: 100MiB]
    frame_bytes_max: Size,
    /// Largest fetch response, except that it always holds one batch [default: 55MiB]
    fetch_bytes_max: Size,
    /// Most Kafka connections at the same time [default: 10000]
    connections_max: u32,
    /// A connection that asks nothing, or takes nothing of its answer, for this long is closed
    /// [default: 10m]
    idle_timeout: Span,
    /// A request that arrives half and then stalls for this long is given up [default: 30s]
    stall_timeout: Span,
    /// How long a stopping process may take to store what it accepted [default: 30s]
    stop_timeout: Span,
    /// Bytes a second that are read back from the object store and checked; 0 turns that off [default: 0]
    verify_rate: Size,
    /// USD for 1,000 requests, as PUT=0.005,GET=0.0004, or free [default: S3 Standard on s3:, else free]
    object_store_prices: String,
    /// Series a metric may have before whole topics fold into one [default: 50000]
    metrics_max_series: u32,
    /// error, warn, info, debug, trace, or a tracing filter [default: info]
    log_level: String,
    /// A request that takes longer is logged with the time of each stage; 0 never [default: 1s]
    slow_request: Span,
    /// human or json [default: human]
    @[value_enum] log_format: LogFormat,
}

/// Reads file and variables and lays the flags over them.
pub(super) fn gather(file: Option<&PathBuf>, flags: &Layer) -> Result<Layer, ConfigError> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
            path: path.clone(),
            error: error.to_string(),
        })?;
        figment = figment.merge(Toml::string(&text));
    }
    // STREAMHOUSE_CONFIG names the file itself; it is no setting.
    let variables = Env::prefixed("STREAMHOUSE_").ignore(&["config"]);
    figment
        .merge(variables)
        .merge(Serialized::defaults(flags))
        .extract()
        .map_err(|error| ConfigError::Settings(describe(&error)))
}

/// One line a mistake, each with its key and where it stands.
fn describe(errors: &figment::Error) -> String {
    let mut lines = Vec::new();
    for error in errors.clone() {
        let place = error
            .metadata
            .as_ref()
            .map(|metadata| metadata.name.to_string())
            .unwrap_or_default();
        let key = error.path.join(".");
        let line = match &error.kind {
            figment::error::Kind::UnknownField(name, _) => format!("unknown setting `{name}`"),
            kind if key.is_empty() => kind.to_string(),
            kind => format!("{key}: {kind}"),
        };
        lines.push(if place.is_empty() {
            line
        } else {
            format!("{line} ({place})")
        });
    }
    lines.join("; ")
}
