//! The Kafka listener: accepts connections and serves each in a task of its own.
//!
//! `frames` cuts the stream, `budget` bounds its memory and `responses` that of the answers, `guard` and
//! `wire` read what strangers wrote, `connection` keeps the order, `pulse` shows health that connections are
//! accepted, `on_panic` counts a request that a panic ended. Here: how many connections there may
//! be, and how they end. Accepting goes on whatever fails: running out of descriptors costs the newcomer
//! its connection, not the listener its life.

pub mod budget;
pub mod connection;
pub mod frames;
pub mod guard;
mod on_panic;
mod pulse;
pub mod responses;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use streamhouse_observability::families::RejectReason;
use streamhouse_observability::{Gauge, HealthHandle, logging};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handlers::SERVED;
use crate::handlers::context::Agent;
use connection::Shared;
use frames::Limits;
use pulse::Pulse;

/// Pause after an accept that failed: descriptors come back, and a tight loop would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection counted while it lives.
struct Counted {
    gauge: Gauge,
    _slot: OwnedSemaphorePermit,
}

impl Counted {
    fn new(gauge: Gauge, slot: OwnedSemaphorePermit) -> Self {
        gauge.inc();
        Self { gauge, _slot: slot }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Accepts until `agent.stopping` is cancelled. `connections` tracks what was accepted; cutting
/// `severed` ends the connections of the moment, as when the agent was fenced.
pub async fn run(
    listener: TcpListener,
    agent: Arc<Agent>,
    limits: Limits,
    connections_max: usize,
    connections: TaskTracker,
    health: HealthHandle,
) {
    let mut pulse = Pulse::new(health);
    let slots = Arc::new(Semaphore::new(connections_max));
    let apis = SERVED.iter().map(|served| {
        let name: &'static str = api_name(served.api);
        (served.api, agent.metrics.api(name))
    });
    let shared = Arc::new(Shared {
        apis: apis.collect(),
        limits,
        correlation: AtomicU64::new(0),
        agent: agent.clone(),
    });
    let mut identity = agent.writer.identity();
    let mut severed = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = agent.stopping.cancelled() => return,
            changed = identity.changed() => {
                if changed.is_ok() {
                    tracing::warn!("fenced: closing all connections");
                    severed.cancel();
                    severed = CancellationToken::new();
                } else {
                    // The writer is gone; its end is reported where it is awaited.
                    agent.stopping.cancelled().await;
                }
                continue;
            }
            () = pulse.felt() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pulse.accepted();
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    agent.metrics.connections.rejected(RejectReason::Limit).inc();
                    tracing::debug!(%peer, connections_max, "connection refused: there are too many");
                    continue;
                };
                let counted = Counted::new(agent.metrics.connections.active.clone(), slot);
                start(&shared, &connections, stream, peer, &severed, counted);
            }
            Err(error) => {
                pulse.refused(&error);
                if let Some(suppressed) = logging::admit("accept", error.kind().to_string().as_str(), "") {
                    tracing::warn!(%error, suppressed, "a connection could not be accepted");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn start(
    shared: &Arc<Shared>,
    connections: &TaskTracker,
    stream: TcpStream,
    peer: SocketAddr,
    severed: &CancellationToken,
    counted: Counted,
) {
    // Answers are whole; waiting for more to send would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "the connection ended before it began");
        return;
    }
    let stopping = shared.agent.stopping.clone();
    let (shared, severed) = (shared.clone(), severed.clone());
    connections.spawn(async move {
        connection::serve(shared, stream, peer, stopping, severed).await;
        drop(counted);
    });
}

/// The API's protocol name, as metrics show it.
pub fn api_name(api: kafka_protocol::messages::ApiKey) -> &'static str {
    use kafka_protocol::messages::ApiKey;
    match api {
        ApiKey::Produce => "Produce",
        ApiKey::Fetch => "Fetch",
        ApiKey::ListOffsets => "ListOffsets",
        ApiKey::Metadata => "Metadata",
        ApiKey::FindCoordinator => "FindCoordinator",
        ApiKey::ApiVersions => "ApiVersions",
        ApiKey::CreateTopics => "CreateTopics",
        ApiKey::DeleteTopics => "DeleteTopics",
        ApiKey::InitProducerId => "InitProducerId",
        ApiKey::CreatePartitions => "CreatePartitions",
        ApiKey::JoinGroup => "JoinGroup",
        ApiKey::SyncGroup => "SyncGroup",
        ApiKey::Heartbeat => "Heartbeat",
        ApiKey::LeaveGroup => "LeaveGroup",
        ApiKey::OffsetCommit => "OffsetCommit",
        ApiKey::OffsetFetch => "OffsetFetch",
        ApiKey::OffsetDelete => "OffsetDelete",
        ApiKey::ListGroups => "ListGroups",
        ApiKey::DescribeGroups => "DescribeGroups",
        ApiKey::DeleteGroups => "DeleteGroups",
        ApiKey::DeleteRecords => "DeleteRecords",
        ApiKey::OffsetForLeaderEpoch => "OffsetForLeaderEpoch",
        ApiKey::DescribeConfigs => "DescribeConfigs",
        ApiKey::AlterConfigs => "AlterConfigs",
        ApiKey::IncrementalAlterConfigs => "IncrementalAlterConfigs",
        ApiKey::DescribeLogDirs => "DescribeLogDirs",
        ApiKey::ElectLeaders => "ElectLeaders",
        ApiKey::AlterPartitionReassignments => "AlterPartitionReassignments",
        ApiKey::ListPartitionReassignments => "ListPartitionReassignments",
        ApiKey::DescribeClientQuotas => "DescribeClientQuotas",
        ApiKey::AlterClientQuotas => "AlterClientQuotas",
        ApiKey::DescribeUserScramCredentials => "DescribeUserScramCredentials",
        ApiKey::DescribeCluster => "DescribeCluster",
        ApiKey::AddPartitionsToTxn => "AddPartitionsToTxn",
        ApiKey::AddOffsetsToTxn => "AddOffsetsToTxn",
        ApiKey::EndTxn => "EndTxn",
        ApiKey::WriteTxnMarkers => "WriteTxnMarkers",
        ApiKey::TxnOffsetCommit => "TxnOffsetCommit",
        ApiKey::DescribeProducers => "DescribeProducers",
        ApiKey::DescribeTransactions => "DescribeTransactions",
        ApiKey::ListTransactions => "ListTransactions",
        ApiKey::GetTelemetrySubscriptions => "GetTelemetrySubscriptions",
        ApiKey::PushTelemetry => "PushTelemetry",
        ApiKey::ListConfigResources => "ListConfigResources",
        ApiKey::DescribeTopicPartitions => "DescribeTopicPartitions",
        ApiKey::ConsumerGroupHeartbeat => "ConsumerGroupHeartbeat",
        ApiKey::ConsumerGroupDescribe => "ConsumerGroupDescribe",
        _ => "other",
    }
}
