//! What a consumer counts, in the name of its group.

use streamhouse_observability::registry::{Counter, Family, Group, Registry, Topic};

use super::error_type::ConsumerErrorType;

pub(super) struct ConsumerFamilies {
    records: Family<(Topic, Group), Counter>,
    rebalances: Family<(Group,), Counter>,
    errors: Family<(Topic, Group, ConsumerErrorType), Counter>,
}

impl ConsumerFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            records: registry.family(
                "streamhouse_consumer_records_total",
                "Records that were handed to the program.",
                (),
            ),
            rebalances: registry.family(
                "streamhouse_consumer_rebalances_total",
                "Assignments that this consumer was given by its group.",
                (),
            ),
            errors: registry.family(
                "streamhouse_consumer_errors_total",
                "Fetches, commits and memberships that failed; a label that does not apply is empty.",
                (),
            ),
        }
    }

    pub(super) fn group(&self, name: &str) -> GroupMetrics {
        let group = Group::new(name);
        GroupMetrics {
            records: self.records.clone(),
            rebalances: self.rebalances.get(&(group.clone(),)),
            errors: self.errors.clone(),
            group,
        }
    }
}

/// One consumer's handles.
#[derive(Clone)]
pub(crate) struct GroupMetrics {
    records: Family<(Topic, Group), Counter>,
    rebalances: Counter,
    errors: Family<(Topic, Group, ConsumerErrorType), Counter>,
    group: Group,
}

impl GroupMetrics {
    /// A topic's counter, to be kept with the partition; its series are born at zero.
    pub(crate) fn topic(&self, name: &str) -> Counter {
        let topic = Topic::new(name);
        let agent_error = (topic.clone(), self.group.clone(), ConsumerErrorType::AgentError);
        let _born = self.errors.get(&agent_error);
        self.records.get(&(topic, self.group.clone()))
    }

    pub(crate) fn rebalanced(&self) {
        self.rebalances.inc();
    }

    /// `topic` is empty where the failure is not about one.
    pub(crate) fn failed(&self, topic: &str, error_type: ConsumerErrorType) {
        self.errors
            .get(&(Topic::new(topic), self.group.clone(), error_type))
            .inc();
    }
}
