//! Start and stop of an agent, from top to bottom.
//!
//! Up: metrics, HTTP (unready), metadata, object store, identity, incarnation, writer, reader, upkeep,
//! listener, ready. A store that is down is waited for, while `/health/ready` says so; what only an
//! operator can mend ends the process at once. Down, in the order in which data flows: unready, no new
//! connections, the requests in hand, what the writer holds, the metadata. What cannot be stored within
//! the limit is not acknowledged, and the exit status says so.

mod stores;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamhouse_metadata::model::topic::TopicLimits;
use streamhouse_metadata::sqlite;
use streamhouse_metadata::store::{Registered, StoreError};
use streamhouse_observability::families::ClientSource;
use streamhouse_observability::health::WRITER_STALL_MAX;
use streamhouse_observability::{Health, HealthHandle, Metrics};
use streamhouse_storage::reader::{Reader, ReaderOptions, Tail};
use streamhouse_storage::stores::identity::IdentityError;
use streamhouse_storage::stores::{CheckError, OpenError, OpenedStore, StoreUrlError};
use streamhouse_storage::upkeep::abandoned::Abandoned;
use streamhouse_storage::upkeep::scheduler::{Nudge, Upkeep};
use streamhouse_storage::upkeep::{UpkeepOptions, UpkeepParts};
use streamhouse_storage::writer::{Writer, WriterHooks, WriterOptions, WriterParts};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster_view::Snapshot;
use crate::config::{Advertised, Config};
use crate::consumption::Consumption;
use crate::group::coordinator::{GroupSettings, Groups};
use crate::handlers::context::{Agent, Node, Settings};
use crate::handlers::topics::{MessageLimits, Topics};
use crate::ids::kafka_uuid;
use crate::listener;
use crate::listener::budget::Budget;
use crate::listener::frames::Limits;
use crate::listener::responses::ResponseMemory;
use crate::quota::Quotas;
use crate::telemetry::ClientTelemetry;
use crate::transaction::{TransactionSettings, Transactions};
use crate::watched::{MetadataProbe, ObjectProbe, watch_writer};

/// Memory for requests that are no Produce, decoded.
const PLAIN_BYTES: u64 = 32 << 20;
/// Memory for what members say of themselves while they wait for each other.
const WAITING_BYTES: u64 = 128 << 20;
/// Fetch responses of full size that clients may leave untaken before others get less.
const RESPONSES_OF_FULL_SIZE: u64 = 2;
/// How far a sequential read is run ahead of on a store that is not this process's memory.
const READ_AHEAD_BYTES: u64 = 16 << 20;

/// Why an agent does not start. All of these are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("kafka_listen: cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("metadata: {0}")]
    Metadata(#[from] sqlite::OpenError),
    #[error("object_store: {0}")]
    Url(#[from] StoreUrlError),
    #[error("object_store: {0}")]
    Open(#[from] OpenError),
    #[error("object_store: {0}")]
    Check(Box<CheckError>),
    #[error("object_store: {0}")]
    Identity(#[from] IdentityError),
    #[error("metadata: {0}")]
    Store(StoreError),
    #[error("stopped before it was up")]
    Stopped,
}

impl From<CheckError> for StartError {
    fn from(error: CheckError) -> Self {
        Self::Check(Box::new(error))
    }
}

/// What the process around an agent gives it.
pub struct House {
    pub config: Config,
    pub metrics: Arc<Metrics>,
    pub health: Health,
    /// Cancelled to stop the agent; the agent cancels it when it cannot go on.
    pub stop: CancellationToken,
}

/// A running agent.
pub struct Running {
    pub agent: Arc<Agent>,
    /// Where Kafka clients connect, with the real port.
    pub kafka: SocketAddr,
    objects: OpenedStore,
    listener: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    connections: TaskTracker,
    health: Health,
    heartbeat: JoinHandle<()>,
    stop_timeout: Duration,
    /// Why the agent stopped by itself.
    fatal: Arc<Mutex<Option<String>>>,
}

/// How an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("what was accepted could not be stored within {0:?}; it was not acknowledged")]
    Limit(Duration),
    #[error("stopped because {0}")]
    Fatal(String),
}

/// Starts an agent; returns when it serves.
pub async fn start(house: House) -> Result<Running, StartError> {
    let House {
        config,
        metrics,
        health,
        stop,
    } = house;
    // Before anything is waited for: a store that is down at the start has to show.
    health.export_to(&metrics);
    let heartbeat = health.start_heartbeat(&metrics);
    let metadata_health = health.component("metadata");
    let objects_health = health.component("object_store");
    let listener_health = health.component("listener");

    let disk = health.disk();
    let metadata = stores::open_metadata(&config, &metrics, &metadata_health, &disk).await?;
    metadata_health.success();
    let objects = stores::open_objects(&config, &metrics, objects_health.clone(), &disk)?;
    stores::wait_for_objects(&objects, metadata.as_ref(), &objects_health, &stop).await?;
    objects_health.set_probe(Arc::new(ObjectProbe(objects.clone())));
    metadata_health.set_probe(Arc::new(MetadataProbe(metadata.clone())));
    // Not before: clients of an agent that waits for its store are better refused than kept waiting.
    let listener = TcpListener::bind(config.kafka_listen)
        .await
        .map_err(|source| StartError::Listen {
            address: config.kafka_listen,
            source,
        })?;
    let kafka = listener.local_addr().map_err(|source| StartError::Listen {
        address: config.kafka_listen,
        source,
    })?;
    let advertised = config.kafka_advertise.clone().unwrap_or(Advertised {
        host: kafka.ip().to_string(),
        port: kafka.port(),
    });

    let registered = stores::register(metadata.as_ref(), &advertised, &metadata_health, &stop).await?;

    let fatal = Arc::new(Mutex::new(None));
    let nudge = Nudge::default();
    let abandoned = Abandoned::new(nudge.clone());
    let cluster = metadata.cluster();
    let tail = Arc::new(Tail::new(config.tail_bytes, cluster.epoch));
    let writer = start_writer(
        &config,
        &advertised,
        registered,
        WriterParts {
            objects: objects.store.clone(),
            metadata: metadata.clone(),
            tail: tail.clone(),
            metrics: metrics.clone(),
            hooks: hooks(abandoned.clone(), nudge.clone(), fatal.clone(), stop.clone()),
        },
    )
    .await?;
    let reader = Arc::new(Reader::new(
        ReaderOptions {
            cache_bytes: config.cache_bytes,
            fetch_bytes: u64::from(config.fetch_bytes_max),
            read_ahead_bytes: if config.objects_in_memory() {
                0
            } else {
                // What runs ahead has to wait somewhere.
                READ_AHEAD_BYTES.min(config.cache_bytes / 2)
            },
        },
        metadata.clone(),
        objects.store.clone(),
        tail.clone(),
        metrics.clone(),
    ));
    let upkeep = Upkeep::new(
        UpkeepParts {
            objects: objects.store.clone(),
            metadata: metadata.clone(),
            identity: writer.identity(),
            tail: tail.clone(),
        },
        UpkeepOptions {
            retention_check_interval: config.retention_check_interval,
            deleting_grace: config.delete_grace,
            verify_bytes_per_second: config.verify_rate,
            ..UpkeepOptions::default()
        },
        nudge.clone(),
        abandoned,
        &metrics,
    );
    let upkeep = tokio::spawn(supervise(upkeep.run(stop.clone()), fatal.clone(), stop.clone()));
    let groups = Groups::new(
        metadata.clone(),
        group_settings(&config),
        metrics.clone(),
        stop.clone(),
    );
    let consumption = Arc::new(Consumption::new(metrics.clone()));
    let transactions = Transactions::new(
        TransactionSettings {
            timeout_max: config.transaction_timeout_max,
            transactional_ids_max: config.transactional_ids_max,
            id_retention: config.transactional_id_retention,
        },
        metadata.clone(),
        groups.clone(),
        consumption.clone(),
        tail,
        nudge.clone(),
        stop.clone(),
    );
    let telemetry = Arc::new(ClientTelemetry::new(metadata.clone(), metrics.clone()));
    let agent = Arc::new(Agent {
        node: Node {
            id: registered.node_id,
            address: advertised,
            cluster_id: kafka_uuid(cluster.id),
        },
        settings: settings(&config),
        topics: Topics::new(metadata.clone(), metrics.clone(), message_limits(&config)),
        quotas: Quotas::new(metadata.clone()),
        telemetry,
        groups,
        transactions,
        consumption,
        fetch_sessions: Arc::default(),
        metadata: metadata.clone(),
        writer: writer.clone(),
        reader,
        responses: ResponseMemory::new(RESPONSES_OF_FULL_SIZE * u64::from(config.fetch_bytes_max)),
        upkeep: nudge,
        metrics: metrics.clone(),
        instance: registered.incarnation.to_string().chars().take(8).collect(),
        stopping: stop.clone(),
    });

    observe(&metrics, &health, &agent);
    tokio::spawn(Arc::clone(&agent.groups).expire());
    tokio::spawn(Arc::clone(&agent.transactions).expire());
    let inflight = Budget::new(config.inflight_bytes);
    let held = inflight.clone();
    metrics.register_inflight(move || held.used_bytes() as u64);
    metrics
        .produce
        .inflight_limit_bytes
        .set(i64::try_from(config.inflight_bytes).unwrap_or(i64::MAX));
    let limits = Limits {
        frame_bytes_max: config.frame_bytes_max as usize,
        idle_timeout: config.idle_timeout,
        stall_timeout: config.stall_timeout,
        inflight,
        plain: Budget::new(PLAIN_BYTES),
        waiting: Budget::new(WAITING_BYTES),
    };
    let connections = TaskTracker::new();
    let accepting = listener::run(
        listener,
        agent.clone(),
        limits,
        config.connections_max,
        connections.clone(),
        listener_health.clone(),
    );
    let listener = tokio::spawn(mourn(accepting, listener_health));
    health.running();
    Ok(Running {
        agent,
        kafka,
        objects,
        listener,
        upkeep,
        connections,
        health,
        heartbeat,
        stop_timeout: config.stop_timeout,
        fatal,
    })
}

impl Running {
    /// Where the objects go, for people.
    pub fn objects(&self) -> String {
        self.objects.url.to_string()
    }

    /// Stops the agent; everything accepted is stored and acknowledged when this returns `Ok`.
    pub async fn stop(self) -> Result<(), StopError> {
        self.health.stopping();
        self.agent.stopping.cancel();
        let limit = self.stop_timeout;
        let in_order = async {
            let _ = self.listener.await;
            self.connections.close();
            // A client that hangs may lose its answer, but what was accepted is stored all the same.
            let _ = tokio::time::timeout(limit / 2, self.connections.wait()).await;
            self.agent.writer.close().await;
            let _ = self.upkeep.await;
            if let Err(error) = self.agent.metadata.close().await {
                tracing::warn!(%error, "the metadata store did not close cleanly");
            }
        };
        let ended = tokio::time::timeout(limit, in_order).await;
        self.heartbeat.abort();
        if let Some(reason) = self.fatal.lock().take() {
            return Err(StopError::Fatal(reason));
        }
        ended.map_err(|_| StopError::Limit(limit))
    }
}

// --- the writer -----------------------------------------------------------------------------------

async fn start_writer(
    config: &Config,
    advertised: &Advertised,
    registered: Registered,
    parts: WriterParts,
) -> Result<Arc<Writer>, StartError> {
    let options = WriterOptions {
        flush_bytes: config.flush_bytes,
        flush_interval: config.flush_interval,
        inline_bytes_max: config.inline_bytes,
        upload_slots: config.upload_slots,
        advertised: advertised.to_string(),
    };
    Writer::start(options, parts, registered.incarnation)
        .await
        .map(Arc::new)
        .map_err(StartError::Store)
}

/// Runs upkeep. Without it inline objects would fill their room and nothing would be freed, so a panic in
/// it stops the process, as one in the writer does.
async fn supervise(
    upkeep: impl Future<Output = ()> + Send + 'static,
    fatal: Arc<Mutex<Option<String>>>,
    stop: CancellationToken,
) {
    if let Err(error) = tokio::spawn(upkeep).await
        && error.is_panic()
    {
        fatal.lock().get_or_insert_with(|| "upkeep panicked".to_owned());
        stop.cancel();
    }
}

/// Runs the listener. Its end before its time leaves an agent that nobody reaches: everything else goes on,
/// and health says whose fault it is.
async fn mourn(accepting: impl Future<Output = ()> + Send + 'static, health: HealthHandle) {
    if let Err(error) = tokio::spawn(accepting).await {
        tracing::error!(%error, "the Kafka listener ended abnormally");
        health.down(&error.to_string());
    }
}

fn hooks(
    abandoned: Abandoned,
    nudge: Nudge,
    fatal: Arc<Mutex<Option<String>>>,
    stop: CancellationToken,
) -> WriterHooks {
    WriterHooks {
        abandoned: Box::new(move |name| abandoned.push(name)),
        committed: Box::new(move || nudge.committed()),
        fatal: Box::new(move |error| {
            fatal.lock().get_or_insert_with(|| error.to_string());
            stop.cancel();
        }),
    }
}

fn group_settings(config: &Config) -> GroupSettings {
    GroupSettings {
        initial_rebalance_delay: config.group_initial_rebalance_delay,
        consumer_session_timeout: config.group_consumer_session_timeout,
        consumer_heartbeat_interval: config.group_consumer_heartbeat_interval,
        migration: config.group_consumer_migration_policy,
        members_max: config.group_members_max as usize,
        groups_max: config.groups_max,
        offsets_retention: config.offsets_retention,
        ..GroupSettings::default()
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        auto_create_topics: config.auto_create_topics,
        default_partitions: config.default_partitions,
        limits: TopicLimits {
            topics_max: config.topics_max,
            partitions_max: config.partitions_max,
        },
        fetch_bytes_max: config.fetch_bytes_max,
        message_bytes_max: config.message_bytes_max,
        retention_check_interval: config.retention_check_interval,
        slow_request: config.slow_request,
    }
}

/// A topic may ask for larger messages than the default, but not for more than a frame and the budget
/// can hold beside a full object.
fn message_limits(config: &Config) -> MessageLimits {
    let room = config.inflight_bytes - config.flush_bytes;
    let ceiling = room.min(u64::from(config.frame_bytes_max));
    MessageLimits {
        default: config.message_bytes_max,
        ceiling: u32::try_from(ceiling).unwrap_or(u32::MAX),
    }
}

// --- what is watched ------------------------------------------------------------------------------

fn observe(metrics: &Arc<Metrics>, health: &Health, agent: &Arc<Agent>) {
    metrics.watch_runtime(&tokio::runtime::Handle::current());
    let writer = agent.writer.clone();
    metrics.register_flush_oldest(move || writer.oldest().unwrap_or_default());
    let sessions = agent.fetch_sessions.clone();
    metrics.register_fetch_sessions(move || {
        let count = sessions.count();
        (count.sessions, count.partitions, count.evictions)
    });
    let clients: Arc<dyn ClientSource> = agent.telemetry.clone();
    metrics.register_clients(&clients);
    metrics.set_cluster_source(Arc::new(Snapshot {
        metadata: agent.metadata.clone(),
        metrics: metrics.clone(),
        groups: agent.groups.clone(),
    }));
    let watch = health.watch("writer", WRITER_STALL_MAX);
    tokio::spawn(watch_writer(agent.writer.clone(), watch, agent.stopping.clone()));
}
