//! The end of a transaction, in one step (TRACES 21): markers as one inline object, aborted ranges, offsets
//! that become committed ones, and the row. A crash leaves all of it or nothing.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::encoding::Delta;
use super::groups::live_partition;
use super::hot::{Hot, NOBODY};
use super::placed::{CommitRow, Placed, delta_segments};
use super::transactions::{nothing_ended, store_transaction};
use super::writer::Writer;
use crate::ids::{IdMap, StoreTime, TopicPartition};
use crate::model::commit::CommitObject;
use crate::model::segment::NewSegment;
use crate::model::transaction::{
    AbortedRange, MarkerObject, Markers, Transaction, TransactionPhase, TransactionResult,
};
use crate::rules::transaction::{Completion, Ending, abort, completed, end, expire};
use crate::store::StoreError;
use crate::store::transactions::{
    AbortOpen, AbortedOpen, EncodeMarkers, EndTransaction, Ended, PublishedOffset, TransactionError,
    WrittenMarker,
};

/// An aborted range of a partition, by its row.
struct Aborted {
    partition: TopicPartition,
    row: i64,
    range: AbortedRange,
    stable_offset: i64,
}

impl Writer {
    pub(super) fn end_transaction(&mut self, asked: &EndTransaction) -> Result<Ended, TransactionError> {
        let now = self.shared.now();
        let row = self.row(&asked.transactional_id);
        let ending = end(row.as_deref(), asked.producer, asked.result, asked.bump_epoch)?;
        match (row, ending) {
            (Some(row), Ending::Complete(completion)) => {
                let next = self.identity(completion.next)?;
                let after = completed(&row, asked.result, next, now);
                self.finish(&row, after, completion, &asked.encode, now)
            }
            (_, Ending::Repeat(producer)) => Ok(nothing_ended(producer)),
            (None, Ending::Complete(_)) => Err(TransactionError::UnknownProducer(asked.producer.producer_id)),
        }
    }

    /// Aborts transactions that are older than their timeout.
    pub(super) fn abort_expired(
        &mut self,
        limit: u32,
        encode: &EncodeMarkers,
    ) -> Result<Vec<(String, Ended)>, StoreError> {
        let now = self.shared.now();
        let expired: Vec<(Arc<Transaction>, Completion)> = {
            let hot = self.shared.hot.read();
            let rows = hot.transactions.all();
            let expired = rows.filter_map(|row| Some((Arc::clone(row), expire(row, now)?)));
            expired.take(limit as usize).collect()
        };
        let mut ended = Vec::with_capacity(expired.len());
        for (row, completion) in expired {
            match self.end_unasked(&row, completion, encode, now) {
                Ok(done) => ended.push((row.transactional_id.clone(), done)),
                Err(TransactionError::Store(error)) => return Err(error),
                Err(error) => return Err(StoreError::Damaged(error.to_string())),
            }
        }
        Ok(ended)
    }

    /// Aborts what a producer has open in some partitions, as an administrator asks for it.
    pub(super) fn abort_open(&mut self, asked: &AbortOpen) -> Result<AbortedOpen, TransactionError> {
        let now = self.shared.now();
        let shared = Arc::clone(&self.shared);
        let producer_id = asked.producer.producer_id;
        let row = shared.hot.read().transactions.of_producer(producer_id).cloned();
        let mut outcomes = Vec::with_capacity(asked.partitions.len());
        let mut completion = None;
        for partition in &asked.partitions {
            let live = shared.hot.read().live(partition).map(|live| live.row);
            let Some(partition_row) = live else {
                outcomes.push(Err(TransactionError::UnknownPartition));
                continue;
            };
            let known = self.producers.load(&self.conn, partition_row, producer_id)?;
            let known_epoch = known.map(|state| state.epoch);
            let judged = abort(row.as_deref(), asked.producer, *partition, known_epoch);
            outcomes.push(judged.map(|aborts| completion = completion.or(aborts)));
        }
        let ended = match row.zip(completion) {
            Some((row, completion)) => {
                let ended = self.end_unasked(&row, completion, &asked.encode, now)?;
                Some((row.transactional_id.clone(), ended))
            }
            None => None,
        };
        Ok(AbortedOpen { outcomes, ended })
    }

    /// Ends a transaction that its producer did not end: the producer is fenced, not answered.
    fn end_unasked(
        &mut self,
        row: &Transaction,
        completion: Completion,
        encode: &EncodeMarkers,
        now: StoreTime,
    ) -> Result<Ended, TransactionError> {
        let next = self.identity(completion.next)?;
        let mut after = completed(row, completion.result, next, now);
        after.previous = None;
        self.finish(row, after, completion, encode, now)
    }

    /// Turns the row into `after` and writes what ending its open transaction leads to, if one is open.
    pub(super) fn finish(
        &mut self,
        before: &Transaction,
        after: Transaction,
        completion: Completion,
        encode: &EncodeMarkers,
        now: StoreTime,
    ) -> Result<Ended, TransactionError> {
        let shared = Arc::clone(&self.shared);
        let live: Vec<TopicPartition> = {
            let hot = shared.hot.read();
            let partitions = before.partitions.keys();
            partitions.filter(|p| hot.live(p).is_some()).copied().collect()
        };
        let markers = Markers {
            producer: completion.marker,
            result: completion.result,
            coordinator_epoch: shared.hot.read().epoch,
            now,
            partitions: &live,
        };
        let encoded = if live.is_empty() {
            None
        } else {
            Some(encode(&markers))
        };
        let segments = encoded
            .as_ref()
            .map(|encoded| self.marker_segments(encoded, &live, now))
            .unwrap_or_default();
        let object = encoded.as_ref().map(|encoded| CommitObject {
            counter: super::load::unsigned(self.next_object),
            length_bytes: encoded.payload.len() as u64,
            payload: Some(encoded.payload.clone()),
            batches: Vec::new(),
        });
        let placed: Vec<Placed<'_>> = object
            .iter()
            .map(|object| Placed {
                id: self.next_object,
                object,
                segments: &segments,
            })
            .collect();
        let rows = self.rows_of(&live);
        let aborted = match completion.result {
            TransactionResult::Commit => Vec::new(),
            TransactionResult::Abort => self.aborted_ranges(before, &segments, &rows),
        };

        let tx = self.conn.unchecked_transaction()?;
        let mut written = 0;
        if !placed.is_empty() {
            let delta = Delta {
                segments: delta_segments(&placed, &rows),
                producers: Vec::new(),
            };
            let commit = CommitRow {
                incarnation: NOBODY,
                number: super::load::unsigned(self.next_commit),
                lowest_undecided: 0,
                outcomes: &[],
                delta: &delta,
                now,
            };
            written = self.insert_commit(&tx, &commit, &placed, &rows)?;
        }
        store_aborted(&tx, &aborted)?;
        let offsets = publish_offsets(&tx, &shared.hot.read(), before, completion.result, now)?;
        store_transaction(&tx, &after)?;
        tx.commit()?;
        self.wrote(written);

        let producer = after.current;
        let mut hot = shared.hot.write();
        if !placed.is_empty() {
            self.publish_commit(&mut hot, NOBODY, &placed, now);
        }
        hot.put_transaction(Arc::new(after));
        for aborted in &aborted {
            if let Some(partition) = hot.partitions.get_mut(&aborted.partition) {
                partition.aborted_end = aborted.range.last_offset + 1;
            }
        }
        drop(hot);
        let markers = encoded.map(|encoded| written_markers(&encoded, &segments));
        Ok(Ended {
            producer,
            markers: markers.unwrap_or_default(),
            offsets,
        })
    }

    fn rows_of(&self, partitions: &[TopicPartition]) -> IdMap<TopicPartition, i64> {
        let hot = self.shared.hot.read();
        let rows = partitions.iter().filter_map(|id| Some((*id, hot.live(id)?.row)));
        rows.collect()
    }

    /// One segment a marker, at the end of its partition.
    fn marker_segments(
        &self,
        encoded: &MarkerObject,
        partitions: &[TopicPartition],
        now: StoreTime,
    ) -> Vec<NewSegment> {
        let hot = self.shared.hot.read();
        let states = partitions
            .iter()
            .filter_map(|id| hot.live(id).map(|partition| (id, partition.state)));
        states
            .zip(&encoded.batches)
            .map(|((partition, state), (position, length_bytes))| NewSegment {
                partition: *partition,
                base_offset: state.high_watermark,
                last_offset: state.high_watermark,
                position: *position,
                length_bytes: *length_bytes,
                record_count: 1,
                max_timestamp: now.0,
                running_max_timestamp: state.running_max_timestamp.max(now.0),
                committed_at: now,
            })
            .collect()
    }

    /// What readers of committed records are to leave out, in the partitions that got records.
    fn aborted_ranges(
        &self,
        before: &Transaction,
        segments: &[NewSegment],
        rows: &IdMap<TopicPartition, i64>,
    ) -> Vec<Aborted> {
        let hot = self.shared.hot.read();
        let aborted = segments.iter().filter_map(|marker| {
            let first_offset = before.partitions.get(&marker.partition).copied().flatten()?;
            let open = &hot.partitions.get(&marker.partition)?.open;
            let mine = (first_offset, before.current.producer_id);
            let stable = open.iter().find(|other| **other != mine);
            Some(Aborted {
                partition: marker.partition,
                row: rows[&marker.partition],
                range: AbortedRange {
                    producer_id: before.current.producer_id,
                    first_offset,
                    last_offset: marker.last_offset,
                },
                stable_offset: stable.map_or(marker.last_offset + 1, |(first, _)| *first),
            })
        });
        aborted.collect()
    }
}

fn written_markers(encoded: &MarkerObject, segments: &[NewSegment]) -> Vec<WrittenMarker> {
    let written = segments.iter().zip(&encoded.batches);
    written
        .map(|(segment, (position, length))| {
            let from = usize::try_from(*position).unwrap_or(usize::MAX);
            WrittenMarker {
                partition: segment.partition,
                offset: segment.base_offset,
                batch: encoded.payload.slice(from..from + *length as usize),
            }
        })
        .collect()
}

fn store_aborted(conn: &Connection, aborted: &[Aborted]) -> Result<(), StoreError> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO aborted_transactions (partition_id, last_offset, first_offset, producer_id, \
         stable_offset) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for Aborted {
        row,
        range,
        stable_offset,
        ..
    } in aborted
    {
        insert.execute(params![
            row,
            range.last_offset,
            range.first_offset,
            range.producer_id,
            stable_offset
        ])?;
    }
    Ok(())
}

/// Turns the offsets that waited into committed ones, or drops them. One that a plain commit overtook is
/// not published (TRACES 23).
fn publish_offsets(
    conn: &Connection,
    hot: &Hot,
    before: &Transaction,
    result: TransactionResult,
    now: StoreTime,
) -> Result<Vec<PublishedOffset>, StoreError> {
    let mut published = Vec::new();
    if before.phase != TransactionPhase::Ongoing || before.groups.is_empty() {
        return Ok(published);
    }
    if result == TransactionResult::Commit {
        let mut select = conn.prepare_cached(
            "SELECT group_name, partition_id, offset, leader_epoch, metadata FROM pending_offsets \
             WHERE transactional_id = ?1 AND superseded = 0",
        )?;
        let mut previous = conn.prepare_cached(
            "SELECT offset FROM committed_offsets WHERE group_name = ?1 AND partition_id = ?2",
        )?;
        let mut upsert = conn.prepare_cached(
            "INSERT OR REPLACE INTO committed_offsets \
             (group_name, partition_id, offset, leader_epoch, metadata, committed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let mut rows = select.query([&before.transactional_id])?;
        while let Some(row) = rows.next()? {
            let (group, partition_row): (String, i64) = (row.get(0)?, row.get(1)?);
            let Some(partition) = live_partition(hot, partition_row) else {
                continue;
            };
            let (offset, leader_epoch, metadata): (i64, i32, String) =
                (row.get(2)?, row.get(3)?, row.get(4)?);
            let key = params![group, partition_row];
            let replaced = previous.query_row(key, |row| row.get(0)).optional()?;
            upsert.execute(params![
                group,
                partition_row,
                offset,
                leader_epoch,
                metadata,
                now.0
            ])?;
            published.push(PublishedOffset {
                group,
                partition,
                previous: replaced,
                offset,
            });
        }
    }
    conn.prepare_cached("DELETE FROM pending_offsets WHERE transactional_id = ?1")?
        .execute([&before.transactional_id])?;
    Ok(published)
}
