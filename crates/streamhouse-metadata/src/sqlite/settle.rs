//! Settling: moves what commits left in their deltas into the ordered tables, and trims the commit log.
//!
//! A round covers every commit up to the one that was newest when it began. It goes partition by
//! partition, in slices of bounded size, so that each touched leaf is written once for many commits and
//! a commit waits for one slice at most. A partition's `high_watermark` in the table says how far it is
//! merged, so a crash between two slices loses nothing: replay skips what lies below it.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::writer::Writer;
use crate::ids::{IncarnationId, StoreTime, TopicPartition};
use crate::model::segment::Segment;
use crate::store::StoreError;

/// Commit rows stay that long: the answers of repeats, and the log that wake-ups read.
const COMMITS_KEPT_MS: i64 = 60_000;
/// Commit rows looked at in one transaction.
const TRIM_ROWS_MAX: usize = 2_048;
/// Estimated log growth of a merged row, bytes.
const BYTES_PER_ROW: usize = 256;

/// A round under way.
#[derive(Debug)]
pub(super) struct Round {
    /// The newest commit and object that it covers.
    commit: i64,
    object: i64,
    /// Partitions still to be merged, by row number; the next one last.
    queue: Vec<(i64, TopicPartition)>,
}

/// How far the commit log is trimmed.
#[derive(Debug, Default)]
pub(super) struct Trim {
    /// Rows up to this one were looked at.
    cursor: i64,
    /// Nothing is old enough before this time; `None` when no row is left to look at.
    after: Option<StoreTime>,
    /// Rows below the cursor that stayed as the last of their incarnation and are so no more.
    superseded: Vec<i64>,
}

impl Trim {
    /// For a store that has just been opened: every row is to be looked at.
    pub(super) fn from_start() -> Self {
        Self {
            cursor: 0,
            after: Some(StoreTime(i64::MIN)),
            superseded: Vec::new(),
        }
    }

    pub(super) fn committed(&mut self, now: StoreTime) {
        self.after
            .get_or_insert(StoreTime(now.0.saturating_add(COMMITS_KEPT_MS)));
    }

    /// The commit `row` is not the last of its incarnation any more.
    pub(super) fn superseded(&mut self, row: i64) {
        if row > 0 && row <= self.cursor {
            self.superseded.push(row);
        }
    }
}

/// What a slice takes of one partition.
struct Piece {
    row: i64,
    partition: TopicPartition,
    segments: Vec<Segment>,
    /// One past the last record among them; 0 where they are markers only.
    records_end: i64,
    live: bool,
    /// Nothing of the partition is left for this round.
    last: bool,
}

impl Writer {
    /// Does one slice of a round, or one of trimming; true when nothing is left of what was there at the first
    /// call since the last answer of true. Commits that come meanwhile do not keep it from its end.
    pub(super) fn settle_slice(&mut self) -> Result<bool, StoreError> {
        let target = *self.settling_to.get_or_insert(self.next_commit - 1);
        if self.merged_commit < target {
            self.merge_some()?;
            if self.merged_commit < target {
                return Ok(false);
            }
        }
        if self.trim_slice()? {
            self.settling_to = None;
        }
        Ok(self.settling_to.is_none())
    }

    /// Does one slice of a round, beginning one where none is under way.
    pub(super) fn merge_some(&mut self) -> Result<(), StoreError> {
        if self.round.is_none() {
            if self.merged_commit == self.next_commit - 1 {
                return Ok(());
            }
            self.begin_round();
        }
        self.merge_slice()
    }

    fn begin_round(&mut self) {
        let hot = self.shared.hot.read();
        let rows = self
            .dirty
            .drain()
            .filter_map(|p| Some((hot.partitions.get(&p)?.row, p)));
        let mut queue: Vec<_> = rows.collect();
        queue.sort_unstable_by(|a, b| b.cmp(a));
        self.round = Some(Round {
            commit: self.next_commit - 1,
            object: self.next_object - 1,
            queue,
        });
    }

    fn merge_slice(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let Some(round) = &self.round else { return Ok(()) };
        let pieces = self.cut(round);
        let taken = pieces.iter().filter(|piece| piece.last).count();
        let finished = taken == round.queue.len();
        let (commit, object) = (round.commit, round.object);

        let tx = self.conn.unchecked_transaction()?;
        let mut rows = 0;
        for piece in &pieces {
            rows += piece.segments.len();
            merge_segments(&tx, piece)?;
            if piece.live {
                rows += self.producers.store_dirty(&tx, piece.row)?;
            }
        }
        if finished {
            tx.prepare_cached("UPDATE cluster SET merged_commit = ?1")?
                .execute([commit])?;
        }
        tx.commit()?;
        self.wrote(rows * BYTES_PER_ROW);

        let mut hot = shared.hot.write();
        for piece in &pieces {
            self.producers.mark_clean(piece.row);
            hot.pop_recent(&piece.partition, piece.segments.len());
        }
        if finished {
            hot.settled_object = object;
        }
        drop(hot);
        if finished {
            self.round = None;
            self.merged_commit = commit;
            self.producers.shrink(shared.options.cached_producers_max);
        } else if let Some(round) = &mut self.round {
            round.queue.truncate(round.queue.len() - taken);
        }
        Ok(())
    }

    /// Takes partitions from the queue until the slice is full; the last one may be taken in part.
    fn cut(&self, round: &Round) -> Vec<Piece> {
        let hot = self.shared.hot.read();
        let mut room = self.shared.options.settle_rows_max.max(1);
        let mut pieces = Vec::new();
        for &(row, partition) in round.queue.iter().rev() {
            if room == 0 {
                break;
            }
            let found = hot.partitions.get(&partition);
            let recent = found.map_or(0, |p| p.recent.len());
            let count = recent.min(room);
            let segments = found.map_or_else(Vec::new, |p| p.recent.iter().take(count).copied().collect());
            let records = segments
                .iter()
                .rev()
                .find(|segment| !hot.is_markers(segment.object));
            let records_end = records.map_or(0, |segment| segment.last_offset + 1);
            // A partition without segments has a producer or two to store: it counts as a row.
            room -= count.max(1);
            let live = found.is_some_and(|p| p.live);
            pieces.push(Piece {
                row,
                partition,
                segments,
                records_end,
                live,
                last: count == recent,
            });
        }
        pieces
    }

    fn may_trim(&self) -> bool {
        !self.trim.superseded.is_empty()
            || (self.trim.cursor < self.merged_commit
                && self.trim.after.is_some_and(|after| after <= self.shared.now()))
    }

    /// Removes old commit rows; true when no more are old enough.
    fn trim_slice(&mut self) -> Result<bool, StoreError> {
        if !self.may_trim() {
            return Ok(true);
        }
        let now = self.shared.now();
        let tx = self.conn.unchecked_transaction()?;
        let (mut cursor, mut after) = (self.trim.cursor, None);
        let mut doomed = self.trim.superseded.clone();
        let mut full = false;
        {
            let hot = self.shared.hot.read();
            let mut select = tx.prepare_cached(
                "SELECT id, incarnation, committed_at FROM commits WHERE id > ?1 AND id <= ?2 ORDER BY id \
                 LIMIT ?3",
            )?;
            let mut rows = select.query(params![cursor, self.merged_commit, TRIM_ROWS_MAX as i64])?;
            let mut seen = 0;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let due = row.get::<_, i64>(2)?.saturating_add(COMMITS_KEPT_MS);
                if due > now.0 {
                    after = Some(StoreTime(due));
                    break;
                }
                let incarnation = IncarnationId(uuid::Uuid::from_bytes(row.get(1)?));
                if hot
                    .incarnations
                    .get(&incarnation)
                    .is_none_or(|known| known.last_commit != id)
                {
                    doomed.push(id);
                }
                cursor = id;
                seen += 1;
            }
            full = full || seen == TRIM_ROWS_MAX;
            let mut delete = tx.prepare_cached("DELETE FROM commits WHERE id = ?1")?;
            for id in &doomed {
                delete.execute([id])?;
            }
        }
        tx.commit()?;
        self.wrote(doomed.len() * BYTES_PER_ROW);
        self.trim.cursor = cursor;
        self.trim.superseded.clear();
        self.trim.after = if full { Some(now) } else { after };
        Ok(!full)
    }
}

fn merge_segments(conn: &Connection, piece: &Piece) -> Result<(), StoreError> {
    let Some(last) = piece.segments.last() else {
        return Ok(());
    };
    let mut insert = conn.prepare_cached(
        "INSERT INTO segments (partition_id, base_offset, last_offset, object, position, length, \
         record_count, max_ts, running_max_ts, committed_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for segment in &piece.segments {
        insert_segment(&mut insert, piece.row, segment)?;
    }
    let bytes: u64 = piece.segments.iter().map(|s| u64::from(s.length_bytes)).sum();
    conn.prepare_cached(
        "UPDATE partitions SET high_watermark = ?2, running_max_ts = ?3, size_bytes = size_bytes + ?4, \
         records_end = max(records_end, ?5) WHERE id = ?1",
    )?
    .execute(params![
        piece.row,
        last.last_offset + 1,
        last.running_max_timestamp,
        super::commit::signed(bytes),
        piece.records_end,
    ])?;
    Ok(())
}

/// Runs the insert of a segment row whose columns stand in the order of the table.
pub(super) fn insert_segment(
    insert: &mut rusqlite::CachedStatement<'_>,
    partition_row: i64,
    segment: &Segment,
) -> rusqlite::Result<usize> {
    insert.execute(params![
        partition_row,
        segment.base_offset,
        segment.last_offset,
        segment.object.0,
        super::commit::signed(segment.position),
        segment.length_bytes,
        segment.record_count,
        segment.max_timestamp,
        segment.running_max_timestamp,
        segment.committed_at.0,
    ])
}
