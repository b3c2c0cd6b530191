//! Partitions that come and go, what is committed meanwhile, and leaving the group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::super::ConsumeError;
use super::super::assignment::{self, Position, Slot};
use super::super::builder::{Rebalance, RebalanceKind, TopicPartition};
use super::{CALL_LIMIT, Poller, places};
use crate::config::Commits;
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

    pub(super) fn revoked(&mut self, partitions: &[(String, i32)]) -> Result<(), ConsumeError> {
        let is_lost = self.shared.base.assignment_lost();
        let kind = if is_lost {
            RebalanceKind::Lost
        } else {
            RebalanceKind::Revoked
        };
        self.tell(kind, partitions);
        let committed = if is_lost { Ok(()) } else { self.commit() };
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

    pub(super) fn commit_asked(&mut self) -> Result<(), ConsumeError> {
        if self.shared.commits == Commits::InTransactions {
            return Err(ConsumeError::CommitsInTransactions {
                group: self.shared.group.clone(),
            });
        }
        self.commit()
    }

    /// Commits what is processed; nothing where transactions do.
    pub(super) fn commit(&mut self) -> Result<(), ConsumeError> {
        if self.shared.commits == Commits::InTransactions {
            return Ok(());
        }
        let positions = self.shared.assignment.uncommitted();
        if positions.is_empty() {
            return Ok(());
        }
        let list = assignment::list(&positions);
        let Err(error) = self.shared.base.commit(&list, CommitMode::Sync) else {
            positions.iter().for_each(Position::is_committed);
            return Ok(());
        };
        let code = ErrorCode::from(&error);
        let first = positions[0].topic();
        let of_one_topic = positions.iter().all(|position| position.topic() == first);
        let topic = if of_one_topic { &**first } else { "" };
        let error_type = ConsumerErrorType::of(code);
        self.metrics.failed(topic, error_type);
        let group = self.shared.group.clone();
        let is_unknown =
            error_type == ConsumerErrorType::TimedOut || code.known() == Some(Code::BrokerTransportFailure);
        Err(if is_unknown {
            ConsumeError::CommitUnknown { group, code }
        } else {
            ConsumeError::Commit { group, code }
        })
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
                return Err(ConsumeError::CloseTimedOut {
                    group: self.shared.group.clone(),
                });
            }
            let Some(event) = queue.poll(left.min(Duration::from_millis(100))) else {
                continue;
            };
            match event.kind() {
                Kind::Revoked => outcome = outcome.and(self.revoked(&event.partitions())),
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
