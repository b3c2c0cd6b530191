//! Pausing, seeking and going back: what the program orders of partitions that are its own.

use std::sync::Arc;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::super::ConsumeError;
use super::super::assignment::{self, Slot};
use super::super::builder::TopicPartition;
use super::{CALL_LIMIT, Poller, places};

impl Poller {
    pub(super) fn owned(&self, place: &TopicPartition) -> Result<Arc<Slot>, ConsumeError> {
        let slot = self.shared.assignment.get(&place.topic, place.partition);
        slot.ok_or_else(|| ConsumeError::NotAssigned {
            topic: place.topic.clone(),
            partition: place.partition,
        })
    }

    pub(super) fn pause(&mut self, place: &TopicPartition, paused: bool) -> Result<(), ConsumeError> {
        let slot = self.owned(place)?;
        let list = places(&[(place.topic.clone(), place.partition)]);
        let base = &self.shared.base;
        let done = if paused {
            base.pause(&list)
        } else {
            base.resume(&list)
        };
        done.map_err(|error| refused(place, &error))?;
        slot.set_paused(paused);
        Ok(())
    }

    pub(super) fn seek(&mut self, place: &TopicPartition, offset: i64) -> Result<(), ConsumeError> {
        let slot = self.owned(place)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&place.topic, place.partition, Offset::Offset(offset))
            .map_err(|error| refused(place, &error))?;
        self.go_to(list, &[slot]).map_err(|error| refused(place, &error))
    }

    /// Asks the group, which may know more than we: a transaction whose commit nobody answered. Offsets of one
    /// that is not decided yet are waited for.
    pub(super) fn rewind(&mut self) -> Result<(), ConsumeError> {
        let group = self.shared.group.clone();
        let refused = move |error: &KafkaError| ConsumeError::Rewind {
            group: group.clone(),
            reason: error.to_string(),
        };
        let began = assignment::list(&self.shared.assignment.starts());
        if began.count() == 0 {
            return Ok(());
        }
        self.ask_committed(began).map_err(|error| refused(&error))?;
        let starts = self.shared.assignment.starts();
        let slots: Vec<_> = starts.iter().map(|start| start.slot().clone()).collect();
        let moved = self.go_to(assignment::list(&starts), &slots);
        moved.map_err(|error| refused(&error))
    }

    /// Records that came before are dead from here on, wherever they are.
    pub(super) fn go_to(&mut self, list: TopicPartitionList, slots: &[Arc<Slot>]) -> Result<(), KafkaError> {
        let list = self.shared.base.seek_partitions(list, CALL_LIMIT)?;
        for place in list.elements() {
            place.error()?;
        }
        for slot in slots {
            self.shared.assignment.renew(slot);
        }
        self.last = None;
        Ok(())
    }
}

fn refused(place: &TopicPartition, error: &KafkaError) -> ConsumeError {
    ConsumeError::Refused {
        topic: place.topic.clone(),
        partition: place.partition,
        reason: error.to_string(),
    }
}
