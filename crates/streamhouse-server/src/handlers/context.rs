//! What a handler is given: the house it works in, and who asks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::quota::QuotaKey;
use streamhouse_metadata::model::topic::TopicLimits;
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::store::transactions::TransactionError;
use streamhouse_observability::Metrics;
use streamhouse_observability::logging::remembered_name;
use streamhouse_storage::reader::Reader;
use streamhouse_storage::upkeep::scheduler::Nudge;
use streamhouse_storage::writer::Writer;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::error_code;
use super::request_log;
use super::topics::Topics;
use crate::config::Advertised;
use crate::consumption::{Client, Consumption, Fetching};
use crate::fetch_session::FetchSessions;
use crate::group::GroupFault;
use crate::group::coordinator::Groups;
use crate::listener::guard::RequestHead;
use crate::listener::responses::ResponseMemory;
use crate::quota::Quotas;
use crate::telemetry::{Asker, ClientTelemetry, ConnectionSoftware, TelemetryFault};
use crate::transaction::{TransactionFault, Transactions};

/// How this agent is known to clients.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: i32,
    pub address: Advertised,
    /// The cluster id as clients see it: the UUID in URL-safe base64 without padding, as Kafka's.
    pub cluster_id: String,
}

/// What the operator decided and handlers obey.
#[derive(Clone, Debug)]
pub struct Settings {
    pub auto_create_topics: bool,
    pub default_partitions: i32,
    pub limits: TopicLimits,
    pub fetch_bytes_max: u32,
    /// Of topics that say nothing.
    pub message_bytes_max: u32,
    pub retention_check_interval: Duration,
    /// From when on a request is logged as slow; zero never.
    pub slow_request: Duration,
}

/// One agent, as its handlers see it. Made once, shared by all connections.
pub struct Agent {
    pub node: Node,
    pub settings: Settings,
    pub metadata: Arc<dyn MetadataStore>,
    pub writer: Arc<Writer>,
    pub reader: Arc<Reader>,
    /// What fetched data may take while clients do not take it.
    pub responses: ResponseMemory,
    pub topics: Topics,
    /// The groups that this agent coordinates.
    pub groups: Arc<Groups>,
    pub transactions: Arc<Transactions>,
    pub consumption: Arc<Consumption>,
    pub fetch_sessions: Arc<FetchSessions>,
    pub quotas: Quotas,
    pub telemetry: Arc<ClientTelemetry>,
    /// Told of deleted topics, whose rows and objects are to go.
    pub upkeep: Nudge,
    pub metrics: Arc<Metrics>,
    /// Short name of this start of the agent, for correlation ids.
    pub instance: String,
    /// Cancelled when the process stops: waiting fetches answer with what they have.
    pub stopping: CancellationToken,
}

/// Who asks. Until there is authentication, everybody is anonymous; authorization will look here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub name: Arc<str>,
}

impl Principal {
    pub fn anonymous() -> Self {
        Self {
            name: Arc::from("ANONYMOUS"),
        }
    }
}

/// One request in hand.
pub struct RequestContext {
    pub agent: Arc<Agent>,
    pub principal: Principal,
    pub peer: SocketAddr,
    pub head: RequestHead,
    /// What its connection has begun to fetch.
    pub fetching: Fetching,
    /// What its client said it is.
    pub software: ConnectionSoftware,
    /// When its last byte had been read.
    pub read_at: Instant,
    /// How long it waited for room in the in-flight budget …
    pub waited: Duration,
    /// … and how much of that while it was being read.
    pub waited_before_read: Duration,
    /// Our number for the request, for logs and error messages.
    pub correlation: u64,
    /// Ends with the context: when the answer was written or given up.
    pub span: tracing::Span,
}

impl RequestContext {
    /// What a client reads about a failure, with the number that finds it in our logs.
    pub fn explain(&self, error: &dyn std::fmt::Display) -> StrBytes {
        StrBytes::from_string(format!("{error} (request {})", self.correlation_id()))
    }

    /// The request's name in logs and error messages: the agent's start and a counter.
    pub fn correlation_id(&self) -> String {
        format!("{}-{}", self.agent.instance, self.correlation)
    }

    /// Who asks, as far as counting consumption goes.
    pub fn client(&self) -> Client {
        let client_id = self.head.client_id.as_deref().unwrap_or_default();
        Client {
            id: remembered_name(client_id).to_owned(),
            address: self.peer.ip(),
        }
    }

    /// Which client asks, as far as its own metrics go.
    pub fn asker(&self, instance: Uuid) -> Asker {
        Asker {
            instance,
            client_id: self.head.client_id.as_deref().unwrap_or_default().to_owned(),
            software: self.software.lock().clone(),
            address: self.peer,
        }
    }

    /// Counts a refusal that a consumer gets; what is no refusal is not counted.
    pub fn count_refused(&self, topic: Option<&str>, group: Option<&str>, code: i16) {
        if let Some(error_type) = error_code::consumer_error(code) {
            self.agent.metrics.consumers.refused(topic, group, error_type);
        }
    }

    /// Charges the client's quota; how long it is to be quiet.
    pub async fn charge_quota(&self, key: QuotaKey, bytes: usize) -> Duration {
        let client_id = self.head.client_id.as_deref().unwrap_or_default();
        let quotas = &self.agent.quotas;
        quotas.charge(key, &self.principal.name, client_id, bytes).await
    }

    /// The same for a transaction's fault.
    pub fn report_transaction(&self, fault: &TransactionFault) {
        match fault {
            TransactionFault::Group(fault) => self.report_group(fault),
            TransactionFault::Refused(TransactionError::Store(error)) => self.report(error),
            TransactionFault::Refused(TransactionError::MarkersFull) => self.report(fault),
            _ => {
                request_log::mistake(self, fault);
            }
        }
    }

    /// What a client hears about its own metrics: its own business.
    pub fn report_telemetry(&self, fault: &TelemetryFault) {
        request_log::mistake(self, fault);
    }

    /// The same for a group's fault, if it is ours: what clients do wrong is theirs.
    pub fn report_group(&self, fault: &GroupFault) {
        match fault {
            GroupFault::Store(_) | GroupFault::StoreUnknown(_) => self.report(fault),
            GroupFault::MemberIdRequired(_) | GroupFault::RebalanceInProgress => {
                request_log::step(self, fault);
            }
            _ => {
                request_log::mistake(self, fault);
            }
        }
    }

    /// Logs a failure of ours, once, where it is answered.
    pub fn report(&self, error: &dyn std::fmt::Display) {
        request_log::failure(self, None, error);
    }
}
