//! What clients say of themselves (KIP-714), summed up over all of them.
//!
//! Clients choose names and number of what they push, so neither may become a label: what is shown is this
//! closed set of families, by kind of client and by well-known client library. Counters add what clients
//! report; gauges are computed at each scrape over the clients that push to this agent now: the mean of
//! their averages, the largest of their maxima. The rest is counted as ignored. Not here: how pushes are read.

use std::sync::Arc;

use super::Metrics;
use crate::registry::{Counter, Family, LabelValue, Registry, Sample, SecondsCounter, closed_label};

closed_label! {
    ClientKind, "client_kind" {
        Producer = "producer",
        Consumer = "consumer",
    }
}

closed_label! {
    /// A client library by the name it gives itself (KIP-511).
    ClientSoftware, "client_software" {
        Java = "apache-kafka-java",
        Librdkafka = "librdkafka",
        ConfluentPython = "confluent-kafka-python",
        ConfluentGo = "confluent-kafka-go",
        ConfluentDotnet = "confluent-kafka-dotnet",
        ConfluentJavascript = "confluent-kafka-javascript",
        FranzGo = "kgo",
        Other = "other",
    }
}

impl ClientSoftware {
    #[must_use]
    pub fn named(name: &str) -> Self {
        let found = Self::ALL.iter().find(|software| software.as_str() == name);
        found.copied().unwrap_or(Self::Other)
    }
}

closed_label! {
    /// What a gauge over many clients is.
    ClientStatistic, "statistic" {
        Average = "avg",
        Maximum = "max",
    }
}

closed_label! {
    /// What became of a push.
    PushResult, "result" {
        Ok = "ok",
        /// Earlier than its interval.
        TooEarly = "too_early",
        UnknownSubscription = "unknown_subscription",
        UnsupportedCompression = "unsupported_compression",
        TooLarge = "too_large",
        /// Not what it should be: no metrics, or from a client that had said goodbye.
        Invalid = "invalid",
    }
}

/// The gauges that clients feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientGauge {
    RequestLatency,
    ProduceThrottle,
    RecordQueue,
    CommitLatency,
    RebalanceLatency,
    FetchLatency,
    PollIdleRatio,
    AssignedPartitions,
}

impl ClientGauge {
    pub const ALL: [(Self, &'static str, &'static str); 8] = [
        (
            Self::RequestLatency,
            "streamhouse_client_request_latency_seconds",
            "Round trip of requests, as clients measure it.",
        ),
        (
            Self::ProduceThrottle,
            "streamhouse_client_produce_throttle_seconds",
            "How long producers were throttled.",
        ),
        (
            Self::RecordQueue,
            "streamhouse_client_record_queue_seconds",
            "How long records waited in producers before they were sent.",
        ),
        (
            Self::CommitLatency,
            "streamhouse_client_commit_latency_seconds",
            "How long consumers' commits of offsets took.",
        ),
        (
            Self::RebalanceLatency,
            "streamhouse_client_rebalance_latency_seconds",
            "How long rebalances took, as consumers measure it.",
        ),
        (
            Self::FetchLatency,
            "streamhouse_client_fetch_latency_seconds",
            "How long fetches took, with the wait for records.",
        ),
        (
            Self::PollIdleRatio,
            "streamhouse_client_poll_idle_ratio",
            "Share of the time that consumers wait in poll instead of working on records.",
        ),
        (
            Self::AssignedPartitions,
            "streamhouse_client_assigned_partitions",
            "Partitions assigned to a consumer.",
        ),
    ];
}

/// One value of a gauge at a scrape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClientSample {
    pub kind: ClientKind,
    pub software: ClientSoftware,
    pub statistic: ClientStatistic,
    pub value: f64,
}

/// Who knows the clients that push now.
pub trait ClientSource: Send + Sync + 'static {
    /// Clients by kind and library.
    fn clients(&self) -> Vec<(ClientKind, ClientSoftware, usize)>;
    fn gauge(&self, gauge: ClientGauge) -> Vec<ClientSample>;
}

/// The counters that clients feed; see the module's head. All are born here.
pub struct ClientMetrics {
    connections: Family<(ClientKind, ClientSoftware), Counter>,
    rebalances: Family<(ClientSoftware,), SecondsCounter>,
    pushes: Family<(PushResult,), Counter>,
    /// Metrics in pushes for which there is no family here.
    pub ignored: Counter,
}

impl ClientMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let metrics = Self {
            connections: registry.family(
                "streamhouse_client_connections_total",
                "Connections that clients opened, as they count them.",
                (),
            ),
            rebalances: registry.family(
                "streamhouse_client_rebalance_seconds_total",
                "Time that consumers spent in rebalances, as they measure it.",
                (),
            ),
            pushes: registry.family(
                "streamhouse_client_pushes_total",
                "Pushes of metrics by clients, by what became of them.",
                (),
            ),
            ignored: registry
                .family::<(), Counter>(
                    "streamhouse_client_metrics_ignored_total",
                    "Metrics that clients pushed and for which there is no family here.",
                    (),
                )
                .get(&()),
        };
        for software in ClientSoftware::ALL {
            for kind in ClientKind::ALL {
                let _ = metrics.connections(*kind, *software);
            }
            let _ = metrics.rebalances(*software);
        }
        for result in PushResult::ALL {
            let _ = metrics.pushes(*result);
        }
        metrics
    }

    #[must_use]
    pub fn connections(&self, kind: ClientKind, software: ClientSoftware) -> Counter {
        self.connections.get(&(kind, software))
    }

    #[must_use]
    pub fn rebalances(&self, software: ClientSoftware) -> SecondsCounter {
        self.rebalances.get(&(software,))
    }

    #[must_use]
    pub fn pushes(&self, result: PushResult) -> Counter {
        self.pushes.get(&(result,))
    }
}

impl Metrics {
    /// The gauges about clients; computed at each scrape.
    pub fn register_clients(&self, source: &Arc<dyn ClientSource>) {
        let clients = source.clone();
        self.register_labelled_gauge_fn(
            "streamhouse_client_instances",
            "Clients that push metrics to this agent.",
            &[ClientKind::KEY, ClientSoftware::KEY],
            move || {
                let samples = clients.clients().into_iter();
                let sample = |(kind, software, count): (ClientKind, ClientSoftware, usize)| Sample {
                    values: vec![kind.to_string(), software.to_string()],
                    value: count as f64,
                };
                samples.map(sample).collect()
            },
        );
        for (gauge, name, help) in ClientGauge::ALL {
            let source = source.clone();
            self.register_labelled_gauge_fn(
                name,
                help,
                &[ClientKind::KEY, ClientSoftware::KEY, ClientStatistic::KEY],
                move || {
                    let samples = source.gauge(gauge).into_iter();
                    let sample = |sample: ClientSample| Sample {
                        values: vec![
                            sample.kind.to_string(),
                            sample.software.to_string(),
                            sample.statistic.to_string(),
                        ],
                        value: sample.value,
                    };
                    samples.map(sample).collect()
                },
            );
        }
    }
}
