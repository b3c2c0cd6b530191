//! What was committed last, in memory: tail reads touch no store. Also the bell for fetches that wait.
//!
//! Per partition a run of batches without holes; a commit that does not follow it starts a new run, so
//! a hole is a miss (TRACES 1). All runs together are bounded in bytes; the oldest batches go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::partition::PartitionSnapshot;
use streamhouse_metadata::store::transactions::WrittenMarker;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::batch::AdmittedBatch;

/// What a batch costs beyond its bytes.
const OVERHEAD_BYTES: usize = 96;

/// A fetch that waits for any of its partitions.
#[derive(Debug, Default)]
pub(super) struct Waiter {
    bell: Notify,
    rung_at: Mutex<Option<Instant>>,
}

impl Waiter {
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// When a commit rang first.
    pub(super) fn rung_at(&self) -> Option<Instant> {
        *self.rung_at.lock()
    }

    fn ring(&self, now: Instant) {
        self.rung_at.lock().get_or_insert(now);
        self.bell.notify_one();
    }
}

#[derive(Debug)]
struct TailBatch {
    base_offset: i64,
    records: i64,
    bytes: Bytes,
}

#[derive(Debug, Default)]
struct Run {
    batches: VecDeque<TailBatch>,
    /// One past the last batch, once there was one.
    end_offset: i64,
    log_start_offset: i64,
    /// A transaction wrote here: what is stable, only the store can say.
    transactional: bool,
    waiters: Vec<Weak<Waiter>>,
}

impl Run {
    /// Batches from the one that holds `offset` on that begin before `end`: up to `bytes_max`, at least one.
    fn from(&self, offset: i64, end: i64, bytes_max: usize) -> Option<Vec<(i64, Bytes)>> {
        let held = self.batches.front()?.base_offset.max(self.log_start_offset)..self.end_offset.min(end);
        if !held.contains(&offset) {
            return None;
        }
        let first = self
            .batches
            .partition_point(|batch| batch.base_offset + batch.records <= offset);
        let mut bytes = 0;
        let mut batches = Vec::new();
        for batch in self.batches.range(first..) {
            let full = !batches.is_empty() && bytes + batch.bytes.len() > bytes_max;
            if full || batch.base_offset >= end {
                break;
            }
            bytes += batch.bytes.len();
            batches.push((batch.base_offset, batch.bytes.clone()));
        }
        Some(batches)
    }
}

type Partition = Arc<Mutex<Run>>;

/// The batches of all partitions in the order of their commits.
#[derive(Debug, Default)]
struct Order {
    entries: VecDeque<(Partition, i64, usize)>,
    bytes: usize,
}

/// See the module's head. Shared by writer and reader.
#[derive(Debug)]
pub struct Tail {
    partitions: RwLock<HashMap<TopicPartition, Partition>>,
    order: Mutex<Order>,
    bytes_max: usize,
    leader_epoch: i32,
}

impl Tail {
    /// `leader_epoch` is the cluster's epoch: constant while the process lives.
    #[must_use]
    pub fn new(bytes_max: u64, leader_epoch: i32) -> Self {
        Self {
            partitions: RwLock::default(),
            order: Mutex::default(),
            bytes_max: bytes_max as usize,
            leader_epoch,
        }
    }

    /// Adds a committed batch and rings for who waits on its partition.
    pub(crate) fn append(
        &self,
        partition: TopicPartition,
        base_offset: i64,
        log_start_offset: i64,
        batch: &AdmittedBatch,
    ) {
        let added = TailBatch {
            base_offset,
            records: i64::from(batch.header.record_count),
            bytes: batch.bytes.clone(),
        };
        self.push(
            partition,
            log_start_offset,
            added,
            batch.header.is_transactional(),
        );
    }

    /// Adds the markers of a transaction that has ended, and rings likewise.
    pub fn append_markers(&self, markers: &[WrittenMarker]) {
        for marker in markers {
            let added = TailBatch {
                base_offset: marker.offset,
                records: 1,
                bytes: marker.batch.clone(),
            };
            self.push(marker.partition, 0, added, true);
        }
    }

    fn push(&self, partition: TopicPartition, log_start_offset: i64, added: TailBatch, transactional: bool) {
        let run = self.partition(partition);
        let (base_offset, length) = (added.base_offset, added.bytes.len());
        let waiters = {
            let mut locked = run.lock();
            locked.transactional |= transactional;
            if base_offset < locked.end_offset && !locked.batches.is_empty() {
                return; // older than what is known: nothing to add
            }
            if base_offset != locked.end_offset {
                locked.batches.clear();
            }
            locked.end_offset = base_offset + added.records;
            locked.log_start_offset = locked.log_start_offset.max(log_start_offset);
            locked.batches.push_back(added);
            std::mem::take(&mut locked.waiters)
        };
        let now = Instant::now();
        for waiter in waiters.iter().filter_map(Weak::upgrade) {
            waiter.ring(now);
        }
        self.charge(run, base_offset, length + OVERHEAD_BYTES);
    }

    fn charge(&self, run: Partition, base_offset: i64, bytes: usize) {
        let mut order = self.order.lock();
        order.bytes += bytes;
        order.entries.push_back((run, base_offset, bytes));
        while order.bytes > self.bytes_max {
            let Some((run, base_offset, bytes)) = order.entries.pop_front() else {
                break;
            };
            order.bytes -= bytes;
            let mut run = run.lock();
            // Two who push at the same time may charge in the other order: what is older goes as well.
            while run
                .batches
                .front()
                .is_some_and(|batch| batch.base_offset <= base_offset)
            {
                run.batches.pop_front();
            }
        }
    }

    fn partition(&self, partition: TopicPartition) -> Partition {
        if let Some(run) = self.partitions.read().get(&partition) {
            return run.clone();
        }
        self.partitions.write().entry(partition).or_default().clone()
    }

    /// Batches from the one that holds `offset` on, up to `bytes_max` but at least one; `None` where the
    /// tail does not hold that offset, and in a log that transactions write: see [`Tail::batches`].
    pub(super) fn read(
        &self,
        partition: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> Option<(PartitionSnapshot, Vec<(i64, Bytes)>)> {
        let run = self.partitions.read().get(&partition)?.clone();
        let run = run.lock();
        if run.transactional {
            return None;
        }
        let batches = run.from(offset, run.end_offset, bytes_max)?;
        let snapshot = PartitionSnapshot {
            log_start_offset: run.log_start_offset,
            high_watermark: run.end_offset,
            last_stable_offset: run.end_offset,
            leader_epoch: self.leader_epoch,
        };
        Some((snapshot, batches))
    }

    /// The same without a snapshot, which the caller got from the store before: batches that begin before
    /// `end`, in any log.
    pub(super) fn batches(
        &self,
        partition: TopicPartition,
        offset: i64,
        end: i64,
        bytes_max: usize,
    ) -> Option<Vec<(i64, Bytes)>> {
        let run = self.partitions.read().get(&partition)?.clone();
        let run = run.lock();
        run.from(offset, end, bytes_max)
    }

    /// The partition's log begins at `offset` now: nothing below it is served any more, also not from
    /// batches whose commit was answered before and which arrive here only now (TRACES 2, 3).
    pub fn raise_log_start(&self, partition: TopicPartition, offset: i64) {
        let run = self.partition(partition);
        let mut run = run.lock();
        run.log_start_offset = run.log_start_offset.max(offset);
        while run
            .batches
            .front()
            .is_some_and(|batch| batch.base_offset + batch.records <= offset)
        {
            run.batches.pop_front();
        }
    }

    /// Has `waiter` rung at the next commit to any of the partitions; dropping it ends that.
    pub(super) fn wait_on(&self, partitions: impl Iterator<Item = TopicPartition>, waiter: &Arc<Waiter>) {
        for partition in partitions {
            let run = self.partition(partition);
            let mut run = run.lock();
            run.waiters.retain(|waiter| waiter.strong_count() > 0);
            run.waiters.push(Arc::downgrade(waiter));
        }
    }

    /// Drops what is held of a deleted topic and rings for who waits on it.
    pub fn forget(&self, topic: TopicId) {
        let mut gone = Vec::new();
        self.partitions.write().retain(|partition, run| {
            let keep = partition.topic != topic;
            if !keep {
                gone.push(run.clone());
            }
            keep
        });
        let now = Instant::now();
        for run in gone {
            let mut run = run.lock();
            run.batches.clear();
            for waiter in std::mem::take(&mut run.waiters).iter().filter_map(Weak::upgrade) {
                waiter.ring(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_offset: i64) -> TailBatch {
        TailBatch {
            base_offset,
            records: 1,
            bytes: Bytes::new(),
        }
    }

    #[test]
    fn what_is_charged_in_another_order_than_it_was_pushed_goes_all_the_same() {
        let tail = Tail::new(200, 0);
        let partition = |partition| TopicPartition {
            topic: TopicId(uuid::Uuid::from_u128(1)),
            partition,
        };
        let run = tail.partition(partition(0));
        run.lock().batches.extend([batch(0), batch(1)]);
        tail.charge(run.clone(), 1, 100);
        tail.charge(run.clone(), 0, 100);
        assert_eq!(run.lock().batches.len(), 2);
        tail.charge(tail.partition(partition(1)), 0, 150);
        assert!(run.lock().batches.is_empty(), "nothing accounts for it any more");
    }
}
