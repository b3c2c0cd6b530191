//! A consumer's settings.

use std::time::Duration;

use rdkafka::ClientConfig;

use super::{Common, ConfigError, less, millis, size};

/// Where a group begins in a partition in which it has committed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    /// Nowhere: [`ConsumeError`](crate::ConsumeError) says so, and the program decides.
    Fail,
}

/// Which records of transactions are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    #[default]
    ReadCommitted,
    /// Also those of transactions that are open or were aborted.
    ReadUncommitted,
}

/// Who commits what the program said it has processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commits {
    /// The consumer: this often, when a partition is taken away, and when it is closed.
    Every(Duration),
    /// [`Transaction::send_offsets`](crate::Transaction::send_offsets) and nobody else.
    InTransactions,
}

impl Default for Commits {
    fn default() -> Self {
        Self::Every(Duration::from_secs(5))
    }
}

/// How the members of a group share partitions. All members must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignor {
    /// Only what moves is taken away; the rest is consumed on.
    #[default]
    CooperativeSticky,
    Range,
    RoundRobin,
}

/// Who decides the assignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// A member of the group.
    #[default]
    Classic,
    /// The broker (KIP-848). It also decides the timeouts.
    Consumer,
}

#[derive(Clone, Debug)]
pub(crate) struct ConsumerSettings {
    pub(crate) common: Common,
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    pub(crate) instance_id: Option<String>,
    pub(crate) start: Start,
    pub(crate) isolation: Isolation,
    pub(crate) commits: Commits,
    pub(crate) protocol: GroupProtocol,
    pub(crate) assignor: Option<Assignor>,
    pub(crate) session_timeout: Option<Duration>,
    pub(crate) heartbeat_interval: Option<Duration>,
    pub(crate) poll_interval_max: Duration,
    pub(crate) prefetch_records_max: usize,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            common: Common::default(),
            group: String::new(),
            topics: Vec::new(),
            instance_id: None,
            start: Start::default(),
            isolation: Isolation::default(),
            commits: Commits::default(),
            protocol: GroupProtocol::default(),
            assignor: None,
            session_timeout: None,
            heartbeat_interval: None,
            poll_interval_max: Duration::from_secs(300),
            prefetch_records_max: 500,
        }
    }
}

const SESSION_TIMEOUT: Duration = Duration::from_secs(45);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3);

/// Set by this crate, and by which setting.
const OWNED: &[(&str, &str)] = &[
    ("group.id", "group"),
    ("group.instance.id", "instance_id"),
    ("group.protocol", "protocol"),
    ("auto.offset.reset", "start"),
    ("isolation.level", "isolation"),
    ("enable.auto.commit", "commits"),
    ("auto.commit.enable", "commits"),
    ("auto.commit.interval.ms", "commits"),
    ("enable.auto.offset.store", "Consumer::processed"),
    ("partition.assignment.strategy", "assignor"),
    ("session.timeout.ms", "session_timeout"),
    ("heartbeat.interval.ms", "heartbeat_interval"),
    ("max.poll.interval.ms", "poll_interval_max"),
    ("enable.partition.eof", "Consumer::next, which waits"),
];

impl ConsumerSettings {
    /// The settings as librdkafka takes them, if they do not contradict each other.
    pub(crate) fn validate(&self) -> Result<ClientConfig, ConfigError> {
        let mut config = self.common.config(OWNED)?;
        if self.group.is_empty() {
            return Err(ConfigError::Missing { setting: "group" });
        }
        if self.topics.is_empty() || self.topics.iter().any(String::is_empty) {
            return Err(ConfigError::Missing { setting: "topics" });
        }
        if let Commits::Every(interval) = self.commits {
            millis("commits", interval, 1, 86_400_000)?;
        }
        size("prefetch_records_max", self.prefetch_records_max, 1, 100_000)?;
        let start = match self.start {
            Start::Earliest => "earliest",
            Start::Latest => "latest",
            Start::Fail => "error",
        };
        let isolation = match self.isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        };
        config
            .set("group.id", &self.group)
            .set("auto.offset.reset", start)
            .set("isolation.level", isolation)
            // What is committed is what the program said: see `Consumer::processed`.
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set(
                "max.poll.interval.ms",
                millis("poll_interval_max", self.poll_interval_max, 1, 86_400_000)?,
            );
        if let Some(id) = &self.instance_id {
            config.set("group.instance.id", id);
        }
        match self.protocol {
            GroupProtocol::Classic => self.classic(&mut config)?,
            GroupProtocol::Consumer => self.consumer(&mut config)?,
        }
        Ok(config)
    }

    fn classic(&self, config: &mut ClientConfig) -> Result<(), ConfigError> {
        let session = self.session_timeout.unwrap_or(SESSION_TIMEOUT);
        let heartbeat = self
            .heartbeat_interval
            .unwrap_or(HEARTBEAT_INTERVAL.min(session / 3));
        less(("heartbeat_interval", heartbeat), ("session_timeout", session))?;
        // A member that may be silent for less than its session would leave before it is missed.
        if session > self.poll_interval_max {
            less(
                ("session_timeout", session),
                ("poll_interval_max", self.poll_interval_max),
            )?;
        }
        let assignor = match self.assignor.unwrap_or_default() {
            Assignor::CooperativeSticky => "cooperative-sticky",
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
        };
        config
            .set("partition.assignment.strategy", assignor)
            .set(
                "session.timeout.ms",
                millis("session_timeout", session, 1, 3_600_000)?,
            )
            .set(
                "heartbeat.interval.ms",
                millis("heartbeat_interval", heartbeat, 1, 3_600_000)?,
            );
        Ok(())
    }

    fn consumer(&self, config: &mut ClientConfig) -> Result<(), ConfigError> {
        for (setting, is_set) in [
            ("assignor", self.assignor.is_some()),
            ("session_timeout", self.session_timeout.is_some()),
            ("heartbeat_interval", self.heartbeat_interval.is_some()),
        ] {
            if is_set {
                return Err(ConfigError::ClassicOnly { setting });
            }
        }
        config.set("group.protocol", "consumer");
        Ok(())
    }
}
