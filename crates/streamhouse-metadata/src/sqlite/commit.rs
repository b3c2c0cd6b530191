//! The commit: loads what the rules need from memory, stores what they say in one transaction with one
//! fsync, then publishes it.
//!
//! A commit inserts a row per object and one commit row, however many partitions it holds; its segments
//! wait in that row's `delta` (and in memory) until `settle` merges them. The order of the questions is
//! TRACES 8–10: the stored answer first, then the incarnation, the number, the deadline.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::encoding::{Delta, DeltaSegment, SegmentKeys, decode, encode};
use super::hot::RecentObject;
use super::writer::Writer;
use crate::ids::{IdMap, ObjectId, ObjectName, StoreTime, TopicPartition};
use crate::model::commit::{CommitAnswer, CommitObject, CommitRequest};
use crate::model::object::ObjectLocation;
use crate::model::segment::{NewSegment, Segment};
use crate::rules::append::{AppendStates, Judged, judge};
use crate::store::{CommitError, StoreError};

/// Pages that a commit dirties besides its blobs, in bytes, for the estimate of the log's growth.
const PAGES_PER_COMMIT_BYTES: usize = 6 * 4096;

/// A new object with its row number and the rows that name it.
struct Placed<'a> {
    id: i64,
    object: &'a CommitObject,
    segments: &'a [NewSegment],
}

impl Placed<'_> {
    fn length_bytes(&self) -> u64 {
        self.object
            .payload
            .as_ref()
            .map_or(self.object.length_bytes, |payload| payload.len() as u64)
    }
}

impl Writer {
    pub(super) fn commit(&mut self, request: &CommitRequest) -> Result<CommitAnswer, CommitError> {
        let shared = Arc::clone(&self.shared);
        let fenced = || CommitError::Fenced(request.incarnation);
        let known = *shared
            .hot
            .read()
            .incarnations
            .get(&request.incarnation)
            .ok_or_else(fenced)?;
        if request.number <= known.last_number {
            return self.answered(request);
        }
        if known.fenced_at.is_some() {
            return Err(fenced());
        }
        if request.number != known.last_number + 1 {
            return Err(CommitError::NumberGap {
                last: known.last_number,
                got: request.number,
            });
        }
        let now = shared.now();
        if now > request.valid_until {
            return Err(CommitError::Expired);
        }
        let payloads = request.objects.iter().filter_map(|o| o.payload.as_ref());
        let inline_bytes: u64 = payloads.map(|payload| payload.len() as u64).sum();
        if inline_bytes > 0 && shared.hot.read().inline.bytes + inline_bytes > shared.options.inline_total_max
        {
            return Err(CommitError::InlineFull);
        }

        let (mut states, rows) = self.load_states(request)?;
        let judged = judge(&mut states, &request.objects, now, shared.options.gap_timeout);
        let placed = self.place(request, &judged);
        let delta = self.delta(&placed, &judged, &states, &rows);
        self.store(request, &judged, &placed, &rows, &delta, now)?;
        self.publish(request, &judged, &placed, delta, now);
        Ok(CommitAnswer {
            number: request.number,
            committed_at: now,
            objects: judged.outcomes,
        })
    }

    /// The stored answer of a commit that took effect before.
    fn answered(&self, request: &CommitRequest) -> Result<CommitAnswer, CommitError> {
        let mut select = self.conn.prepare_cached(
            "SELECT committed_at, outcomes FROM commits WHERE incarnation = ?1 AND number = ?2",
        )?;
        let number = i64::try_from(request.number).unwrap_or(i64::MAX);
        let row = select
            .query_row(params![request.incarnation.0.as_bytes(), number], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .optional()?;
        let (committed_at, outcomes) = row.ok_or(CommitError::Forgotten(request.number))?;
        Ok(CommitAnswer {
            number: request.number,
            committed_at: StoreTime(committed_at),
            objects: decode("commit outcomes", &outcomes)?,
        })
    }

    fn load_states(
        &self,
        request: &CommitRequest,
    ) -> Result<(AppendStates, IdMap<TopicPartition, i64>), StoreError> {
        let hot = self.shared.hot.read();
        let mut states = AppendStates::default();
        let mut rows = IdMap::default();
        for batch in request.objects.iter().flat_map(|o| &o.batches) {
            let Some(partition) = hot.live(&batch.partition) else {
                continue;
            };
            states
                .partitions
                .entry(batch.partition)
                .or_insert(partition.state);
            rows.insert(batch.partition, partition.row);
            let Some(stamp) = &batch.producer else { continue };
            let key = (batch.partition, stamp.producer_id);
            if !states.producers.contains_key(&key)
                && let Some(state) = self
                    .producers
                    .load(&self.conn, partition.row, stamp.producer_id)?
            {
                states.producers.insert(key, state);
            }
        }
        Ok((states, rows))
    }

    /// Gives row numbers. An inline object of which nothing was accepted leaves no trace at all: it has
    /// no key that would have to be deleted.
    fn place<'a>(&self, request: &'a CommitRequest, judged: &'a Judged) -> Vec<Placed<'a>> {
        let with_rows = request.objects.iter().zip(&judged.segments);
        let kept = with_rows.filter(|(object, segments)| object.payload.is_none() || !segments.is_empty());
        let numbered = (self.next_object..).zip(kept);
        numbered
            .map(|(id, (object, segments))| Placed { id, object, segments })
            .collect()
    }

    fn delta(
        &self,
        placed: &[Placed<'_>],
        judged: &Judged,
        states: &AppendStates,
        rows: &IdMap<TopicPartition, i64>,
    ) -> Delta {
        let mut delta = Delta::default();
        for object in placed {
            delta
                .segments
                .extend(object.segments.iter().map(|segment| DeltaSegment {
                    partition_row: rows[&segment.partition],
                    object: object.id,
                    base_offset: segment.base_offset,
                    record_count: segment.record_count,
                    position: segment.position,
                    length_bytes: segment.length_bytes,
                    max_timestamp: segment.max_timestamp,
                    running_above: segment.running_max_timestamp.wrapping_sub(segment.max_timestamp),
                }));
        }
        for key in &judged.changed_producers {
            delta
                .producers
                .push((rows[&key.0], key.1, states.producers[key].clone()));
        }
        delta
    }

    fn store(
        &mut self,
        request: &CommitRequest,
        judged: &Judged,
        placed: &[Placed<'_>],
        rows: &IdMap<TopicPartition, i64>,
        delta: &Delta,
        now: StoreTime,
    ) -> Result<(), StoreError> {
        let delta = encode(delta)?;
        let outcomes = encode(&judged.outcomes)?;
        let incarnation = request.incarnation.0.as_bytes();
        let mut written = PAGES_PER_COMMIT_BYTES + delta.len() + outcomes.len();
        let tx = self.conn.unchecked_transaction()?;
        {
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
                signed(request.number),
                now.0,
                signed(request.lowest_undecided),
                outcomes,
                delta,
            ])?;
        }
        tx.commit()?;
        self.wrote(written);
        Ok(())
    }

    fn publish(
        &mut self,
        request: &CommitRequest,
        judged: &Judged,
        placed: &[Placed<'_>],
        delta: Delta,
        now: StoreTime,
    ) {
        let shared = Arc::clone(&self.shared);
        let mut hot = shared.hot.write();
        for placed @ Placed { id, object, segments } in placed {
            let inline = object.payload.is_some();
            let name = ObjectName {
                incarnation: request.incarnation,
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
                hot.push_recent(recent(segment, id));
            }
            if let Some(payload) = &object.payload {
                hot.inline.objects += 1;
                hot.inline.bytes += payload.len() as u64;
                hot.inline.oldest.get_or_insert(now);
            }
        }
        if let Some(incarnation) = hot.incarnations.get_mut(&request.incarnation) {
            self.trim.superseded(incarnation.last_commit);
            incarnation.last_number = request.number;
            incarnation.last_commit = self.next_commit;
            incarnation.lowest_undecided = request.lowest_undecided;
        }
        drop(hot);
        for (row, producer_id, state) in delta.producers {
            self.producers.put_dirty(row, producer_id, state);
        }
        self.dirty
            .extend(judged.changed_producers.iter().map(|(partition, _)| *partition));
        self.trim.committed(now);
        self.next_object += placed.len() as i64;
        self.next_commit += 1;
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

/// SQLite's integers are signed; no counter or length comes near 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
