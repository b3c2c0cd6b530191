//! The client metrics that KIP-714 standardises and that are shown, and how many clients become one figure.
//!
//! Rates of connections are left out: the counter tells them. Anything else clients push is counted as ignored.

use std::collections::BTreeMap;

use streamhouse_observability::families::{
    ClientGauge, ClientKind, ClientSample, ClientSoftware, ClientStatistic,
};

use ClientGauge::{
    AssignedPartitions, CommitLatency, FetchLatency, PollIdleRatio, ProduceThrottle, RebalanceLatency,
    RecordQueue, RequestLatency,
};
use ClientKind::{Consumer, Producer};
use Unit::{Milliseconds, One};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    One,
}

impl Unit {
    /// In seconds, where it is a time.
    pub(super) fn of(self, value: f64) -> f64 {
        match self {
            Self::Milliseconds => value / 1e3,
            Self::One => value,
        }
    }
}

/// What a metric is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Connections,
    /// Milliseconds.
    RebalanceTime,
    Gauge(ClientGauge, ClientStatistic, Unit),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Standard {
    pub(super) name: &'static str,
    pub(super) kind: ClientKind,
    pub(super) meaning: Meaning,
}

const fn at(kind: ClientKind, name: &'static str, meaning: Meaning) -> Standard {
    Standard { name, kind, meaning }
}

const fn average(gauge: ClientGauge, unit: Unit) -> Meaning {
    Meaning::Gauge(gauge, ClientStatistic::Average, unit)
}

const fn maximum(gauge: ClientGauge) -> Meaning {
    Meaning::Gauge(gauge, ClientStatistic::Maximum, Unit::Milliseconds)
}

/// The part of a name before those of [`STANDARD`].
const PREFIX: &str = "org.apache.kafka.";

/// A slot each.
pub(super) const STANDARD: [Standard; 19] = [
    at(
        Producer,
        "producer.connection.creation.total",
        Meaning::Connections,
    ),
    at(
        Producer,
        "producer.node.request.latency.avg",
        average(RequestLatency, Milliseconds),
    ),
    at(
        Producer,
        "producer.node.request.latency.max",
        maximum(RequestLatency),
    ),
    at(
        Producer,
        "producer.produce.throttle.time.avg",
        average(ProduceThrottle, Milliseconds),
    ),
    at(
        Producer,
        "producer.produce.throttle.time.max",
        maximum(ProduceThrottle),
    ),
    at(
        Producer,
        "producer.record.queue.time.avg",
        average(RecordQueue, Milliseconds),
    ),
    at(Producer, "producer.record.queue.time.max", maximum(RecordQueue)),
    at(
        Consumer,
        "consumer.connection.creation.total",
        Meaning::Connections,
    ),
    at(
        Consumer,
        "consumer.node.request.latency.avg",
        average(RequestLatency, Milliseconds),
    ),
    at(
        Consumer,
        "consumer.node.request.latency.max",
        maximum(RequestLatency),
    ),
    at(
        Consumer,
        "consumer.coordinator.commit.latency.avg",
        average(CommitLatency, Milliseconds),
    ),
    at(
        Consumer,
        "consumer.coordinator.commit.latency.max",
        maximum(CommitLatency),
    ),
    at(
        Consumer,
        "consumer.coordinator.rebalance.latency.avg",
        average(RebalanceLatency, Milliseconds),
    ),
    at(
        Consumer,
        "consumer.coordinator.rebalance.latency.max",
        maximum(RebalanceLatency),
    ),
    at(
        Consumer,
        "consumer.coordinator.rebalance.latency.total",
        Meaning::RebalanceTime,
    ),
    at(
        Consumer,
        "consumer.fetch.manager.fetch.latency.avg",
        average(FetchLatency, Milliseconds),
    ),
    at(
        Consumer,
        "consumer.fetch.manager.fetch.latency.max",
        maximum(FetchLatency),
    ),
    at(
        Consumer,
        "consumer.poll.idle.ratio.avg",
        average(PollIdleRatio, One),
    ),
    at(
        Consumer,
        "consumer.coordinator.assigned.partitions",
        average(AssignedPartitions, One),
    ),
];

/// The slot of a metric by its name on the wire.
pub(super) fn slot(name: &[u8]) -> Option<usize> {
    let name = name.strip_prefix(PREFIX.as_bytes())?;
    STANDARD
        .iter()
        .position(|standard| standard.name.as_bytes() == name)
}

/// The slots that feed a gauge.
pub(super) fn slots(wanted: ClientGauge) -> impl Iterator<Item = (usize, ClientStatistic)> {
    STANDARD
        .iter()
        .enumerate()
        .filter_map(move |(slot, standard)| match standard.meaning {
            Meaning::Gauge(gauge, statistic, _) if gauge == wanted => Some((slot, statistic)),
            _ => None,
        })
}

type Labels = (ClientKind, ClientSoftware, ClientStatistic);

/// One figure for all clients with the same labels: the mean of averages, the largest of maxima.
pub(super) fn summed(values: impl Iterator<Item = (Labels, f64)>) -> Vec<ClientSample> {
    let mut sums: BTreeMap<Labels, (f64, f64, f64)> = BTreeMap::new();
    for (labels, value) in values {
        let (count, sum, max) = sums.entry(labels).or_default();
        *count += 1.0;
        *sum += value;
        *max = max.max(value);
    }
    let sample = |((kind, software, statistic), (count, sum, max))| ClientSample {
        kind,
        software,
        statistic,
        value: match statistic {
            ClientStatistic::Average => sum / count,
            ClientStatistic::Maximum => max,
        },
    };
    sums.into_iter().map(sample).collect()
}
