//! A consumer's settings, one method each.

use std::time::Duration;

use super::Consumer;
use super::poller;
use crate::config::{Assignor, Commits, ConfigError, ConsumerSettings, GroupProtocol, Isolation, Start};
use crate::metrics::ClientMetrics;

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl TopicPartition {
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
        }
    }
}

/// Partitions have come or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    pub kind: RebalanceKind,
    pub partitions: Vec<TopicPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceKind {
    /// They are ours from now on.
    Assigned,
    /// They go to somebody else. What is marked as processed before the hook returns is committed.
    Revoked,
    /// They are somebody else's already: this consumer was too slow, or away. Nothing of it is committed.
    Lost,
}

/// Called on the consumer's thread, which waits for it: it must not take long.
pub type RebalanceHook = Box<dyn FnMut(&Rebalance) + Send>;

/// Made by [`Consumer::builder`].
#[derive(Default)]
#[must_use = "a builder does nothing until it builds"]
pub struct ConsumerBuilder {
    settings: ConsumerSettings,
    metrics: Option<ClientMetrics>,
    on_rebalance: Option<RebalanceHook>,
}

impl ConsumerBuilder {
    /// `host:port`, several with commas. Required.
    pub fn bootstrap(mut self, servers: impl Into<String>) -> Self {
        self.settings.common.bootstrap = servers.into();
        self
    }

    /// What the broker's logs and quotas know this program as.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.settings.common.client_id = Some(client_id.into());
        self
    }

    /// The group that shares the topics. Required.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.settings.group = group.into();
        self
    }

    /// What to consume. Required. A name that begins with `^` is a regular expression.
    pub fn topics(mut self, topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.settings.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// A name that is this member's over restarts: one that comes back within its session keeps its
    /// partitions.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.settings.instance_id = Some(id.into());
        self
    }

    /// Where to begin without a committed offset; the earliest record by default.
    pub fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Who commits what is processed; the consumer itself by default, every 5 s.
    pub fn commits(mut self, commits: Commits) -> Self {
        self.settings.commits = commits;
        self
    }

    pub fn protocol(mut self, protocol: GroupProtocol) -> Self {
        self.settings.protocol = protocol;
        self
    }

    pub fn assignor(mut self, assignor: Assignor) -> Self {
        self.settings.assignor = Some(assignor);
        self
    }

    /// After how long without a heartbeat the member is taken for dead; 45 s by default.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.session_timeout = Some(timeout);
        self
    }

    /// 3 s by default, or a third of a shorter session.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.heartbeat_interval = Some(interval);
        self
    }

    /// How long the program may take for the records at hand before the member is taken for stuck; 5 min by
    /// default.
    pub fn poll_interval_max(mut self, interval: Duration) -> Self {
        self.settings.poll_interval_max = interval;
        self
    }

    /// Records that are taken from librdkafka at once; 500 by default.
    pub fn prefetch_records_max(mut self, records: usize) -> Self {
        self.settings.prefetch_records_max = records;
        self
    }

    /// Anything else, under librdkafka's name (its `CONFIGURATION.md`); for TLS the program enables the
    /// feature `ssl` of the crate `rdkafka`. What this crate sets itself is refused.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.common.properties.insert(key.into(), value.into());
        self
    }

    /// Where to count; a registry of its own by default.
    pub fn metrics(mut self, metrics: &ClientMetrics) -> Self {
        self.metrics = Some(metrics.clone());
        self
    }

    /// Told when partitions come and go, between two records.
    pub fn on_rebalance(mut self, hook: impl FnMut(&Rebalance) + Send + 'static) -> Self {
        self.on_rebalance = Some(Box::new(hook));
        self
    }

    /// Whether the settings hold together, without making anything of them.
    ///
    /// # Errors
    /// The first contradiction, by the names of the settings.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.settings.validate().map(drop)
    }

    /// The consumer. It joins its group as soon as a record is asked for.
    ///
    /// # Errors
    /// Settings that contradict each other, or that librdkafka refuses.
    pub fn build(self) -> Result<Consumer, ConfigError> {
        let config = self.settings.validate()?;
        let metrics = self.metrics.unwrap_or_default();
        poller::start(&config, &self.settings, metrics, self.on_rebalance)
    }
}
