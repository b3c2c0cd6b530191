//! Logs that begin later: raised log starts, and the rows below them that nobody can read any more.
//!
//! Raising is one small update, visible at once and kept over a restart, whatever is merged. The rows go
//! later, in bounded pieces, from the ordered table only: what is not merged yet is merged first. `untrimmed`
//! names the partitions that may have such rows; it is found anew when the store is opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::hot::Hot;
use super::objects::release;
use super::writer::Writer;
use crate::ids::{StoreTime, TopicPartition};
use crate::model::retention::{DeleteUpTo, RetentionRound};
use crate::rules::retention::{OldSegment, Present, judge};
use crate::store::StoreError;
use crate::store::admin::DeleteRecordsError;

/// Segments of a partition that one round looks at.
const OLDEST_SEGMENTS_MAX: i64 = 1_000;

impl Writer {
    pub(super) fn delete_records(
        &mut self,
        deletions: &[(TopicPartition, DeleteUpTo)],
    ) -> Result<Vec<Result<i64, DeleteRecordsError>>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut answers = Vec::with_capacity(deletions.len());
        let mut raised = BTreeMap::new();
        let hot = shared.hot.read();
        for (id, up_to) in deletions {
            let Some(partition) = hot.live(id) else {
                answers.push(Err(DeleteRecordsError::UnknownPartition));
                continue;
            };
            let state = partition.state;
            let offset = match up_to {
                DeleteUpTo::Offset(offset) => *offset,
                DeleteUpTo::HighWatermark => state.high_watermark,
            };
            if offset < 0 || offset > state.high_watermark {
                answers.push(Err(DeleteRecordsError::OutOfRange {
                    offset,
                    high_watermark: state.high_watermark,
                }));
                continue;
            }
            let start = raised.entry(*id).or_insert(state.log_start_offset);
            *start = offset.max(*start);
            answers.push(Ok(*start));
        }
        drop(hot);
        self.raise(raised.into_iter())?;
        Ok(answers)
    }

    /// Stores higher log starts, then shows them.
    fn raise(&self, raised: impl Iterator<Item = (TopicPartition, i64)>) -> Result<(), StoreError> {
        let hot = self.shared.hot.read();
        let rows: Vec<_> = raised
            .filter_map(|(id, offset)| {
                let partition = hot.live(&id)?;
                (offset > partition.state.log_start_offset).then_some((id, partition.row, offset))
            })
            .collect();
        drop(hot);
        if rows.is_empty() {
            return Ok(());
        }
        let tx = self.conn.unchecked_transaction()?;
        {
            let mut update =
                tx.prepare_cached("UPDATE partitions SET log_start_offset = ?2 WHERE id = ?1")?;
            for (_, row, offset) in &rows {
                update.execute([row, offset])?;
            }
        }
        tx.commit()?;
        let mut hot = self.shared.hot.write();
        for (id, row, offset) in rows {
            hot.untrimmed.insert(row);
            if let Some(partition) = hot.partitions.get_mut(&id) {
                partition.state.log_start_offset = offset;
            }
        }
        Ok(())
    }

    /// One round for some partitions, of which everything that is old has been merged.
    pub(super) fn enforce_retention(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<RetentionRound, StoreError> {
        let shared = Arc::clone(&self.shared);
        let store = shared.now();
        let now = Present {
            store,
            // Once the machine's clock was ahead, the store's stays so for ever; those of producers do not.
            records: store.min(shared.options.clock.wall()),
        };
        let mut round = RetentionRound::default();
        for id in partitions {
            let hot = shared.hot.read();
            let (Some(partition), Some(topic)) = (hot.live(id), hot.topics.get(&id.topic)) else {
                continue;
            };
            let (state, row, size_bytes) = (partition.state, partition.row, partition.size_bytes);
            let retention = topic.config.retention();
            if hot.untrimmed.contains(&row) {
                // Its bytes are known once it is trimmed.
                round.more = true;
                continue;
            }
            drop(hot);
            let limited = retention.age_ms_max.is_some() || retention.bytes_max.is_some();
            if !limited || state.log_start_offset == state.high_watermark {
                continue;
            }
            let oldest = oldest_segments(&self.conn, row)?;
            let verdict = judge(retention, now, size_bytes, &oldest);
            round.more |= verdict.more;
            round.due = round.due.into_iter().chain(verdict.due).min();
            if let Some(offset) = verdict.log_start_offset {
                round.raised.push((*id, offset));
            }
        }
        self.raise(round.raised.iter().copied())?;
        Ok(round)
    }

    /// Removes about `limit` rows below log starts; true when none is left.
    pub(super) fn trim_chunk(&mut self, limit: u32) -> Result<bool, StoreError> {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        let mut room = i64::from(limit.max(1));
        let mut objects = BTreeMap::new();
        let mut trimmed = Vec::new();
        let tx = self.conn.unchecked_transaction()?;
        let rows: Vec<i64> = {
            let hot = shared.hot.read();
            hot.untrimmed
                .iter()
                .take(limit.max(1) as usize)
                .copied()
                .collect()
        };
        for row in rows {
            if room <= 0 {
                break;
            }
            let hot = shared.hot.read();
            let found = hot
                .partition_of_row
                .get(&row)
                .and_then(|id| Some((*id, hot.live(id)?)));
            let Some((id, partition)) = found else {
                // Deleted meanwhile: the purge removes all of it.
                trimmed.push((row, None, 0, true));
                continue;
            };
            let log_start = partition.state.log_start_offset;
            let unmerged = partition
                .recent
                .front()
                .is_some_and(|s| s.last_offset < log_start);
            drop(hot);
            let (removed, bytes) = trim_partition(&tx, row, log_start, room, &mut objects)?;
            let done = removed < room && !unmerged;
            room -= removed.max(1);
            trimmed.push((row, Some(id), bytes, done));
        }
        let released = release(&tx, &objects, now)?;
        tx.commit()?;

        let mut hot = shared.hot.write();
        for (row, id, bytes, done) in trimmed {
            if let Some(partition) = id.and_then(|id| hot.partitions.get_mut(&id)) {
                partition.size_bytes = partition.size_bytes.saturating_sub(bytes);
            }
            if done {
                hot.untrimmed.remove(&row);
            }
        }
        released.apply(&mut hot);
        Ok(hot.untrimmed.is_empty())
    }
}

/// Removes up to `room` segments of a partition that end below `log_start`; how many, and their bytes.
fn trim_partition(
    conn: &Connection,
    row: i64,
    log_start: i64,
    room: i64,
    objects: &mut BTreeMap<i64, i64>,
) -> Result<(i64, u64), StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT base_offset, last_offset, object, length FROM segments WHERE partition_id = ?1 \
         ORDER BY base_offset LIMIT ?2",
    )?;
    let mut rows = select.query([row, room])?;
    let (mut removed, mut bytes, mut last) = (0, 0_u64, None);
    while let Some(segment) = rows.next()? {
        if segment.get::<_, i64>(1)? >= log_start {
            break;
        }
        last = Some(segment.get::<_, i64>(0)?);
        *objects.entry(segment.get(2)?).or_insert(0) += 1;
        bytes += u64::from(segment.get::<_, u32>(3)?);
        removed += 1;
    }
    drop(rows);
    conn.prepare_cached("DELETE FROM aborted_transactions WHERE partition_id = ?1 AND last_offset < ?2")?
        .execute([row, log_start])?;
    if let Some(last) = last {
        conn.prepare_cached("DELETE FROM segments WHERE partition_id = ?1 AND base_offset <= ?2")?
            .execute([row, last])?;
        conn.prepare_cached("UPDATE partitions SET size_bytes = max(size_bytes - ?2, 0) WHERE id = ?1")?
            .execute(params![row, super::commit::signed(bytes)])?;
    }
    Ok((removed, bytes))
}

fn oldest_segments(conn: &Connection, row: i64) -> Result<Vec<OldSegment>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT last_offset, length, max_ts, committed_at FROM segments WHERE partition_id = ?1 \
         ORDER BY base_offset LIMIT ?2",
    )?;
    let rows = select.query_map([row, OLDEST_SEGMENTS_MAX], |row| {
        Ok(OldSegment {
            last_offset: row.get(0)?,
            length_bytes: row.get(1)?,
            max_timestamp: row.get(2)?,
            committed_at: StoreTime(row.get(3)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The partitions that have a merged row below their log's start, or one that waits to be merged.
pub(super) fn find_untrimmed(conn: &Connection, hot: &mut Hot) -> Result<(), StoreError> {
    let mut select = conn.prepare(
        "SELECT p.id FROM partitions p WHERE p.log_start_offset > 0 AND (SELECT s.last_offset FROM segments s \
         WHERE s.partition_id = p.id ORDER BY s.base_offset LIMIT 1) < p.log_start_offset",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        hot.untrimmed.insert(row.get(0)?);
    }
    let waiting = hot.partitions.values().filter(|partition| {
        let first = partition.recent.front();
        first.is_some_and(|s| s.last_offset < partition.state.log_start_offset)
    });
    let waiting: Vec<i64> = waiting.map(|partition| partition.row).collect();
    hot.untrimmed.extend(waiting);
    Ok(())
}
