//! The partitions that are a consumer's now, and how far it is in each.
//!
//! A partition's [`Slot`] lives from its assignment to its revocation, or to a seek: then it is dead, and a new
//! one stands in its place. Every record holds the slot it came through. So a record that belongs to an earlier
//! assignment is recognised wherever it is, without anybody searching for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use rdkafka::{Offset, TopicPartitionList};
use streamhouse_observability::Counter;

use super::TopicPartition;

/// No offset yet.
const NONE: i64 = -1;

/// One partition while it is ours.
pub(crate) struct Slot {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// The first record that came.
    first: AtomicI64,
    /// The offset after the last record that the program has processed.
    processed: AtomicI64,
    /// As the group has it.
    committed: AtomicI64,
    is_live: AtomicBool,
    is_paused: AtomicBool,
    records: Counter,
}

fn known(offset: &AtomicI64) -> Option<i64> {
    let offset = offset.load(Ordering::Acquire);
    (offset != NONE).then_some(offset)
}

impl Slot {
    pub(crate) fn new(topic: Arc<str>, partition: i32, records: Counter) -> Arc<Self> {
        Arc::new(Self {
            topic,
            partition,
            first: AtomicI64::new(NONE),
            processed: AtomicI64::new(NONE),
            committed: AtomicI64::new(NONE),
            is_live: AtomicBool::new(true),
            is_paused: AtomicBool::new(false),
            records,
        })
    }

    pub(super) fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Acquire)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Acquire)
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.is_paused.store(paused, Ordering::Release);
    }

    /// A record of this offset came.
    pub(super) fn came(&self, offset: i64) {
        let _ = self
            .first
            .compare_exchange(NONE, offset, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// One more record is the program's.
    pub(crate) fn handed_out(&self) {
        self.records.inc();
    }

    /// The program has processed this record and all before it; false when it is not ours to say any more.
    pub(super) fn processed(&self, offset: i64) -> bool {
        if !self.is_live() {
            return false;
        }
        self.processed.fetch_max(offset + 1, Ordering::AcqRel);
        true
    }

    pub(super) fn is_committed(&self, offset: i64) {
        self.committed.store(offset, Ordering::Release);
    }

    /// What is processed and not committed.
    fn uncommitted(&self) -> Option<i64> {
        known(&self.processed).filter(|processed| known(&self.committed) != Some(*processed))
    }

    /// How far the program is: the next record it has to process, as far as that can be known.
    pub(super) fn position(&self) -> Option<i64> {
        known(&self.processed).or_else(|| self.start())
    }

    /// Where a new member would begin, if it is known.
    fn start(&self) -> Option<i64> {
        known(&self.committed).or_else(|| known(&self.first))
    }
}

/// How far a partition may be committed.
pub(crate) struct Position {
    slot: Arc<Slot>,
    offset: i64,
}

impl Position {
    pub(crate) fn is_committed(&self) {
        self.slot.is_committed(self.offset);
    }

    pub(super) fn topic(&self) -> &Arc<str> {
        &self.slot.topic
    }

    pub(super) fn partition(&self) -> i32 {
        self.slot.partition
    }

    pub(super) fn offset(&self) -> i64 {
        self.offset
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

/// Positions as librdkafka takes them.
pub(super) fn list(positions: &[Position]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for Position { slot, offset } in positions {
        // Only an offset that no log has is refused, and none of ours is.
        let _ = list.add_partition_offset(&slot.topic, slot.partition, Offset::Offset(*offset));
    }
    list
}

type Key = (Arc<str>, i32);

/// All of them. The lock is held for look-ups only; records find their slot through the poller's memory of the
/// last one.
#[derive(Default)]
pub(crate) struct Assignment(Mutex<BTreeMap<Key, Arc<Slot>>>);

impl Assignment {
    pub(super) fn insert(&self, slot: Arc<Slot>) {
        let key = (slot.topic.clone(), slot.partition);
        if let Some(earlier) = self.0.lock().insert(key, slot) {
            earlier.is_live.store(false, Ordering::Release);
        }
    }

    /// Takes it away.
    pub(super) fn remove(&self, topic: &str, partition: i32) {
        if let Some(slot) = self.0.lock().remove(&(Arc::from(topic), partition)) {
            slot.is_live.store(false, Ordering::Release);
        }
    }

    /// Takes all away.
    pub(super) fn clear(&self) {
        for slot in std::mem::take(&mut *self.0.lock()).values() {
            slot.is_live.store(false, Ordering::Release);
        }
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<Arc<Slot>> {
        self.0.lock().get(&(Arc::from(topic), partition)).cloned()
    }

    /// A new slot in the place of this one, which knows what is committed and nothing else.
    pub(super) fn renew(&self, old: &Arc<Slot>) -> Arc<Slot> {
        let slot = Slot::new(old.topic.clone(), old.partition, old.records.clone());
        slot.set_paused(old.is_paused());
        slot.committed
            .store(old.committed.load(Ordering::Acquire), Ordering::Release);
        self.insert(slot.clone());
        slot
    }

    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        self.0.lock().values().cloned().collect()
    }

    pub(super) fn places(&self) -> Vec<TopicPartition> {
        let slots = self.0.lock();
        let place = |(topic, partition): &Key| TopicPartition::new(topic, *partition);
        slots.keys().map(place).collect()
    }

    /// What is processed and not committed.
    pub(super) fn uncommitted(&self) -> Vec<Position> {
        self.positions(Slot::uncommitted)
    }

    /// Where to go back to: what is committed, else the first record that came; not where none came.
    pub(super) fn starts(&self) -> Vec<Position> {
        self.positions(|slot| known(&slot.first).and(slot.start()))
    }

    fn positions(&self, offset: impl Fn(&Slot) -> Option<i64>) -> Vec<Position> {
        let slots = self.slots();
        let position = |slot: Arc<Slot>| offset(&slot).map(|offset| Position { slot, offset });
        slots.into_iter().filter_map(position).collect()
    }
}

#[cfg(test)]
mod tests {
    use streamhouse_observability::registry::{Family, Registry};

    use super::*;

    fn slot(partition: i32) -> Arc<Slot> {
        let records: Family<(), Counter> = Registry::new(10).family("r_total", "R.", ());
        Slot::new(Arc::from("t"), partition, records.get(&()))
    }

    fn offsets(positions: &[Position]) -> Vec<(i32, i64)> {
        positions
            .iter()
            .map(|position| (position.slot.partition, position.offset))
            .collect()
    }

    #[test]
    fn only_what_is_processed_is_to_be_committed_and_only_once() {
        let assignment = Assignment::default();
        let (zero, one) = (slot(0), slot(1));
        assignment.insert(zero.clone());
        assignment.insert(one.clone());
        zero.came(5);
        one.came(0);
        assert_eq!(offsets(&assignment.uncommitted()), []);

        assert!(zero.processed(6));
        // An earlier record that is marked later takes nothing back.
        assert!(zero.processed(5));
        let uncommitted = assignment.uncommitted();
        assert_eq!(offsets(&uncommitted), [(0, 7)]);
        uncommitted[0].is_committed();
        assert_eq!(offsets(&assignment.uncommitted()), []);
        assert!(zero.processed(9));
        assert_eq!(offsets(&assignment.uncommitted()), [(0, 10)]);
    }

    #[test]
    fn a_mark_after_the_partition_was_taken_away_or_given_again_is_refused() {
        let assignment = Assignment::default();
        let first = slot(0);
        assignment.insert(first.clone());
        assignment.remove("t", 1);
        assert!(first.processed(3));
        assignment.remove("t", 0);
        assert!(!first.processed(3));
        let second = slot(0);
        assignment.insert(second.clone());
        assert!(!first.processed(3));
        assert!(second.processed(3));
        assert_eq!(offsets(&assignment.uncommitted()), [(0, 4)]);
        assignment.clear();
        assert!(!second.processed(4));
        assert!(assignment.places().is_empty());
    }

    #[test]
    fn a_seek_forgets_what_was_processed_but_not_what_is_committed() {
        let assignment = Assignment::default();
        let old = slot(0);
        assignment.insert(old.clone());
        old.is_committed(5);
        old.processed(8);
        old.set_paused(true);
        let new = assignment.renew(&old);
        assert!(!old.is_live() && new.is_live() && new.is_paused());
        assert_eq!(offsets(&assignment.uncommitted()), []);
        assert_eq!(new.position(), Some(5));
        // Going back below what is committed commits less, which is what was asked for.
        assert!(new.processed(2));
        assert_eq!(offsets(&assignment.uncommitted()), [(0, 3)]);
    }

    #[test]
    fn going_back_leads_to_what_is_committed_else_to_the_first_record() {
        let assignment = Assignment::default();
        let (committed, fresh, untouched) = (slot(0), slot(1), slot(2));
        for slot in [&committed, &fresh, &untouched] {
            assignment.insert(slot.clone());
        }
        committed.is_committed(7);
        committed.came(7);
        fresh.came(3);
        fresh.came(4);
        assert_eq!(offsets(&assignment.starts()), [(0, 7), (1, 3)]);
        assert_eq!(untouched.position(), None);
        assert_eq!(fresh.position(), Some(3));
    }
}
