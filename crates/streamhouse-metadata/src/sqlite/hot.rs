//! What the store knows by heart: the state after the newest commit, which no query has to fetch.
//!
//! Only the writer thread changes it, and only after SQLite has committed: what is read here is durable.
//! Segments that are not merged into the ordered table yet lie in `recent`, per partition, without a gap
//! behind the table's last one. Not here: old segments, payloads, producers (the writer's own).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use crate::ids::{IdMap, IncarnationId, ObjectId, StoreTime, TopicId, TopicPartition};
use crate::model::client_metrics::ClientMetrics;
use crate::model::object::{Amount, InlineBacklog, ObjectLocation, StorageUsage};
use crate::model::partition::PartitionSnapshot;
use crate::model::quota::ClientQuotas;
use crate::model::segment::{LocatedSegment, Segment};
use crate::model::topic::{Topic, topic_name_key};
use crate::model::transaction::{Transaction, TransactionPhase};
use crate::rules::append::PartitionState;

/// Markers of transactions belong to no agent: their objects have this incarnation.
pub(super) const NOBODY: IncarnationId = IncarnationId(Uuid::nil());

#[derive(Debug)]
pub(super) struct Partition {
    /// Its row number.
    pub(super) row: i64,
    /// False once its topic is marked deleted: nobody may see it, its rows are still to be removed.
    pub(super) live: bool,
    pub(super) state: PartitionState,
    /// The largest timestamp of what is merged.
    pub(super) merged_max_timestamp: i64,
    /// Bytes of all segments that have a row, merged or not.
    pub(super) size_bytes: u64,
    /// Not merged yet, oldest first.
    pub(super) recent: VecDeque<Segment>,
    /// First offset and producer id of each transaction that is open here.
    pub(super) open: BTreeSet<(i64, i64)>,
    /// One past the last record: beyond it are markers of transactions alone, which nobody consumes.
    pub(super) records_end: i64,
    /// One past the newest ABORT marker that still has a row; 0 without any.
    pub(super) aborted_end: i64,
}

impl Partition {
    /// Up to where a reader of committed records may read.
    pub(super) fn last_stable_offset(&self) -> i64 {
        let first = self
            .open
            .first()
            .map_or(self.state.high_watermark, |(first, _)| *first);
        first.max(self.state.log_start_offset)
    }

    /// One past the last offset that the ordered table holds.
    pub(super) fn merged_end(&self) -> i64 {
        self.recent
            .front()
            .map_or(self.state.high_watermark, |s| s.base_offset)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Incarnation {
    pub(super) last_number: u64,
    /// Row of that commit; 0 before the first.
    pub(super) last_commit: i64,
    pub(super) lowest_undecided: u64,
    pub(super) fenced_at: Option<StoreTime>,
    pub(super) swept_at: Option<StoreTime>,
}

/// An object that segments in some `recent` name.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentObject {
    pub(super) location: ObjectLocation,
    pub(super) segments: u32,
}

/// Every transactional id.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    rows: HashMap<String, Arc<Transaction>>,
    of_producer: IdMap<i64, String>,
}

impl Transactions {
    pub(super) fn get(&self, transactional_id: &str) -> Option<&Arc<Transaction>> {
        self.rows.get(transactional_id)
    }

    /// Of the transactional id whose producer has this id now.
    pub(super) fn of_producer(&self, producer_id: i64) -> Option<&Arc<Transaction>> {
        self.rows.get(self.of_producer.get(&producer_id)?)
    }

    pub(super) fn is_open(&self, producer_id: i64) -> bool {
        self.of_producer(producer_id)
            .is_some_and(|row| row.phase == TransactionPhase::Ongoing)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Transaction>> {
        self.rows.values()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn put(&mut self, row: Arc<Transaction>) {
        let producer_id = row.current.producer_id;
        let id = row.transactional_id.clone();
        let before = self.rows.insert(id.clone(), row);
        if let Some(before) = before
            && before.current.producer_id != producer_id
        {
            self.of_producer.remove(&before.current.producer_id);
        }
        self.of_producer.insert(producer_id, id);
    }

    pub(super) fn remove(&mut self, transactional_id: &str) {
        if let Some(row) = self.rows.remove(transactional_id) {
            self.of_producer.remove(&row.current.producer_id);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Hot {
    pub(super) epoch: i32,
    pub(super) topics: HashMap<TopicId, Topic>,
    /// Under [`topic_name_key`], so that names which would collide meet.
    pub(super) names: HashMap<String, TopicId>,
    pub(super) live_partitions: u64,
    pub(super) partitions: IdMap<TopicPartition, Partition>,
    pub(super) partition_of_row: IdMap<i64, TopicPartition>,
    pub(super) incarnations: HashMap<IncarnationId, Incarnation>,
    pub(super) recent_objects: IdMap<ObjectId, RecentObject>,
    pub(super) recent_rows: usize,
    /// Every segment of objects up to this row number is merged.
    pub(super) settled_object: i64,
    pub(super) inline: InlineBacklog,
    /// Stored objects that segments name.
    pub(super) stored: Amount,
    /// Stored objects that nothing names any more and that have a row.
    pub(super) deleting: Amount,
    /// Topics marked deleted whose rows are still there.
    pub(super) deleted_topics: BTreeSet<TopicId>,
    /// Rows of partitions that may have segments below their log's start.
    pub(super) untrimmed: BTreeSet<i64>,
    pub(super) quotas: ClientQuotas,
    pub(super) client_metrics: ClientMetrics,
    pub(super) transactions: Transactions,
}

impl Hot {
    pub(super) fn live(&self, partition: &TopicPartition) -> Option<&Partition> {
        self.partitions.get(partition).filter(|p| p.live)
    }

    pub(super) fn usage(&self) -> StorageUsage {
        StorageUsage {
            live: self.stored,
            inline: Amount {
                objects: self.inline.objects,
                bytes: self.inline.bytes,
            },
            deleting: self.deleting,
            unsettled_segments: self.recent_rows as u64,
            deleted_topics: self.deleted_topics.len() as u64,
            untrimmed_partitions: self.untrimmed.len() as u64,
        }
    }

    /// The live topic of this name or of one that collides with it.
    pub(super) fn topic_like(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.names.get(&topic_name_key(name))?)
    }

    pub(super) fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.topic_like(name).filter(|topic| topic.name == name)
    }

    pub(super) fn snapshot(&self, partition: &Partition) -> PartitionSnapshot {
        PartitionSnapshot {
            log_start_offset: partition.state.log_start_offset,
            high_watermark: partition.state.high_watermark,
            last_stable_offset: partition.last_stable_offset(),
            leader_epoch: self.epoch,
        }
    }

    /// A recent segment and its object, which is known as long as the segment is recent.
    pub(super) fn located(&self, segment: &Segment) -> Option<LocatedSegment> {
        let object = self.recent_objects.get(&segment.object)?;
        Some(LocatedSegment {
            segment: *segment,
            object: object.location,
        })
    }

    /// Whether a recent object holds markers of a transaction and nothing else.
    pub(super) fn is_markers(&self, object: ObjectId) -> bool {
        let object = self.recent_objects.get(&object);
        object.is_some_and(|object| object.location.name.incarnation == NOBODY)
    }

    pub(super) fn add_partition(&mut self, id: TopicPartition, row: i64, live: bool, state: PartitionState) {
        let merged_max_timestamp = state.running_max_timestamp;
        self.partition_of_row.insert(row, id);
        self.partitions.insert(
            id,
            Partition {
                row,
                live,
                state,
                merged_max_timestamp,
                size_bytes: 0,
                recent: VecDeque::new(),
                open: BTreeSet::new(),
                records_end: 0,
                aborted_end: 0,
            },
        );
    }

    /// Takes the new row of a transactional id, and what is open in its partitions.
    pub(super) fn put_transaction(&mut self, row: Arc<Transaction>) {
        if let Some(before) = self.transactions.get(&row.transactional_id).map(Arc::clone) {
            self.mark_open(&before, false);
        }
        self.mark_open(&row, true);
        self.transactions.put(row);
    }

    fn mark_open(&mut self, row: &Transaction, is_open: bool) {
        for (partition, first) in &row.partitions {
            if let (Some(first), Some(partition)) = (first, self.partitions.get_mut(partition)) {
                let key = (*first, row.current.producer_id);
                if is_open {
                    partition.open.insert(key);
                } else {
                    partition.open.remove(&key);
                }
            }
        }
    }

    /// Appends a committed segment, which holds markers only unless it has records.
    pub(super) fn push_recent(&mut self, segment: Segment, has_records: bool) {
        if let Some(partition) = self.partitions.get_mut(&segment.partition) {
            partition.state.high_watermark = segment.last_offset + 1;
            partition.state.running_max_timestamp = segment.running_max_timestamp;
            if has_records {
                partition.records_end = segment.last_offset + 1;
            }
            partition.size_bytes += u64::from(segment.length_bytes);
            partition.recent.push_back(segment);
            self.recent_rows += 1;
        }
    }

    /// Forgets the oldest `count` recent segments of a partition: they are merged now.
    pub(super) fn pop_recent(&mut self, partition: &TopicPartition, count: usize) {
        let Some(partition) = self.partitions.get_mut(partition) else {
            return;
        };
        for segment in partition.recent.drain(..count) {
            partition.merged_max_timestamp = segment.running_max_timestamp;
            self.recent_rows -= 1;
            if let Some(object) = self.recent_objects.get_mut(&segment.object) {
                object.segments -= 1;
                if object.segments == 0 {
                    self.recent_objects.remove(&segment.object);
                }
            }
        }
        if partition.recent.is_empty() {
            partition.recent.shrink_to(4);
        }
    }
}
