//! New objects on their way into the store: their rows, the commit row that names their segments, and
//! then memory. Agents' commits and the markers of transactions come this way.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::commit::signed;
use super::encoding::{Delta, DeltaSegment, SegmentKeys, encode};
use super::hot::{Hot, NOBODY, RecentObject};
use super::writer::Writer;
use crate::ids::{IdMap, IncarnationId, ObjectId, ObjectName, StoreTime, TopicPartition};
use crate::model::commit::{CommitObject, ObjectOutcomes};
use crate::model::object::{Amount, ObjectLocation};
use crate::model::segment::{NewSegment, Segment};
use crate::store::StoreError;

/// Pages that a commit dirties besides its blobs, in bytes, for the estimate of the log's growth.
const PAGES_PER_COMMIT_BYTES: usize = 6 * 4096;

/// A new object with its row number and the rows that name it.
pub(super) struct Placed<'a> {
    pub(super) id: i64,
    pub(super) object: &'a CommitObject,
    pub(super) segments: &'a [NewSegment],
}

impl Placed<'_> {
    fn length_bytes(&self) -> u64 {
        self.object
            .payload
            .as_ref()
            .map_or(self.object.length_bytes, |payload| payload.len() as u64)
    }
}

/// A commit row to be.
pub(super) struct CommitRow<'a> {
    pub(super) incarnation: IncarnationId,
    pub(super) number: u64,
    pub(super) lowest_undecided: u64,
    pub(super) outcomes: &'a [ObjectOutcomes],
    pub(super) delta: &'a Delta,
    pub(super) now: StoreTime,
}

/// The segment rows of new objects, as they wait in the commit row.
pub(super) fn delta_segments(placed: &[Placed<'_>], rows: &IdMap<TopicPartition, i64>) -> Vec<DeltaSegment> {
    let segments = placed
        .iter()
        .flat_map(|placed| placed.segments.iter().map(|segment| (placed.id, segment)));
    segments
        .map(|(object, segment)| DeltaSegment {
            partition_row: rows[&segment.partition],
            object,
            base_offset: segment.base_offset,
            record_count: segment.record_count,
            position: segment.position,
            length_bytes: segment.length_bytes,
            max_timestamp: segment.max_timestamp,
            running_above: segment.running_max_timestamp.wrapping_sub(segment.max_timestamp),
        })
        .collect()
}

impl Writer {
    /// Writes objects and their commit row within the caller's transaction; about how many bytes.
    pub(super) fn insert_commit(
        &self,
        tx: &Connection,
        commit: &CommitRow<'_>,
        placed: &[Placed<'_>],
        rows: &IdMap<TopicPartition, i64>,
    ) -> Result<usize, StoreError> {
        let now = commit.now;
        let delta = encode(commit.delta)?;
        let outcomes = encode(&commit.outcomes)?;
        let incarnation = commit.incarnation.0.as_bytes();
        let mut written = PAGES_PER_COMMIT_BYTES + delta.len() + outcomes.len();
        let mut insert_object = tx.prepare_cached(
            "INSERT INTO objects (id, incarnation, counter, inline, length, live_segments, created_at, \
             deleting_since) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let mut insert_inline =
            tx.prepare_cached("INSERT INTO inline_objects (id, segments, payload) VALUES (?1, ?2, ?3)")?;
        for placed @ Placed { id, object, segments } in placed {
            let deleting_since = segments.is_empty().then_some(now.0);
            insert_object.execute(params![
                id,
                incarnation,
                signed(object.counter),
                object.payload.is_some(),
                signed(placed.length_bytes()),
                segments.len() as i64,
                now.0,
                deleting_since,
            ])?;
            if let Some(payload) = &object.payload {
                let keys: SegmentKeys = segments
                    .iter()
                    .map(|s| (rows[&s.partition], s.base_offset))
                    .collect();
                insert_inline.execute(params![id, encode(&keys)?, &payload[..]])?;
                written += payload.len();
            }
        }
        let mut insert_commit = tx.prepare_cached(
            "INSERT INTO commits (id, incarnation, number, committed_at, lowest_undecided, outcomes, \
             delta) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        insert_commit.execute(params![
            self.next_commit,
            incarnation,
            signed(commit.number),
            now.0,
            signed(commit.lowest_undecided),
            outcomes,
            delta,
        ])?;
        Ok(written)
    }

    /// Shows what [`Writer::insert_commit`] wrote, once it is durable.
    pub(super) fn publish_commit(
        &mut self,
        hot: &mut Hot,
        incarnation: IncarnationId,
        placed: &[Placed<'_>],
        now: StoreTime,
    ) {
        for placed @ Placed { id, object, segments } in placed {
            let inline = object.payload.is_some();
            let name = ObjectName {
                incarnation,
                counter: object.counter,
            };
            let id = ObjectId(*id);
            let location = ObjectLocation {
                id,
                name,
                inline,
                length_bytes: placed.length_bytes(),
            };
            if !segments.is_empty() {
                let count = u32::try_from(segments.len()).unwrap_or(u32::MAX);
                hot.recent_objects.insert(
                    id,
                    RecentObject {
                        location,
                        segments: count,
                    },
                );
            }
            for segment in *segments {
                self.dirty.insert(segment.partition);
                hot.push_recent(recent(segment, id), incarnation != NOBODY);
            }
            if let Some(payload) = &object.payload {
                hot.inline.objects += 1;
                hot.inline.bytes += payload.len() as u64;
                hot.inline.oldest.get_or_insert(now);
            } else {
                let amount = Amount {
                    objects: 1,
                    bytes: placed.length_bytes(),
                };
                match segments.is_empty() {
                    true => hot.deleting.add(amount),
                    false => hot.stored.add(amount),
                }
            }
        }
        self.trim.committed(now);
        self.next_object += placed.len() as i64;
        self.next_commit += 1;
    }

    /// Whether the markers of one more transaction have room among the inline objects.
    pub(super) fn may_begin(&self) -> bool {
        let shared = Arc::clone(&self.shared);
        shared.hot.read().inline.bytes < shared.options.inline_total_max
    }
}

fn recent(segment: &NewSegment, object: ObjectId) -> Segment {
    Segment {
        partition: segment.partition,
        base_offset: segment.base_offset,
        last_offset: segment.last_offset,
        object,
        position: segment.position,
        length_bytes: segment.length_bytes,
        record_count: segment.record_count,
        max_timestamp: segment.max_timestamp,
        running_max_timestamp: segment.running_max_timestamp,
        committed_at: segment.committed_at,
    }
}
