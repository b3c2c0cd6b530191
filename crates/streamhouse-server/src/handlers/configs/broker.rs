//! What this agent was told, under the names that Kafka's brokers give the same settings.
//!
//! Only what has a counterpart is shown; all of it is read-only, because an agent's configuration lies with
//! its operator. Not here: how the settings come about (`config`).

use streamhouse_metadata::model::topic_config::{Kind, TopicConfig, entry};

use crate::handlers::context::Agent;

/// One setting as it is shown.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) value: String,
    pub(super) doc: &'static str,
}

fn setting<V: std::fmt::Display>(name: &'static str, kind: Kind, value: V, doc: &'static str) -> Setting {
    Setting {
        name,
        kind,
        value: format!("{value}"),
        doc,
    }
}

/// Defaults of topics that say nothing: Kafka's name for brokers, and the entry.
const TOPIC_DEFAULTS: [(&str, &str); 10] = [
    ("compression.type", "compression.type"),
    ("log.cleanup.policy", "cleanup.policy"),
    (
        "log.message.timestamp.after.max.ms",
        "message.timestamp.after.max.ms",
    ),
    (
        "log.message.timestamp.before.max.ms",
        "message.timestamp.before.max.ms",
    ),
    ("log.message.timestamp.type", "message.timestamp.type"),
    ("log.retention.bytes", "retention.bytes"),
    ("log.retention.ms", "retention.ms"),
    ("log.segment.bytes", "segment.bytes"),
    ("min.insync.replicas", "min.insync.replicas"),
    ("unclean.leader.election.enable", "unclean.leader.election.enable"),
];

pub(super) fn settings(agent: &Agent) -> Vec<Setting> {
    let node = &agent.node;
    let limits = agent.settings.limits;
    let mut all = vec![
        setting("broker.id", Kind::Int, node.id, "The agent's node id."),
        setting("node.id", Kind::Int, node.id, "The agent's node id."),
        setting(
            "advertised.listeners",
            Kind::List,
            format!("PLAINTEXT://{}", node.address),
            "The address that clients are told.",
        ),
        setting(
            "auto.create.topics.enable",
            Kind::Boolean,
            agent.settings.auto_create_topics,
            "Whether a client's use creates a topic.",
        ),
        setting(
            "default.replication.factor",
            Kind::Int,
            1,
            "The object store replicates.",
        ),
        setting(
            "delete.topic.enable",
            Kind::Boolean,
            true,
            "Topics can be deleted.",
        ),
        setting(
            "fetch.max.bytes",
            Kind::Int,
            agent.settings.fetch_bytes_max,
            "The most that one fetch returns, but for a larger first batch.",
        ),
        setting(
            "log.retention.check.interval.ms",
            Kind::Long,
            agent.settings.retention_check_interval.as_millis(),
            "How often retention is enforced while there is something to enforce.",
        ),
        setting(
            "message.max.bytes",
            Kind::Int,
            agent.settings.message_bytes_max,
            "The largest record batch of topics that say nothing.",
        ),
        setting(
            "num.partitions",
            Kind::Int,
            agent.settings.default_partitions,
            "Partitions of a topic that is created without a number.",
        ),
        setting(
            "streamhouse.partitions.max",
            Kind::Int,
            limits.partitions_max,
            "The most partitions of the cluster.",
        ),
        setting(
            "streamhouse.topics.max",
            Kind::Int,
            limits.topics_max,
            "The most topics of the cluster.",
        ),
    ];
    let defaults = TopicConfig::default();
    let known = TOPIC_DEFAULTS
        .iter()
        .filter_map(|(name, of)| Some((*name, entry(of)?)));
    all.extend(known.map(|(name, entry)| setting(name, entry.kind, defaults.value(entry), entry.doc)));
    all.sort_by_key(|setting| setting.name);
    all
}

/// Kafka's name for a broker's default of a topic's entry.
pub(super) fn default_name(entry: &str) -> String {
    let special = match entry {
        "compression.type" | "min.insync.replicas" | "unclean.leader.election.enable" => entry,
        "delete.retention.ms" => "log.cleaner.delete.retention.ms",
        "file.delete.delay.ms" => "log.segment.delete.delay.ms",
        "flush.messages" => "log.flush.interval.messages",
        "flush.ms" => "log.flush.interval.ms",
        "max.compaction.lag.ms" => "log.cleaner.max.compaction.lag.ms",
        "max.message.bytes" => "message.max.bytes",
        "min.cleanable.dirty.ratio" => "log.cleaner.min.cleanable.ratio",
        "min.compaction.lag.ms" => "log.cleaner.min.compaction.lag.ms",
        "segment.index.bytes" => "log.index.size.max.bytes",
        "segment.jitter.ms" => "log.roll.jitter.ms",
        "segment.ms" => "log.roll.ms",
        _ => return format!("log.{entry}"),
    };
    special.to_owned()
}
