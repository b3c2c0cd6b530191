//! Partitions that come and go, and leaving the group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{Consumer as _, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::super::ConsumeError;
use super::super::assignment::Slot;
use super::super::builder::{Rebalance, RebalanceKind, TopicPartition};
use super::{CALL_LIMIT, Poller, places};
use crate::error::ErrorCode;
use crate::log;
use crate::metrics::ConsumerErrorType;
use crate::native::{EventQueue, Kind};

impl Poller {
    pub(super) fn assigned(&mut self, partitions: &[(String, i32)]) {
        self.metrics.rebalanced();
        let list = places(partitions);
        for (topic, partition) in partitions {
            let records = self.metrics.topic(topic);
            let slot = Slot::new(Arc::from(topic.as_str()), *partition, records);
            self.shared.assignment.insert(slot);
        }
        let base = &self.shared.base;
        let assigned = match base.rebalance_protocol() {
            RebalanceProtocol::Cooperative => base.incremental_assign(&list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => base.assign(&list),
        };
        if let Err(error) = assigned {
            tracing::warn!(consumer_group = %self.shared.group, %error, "assignment");
        }
        self.learn_committed(list);
        self.tell(RebalanceKind::Assigned, partitions);
    }

    /// What the group has committed: from there on lag is counted, and thither a rewind goes.
    pub(super) fn learn_committed(&mut self, list: TopicPartitionList) {
        if list.count() == 0 {
            return;
        }
        if let Err(error) = self.ask_committed(list) {
            self.metrics
                .failed("", ConsumerErrorType::of(ErrorCode::from(&error)));
            tracing::warn!(consumer_group = %self.shared.group, %error, "committed offsets");
        }
    }

    pub(super) fn ask_committed(&self, list: TopicPartitionList) -> Result<(), KafkaError> {
        let list = self.shared.base.committed_offsets(list, CALL_LIMIT)?;
        for place in list.elements() {
            place.error()?;
            let slot = self.shared.assignment.get(place.topic(), place.partition());
            if let (Some(slot), Offset::Offset(offset)) = (slot, place.offset()) {
                slot.is_committed(offset);
            }
        }
        Ok(())
    }

    /// What is processed is committed first; that may take until then. Whatever became of it, the partitions go.
    pub(super) fn revoked(
        &mut self,
        partitions: &[(String, i32)],
        until: Option<Instant>,
    ) -> Result<(), ConsumeError> {
        let is_lost = self.shared.base.assignment_lost();
        let kind = if is_lost {
            RebalanceKind::Lost
        } else {
            RebalanceKind::Revoked
        };
        self.tell(kind, partitions);
        let committed = if is_lost { Ok(()) } else { self.commit(until) };
        let base = &self.shared.base;
        let unassigned = match base.rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                for (topic, partition) in partitions {
                    self.shared.assignment.remove(topic, *partition);
                }
                base.incremental_unassign(&places(partitions))
            }
            // Everything goes, whatever the list says: an error has none.
            RebalanceProtocol::Eager | RebalanceProtocol::None => {
                self.shared.assignment.clear();
                base.unassign()
            }
        };
        if let Err(error) = unassigned {
            tracing::warn!(consumer_group = %self.shared.group, %error, "revocation");
        }
        committed
    }

    pub(super) fn tell(&mut self, kind: RebalanceKind, partitions: &[(String, i32)]) {
        tracing::debug!(consumer_group = %self.shared.group, ?kind, ?partitions, "rebalance");
        let Some(hook) = &mut self.hook else { return };
        let place = |(topic, partition): &(String, i32)| TopicPartition::new(topic, *partition);
        hook(&Rebalance {
            kind,
            partitions: partitions.iter().map(place).collect(),
        });
    }

    /// Leaves the group. The partitions are taken away first, as in any rebalance, and so are committed.
    pub(super) fn close(&mut self, queue: &EventQueue<'_>, limit: Duration) -> Result<(), ConsumeError> {
        let until = Instant::now() + limit;
        let mut outcome = Ok(());
        if let Err(error) = self.shared.base.close_queue() {
            tracing::warn!(consumer_group = %self.shared.group, %error, "close");
        }
        while !self.shared.base.closed() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // That a commit failed says more than that nobody knows that we are gone.
                return outcome.and(Err(ConsumeError::CloseTimedOut {
                    group: self.shared.group.clone(),
                }));
            }
            let Some(event) = queue.poll(left.min(Duration::from_millis(100))) else {
                continue;
            };
            match event.kind() {
                Kind::Revoked => outcome = outcome.and(self.revoked(&event.partitions(), Some(until))),
                Kind::Assigned => self.assigned(&event.partitions()),
                // Records that come now stay uncommitted, and go to whoever is next.
                Kind::Fetch | Kind::Error | Kind::Delivery | Kind::Other => {}
                Kind::Log => {
                    let line = event.log_line();
                    log::line(line.level, &line.facility, &line.text);
                }
            }
        }
        outcome
    }
}
