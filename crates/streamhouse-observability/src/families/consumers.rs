//! What consumers do, counted at the coordinator: records consumed, generations completed, requests refused.
//!
//! Consumed is how far committed offsets moved forward, so it equals the records consumed where no markers
//! lie between. A group is met when its coordinator loads or stores it; before that its name is no label, and
//! what it is refused counts under the empty one. Handles are looked up at every commit, which costs a flush
//! anyway: so a deleted group's or topic's series cannot come back through a handle that somebody kept.

use std::collections::HashSet;

use parking_lot::RwLock;

use crate::registry::{Counter, Family, Group, Registry, Topic, closed_label};

closed_label! {
    /// Why a fetch, a commit, a join or a heartbeat was refused. `AgentError` is every fault of ours.
    ConsumerErrorType, "error_type" {
        OutOfRange = "out_of_range",
        UnknownTopic = "unknown_topic",
        UnknownMember = "unknown_member",
        StaleGeneration = "stale_generation",
        Fenced = "fenced",
        Unauthorized = "unauthorized",
        Invalid = "invalid",
        AgentError = "agent_error",
    }
}

/// See the module's head.
pub struct ConsumerMetrics {
    records: Family<(Topic, Group), Counter>,
    rebalances: Family<(Group,), Counter>,
    errors: Family<(Topic, Group, ConsumerErrorType), Counter>,
    known: RwLock<HashSet<String>>,
}

impl ConsumerMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            records: registry.family(
                "streamhouse_consumer_records_total",
                "Records by which a group's committed offsets moved forward.",
                (),
            ),
            rebalances: registry.family(
                "streamhouse_consumer_rebalances_total",
                "Generations that a group completed.",
                (),
            ),
            errors: registry.family(
                "streamhouse_consumer_errors_total",
                "Fetches, commits, joins, syncs, heartbeats and look-ups of committed offsets refused; a label that the request lacks is empty.",
                (),
            ),
            known: RwLock::default(),
        }
    }

    /// A group exists: its series are born.
    pub fn meet(&self, group: &str) {
        self.known.write().insert(group.to_owned());
        let _ = self.rebalances.get(&(Group::new(group),));
    }

    /// A group that exists has committed in this topic, or is about to.
    pub fn meet_topic(&self, group: &str, topic: &str) {
        let known = self.known.read();
        if known.contains(group) {
            let _ = self.records.get(&(Topic::new(topic), Group::new(group)));
        }
    }

    pub fn consumed(&self, group: &str, topic: &str, records: u64) {
        let known = self.known.read();
        if known.contains(group) {
            let labels = (Topic::new(topic), Group::new(group));
            self.records.get(&labels).add(records);
        }
    }

    pub fn rebalanced(&self, group: &str) {
        let known = self.known.read();
        if known.contains(group) {
            self.rebalances.get(&(Group::new(group),)).inc();
        }
    }

    /// A topic that exists, or `None`; a group that may not exist.
    pub fn refused(&self, topic: Option<&str>, group: Option<&str>, error_type: ConsumerErrorType) {
        let known = self.known.read();
        let group = group.filter(|group| known.contains(*group));
        let labels = (
            Topic::new(topic.unwrap_or_default()),
            Group::new(group.unwrap_or_default()),
            error_type,
        );
        self.errors.get(&labels).inc();
    }

    /// Groups that have series.
    #[must_use]
    pub fn names(&self) -> HashSet<String> {
        self.known.read().clone()
    }

    pub(super) fn retain(&self, keep: &dyn Fn(&str) -> bool) {
        self.known.write().retain(|group| keep(group));
    }
}

#[cfg(test)]
mod tests {
    use crate::families::{ConsumerErrorType, Metrics, MetricsOptions};

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|found| found == line)
    }

    #[test]
    fn series_are_born_at_zero_and_go_with_their_group_or_topic() {
        let metrics = Metrics::new(MetricsOptions::default());
        metrics.consumers.consumed("g", "orders", 5);
        metrics
            .consumers
            .refused(Some("orders"), Some("g"), ConsumerErrorType::UnknownMember);
        let text = metrics.render();
        assert!(
            !text.contains("consumer_records_total{"),
            "nobody has met the group:\n{text}"
        );
        let nobody = "streamhouse_consumer_errors_total{topic=\"orders\",consumer_group=\"\",\
                      error_type=\"unknown_member\"} 1";
        assert!(has(&text, nobody), "{text}");

        metrics.consumers.meet("g");
        metrics.consumers.meet_topic("g", "orders");
        metrics.consumers.meet_topic("g", "orders1");
        let text = metrics.render();
        for line in [
            "streamhouse_consumer_records_total{topic=\"orders\",consumer_group=\"g\"} 0",
            "streamhouse_consumer_rebalances_total{consumer_group=\"g\"} 0",
        ] {
            assert!(has(&text, line), "{line} is missing in\n{text}");
        }
        metrics.consumers.consumed("g", "orders", 5);
        metrics.consumers.rebalanced("g");
        metrics
            .consumers
            .refused(None, Some("g"), ConsumerErrorType::StaleGeneration);
        metrics.forget_topic("orders1");
        let text = metrics.render();
        for line in [
            "streamhouse_consumer_records_total{topic=\"orders\",consumer_group=\"g\"} 5",
            "streamhouse_consumer_rebalances_total{consumer_group=\"g\"} 1",
            "streamhouse_consumer_errors_total{topic=\"\",consumer_group=\"g\",error_type=\"stale_generation\"} 1",
        ] {
            assert!(has(&text, line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("orders1"));

        metrics.retain_groups(&|_| false);
        metrics.consumers.consumed("g", "orders", 7);
        metrics.consumers.rebalanced("g");
        let text = metrics.render();
        assert!(
            !text.contains("consumer_group=\"g\""),
            "a late count brings nothing back:\n{text}"
        );
        assert!(has(&text, nobody));
    }
}
