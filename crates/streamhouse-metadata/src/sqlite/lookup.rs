//! Look-ups: which segments hold an offset and what follows.
//!
//! The newest segments lie in memory, older ones in the ordered table; together they tile the log. What
//! memory can answer touches no thread. Otherwise the recent part is copied in the same moment as the
//! snapshot, and the table is read up to it: a settle or a swap in between moves rows but not offsets,
//! and whatever then does not join is asked again.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::hot::{Hot, Partition};
use super::load::{location, unsigned};
use super::writer::Shared;
use crate::ids::{ObjectId, StoreTime, TopicPartition};
use crate::model::partition::PartitionSnapshot;
use crate::model::segment::{Located, LocatedSegment, Lookup, Segment};
use crate::model::transaction::AbortedRange;
use crate::store::{LookupError, StoreError};

/// What memory says to a look-up.
pub(super) enum Recalled {
    Answer(Result<Located, LookupError>),
    /// The beginning lies in the table, or aborted ranges do.
    Older(Older),
}

/// The part of a look-up that memory knew.
pub(super) struct Older {
    lookup: Lookup,
    partition_row: i64,
    snapshot: PartitionSnapshot,
    recent: Vec<LocatedSegment>,
    /// The first segment is to be read from the table.
    in_table: bool,
    /// So are aborted ranges.
    aborted: bool,
}

/// Answers from memory as far as that goes. The caller holds the lock: one moment for all look-ups.
pub(super) fn recall(hot: &Hot, lookup: &Lookup) -> Recalled {
    let Some(partition) = hot.live(&lookup.partition) else {
        return Recalled::Answer(Err(LookupError::UnknownPartition));
    };
    let snapshot = hot.snapshot(partition);
    let end = end_of(lookup, &snapshot);
    if !(snapshot.log_start_offset..end).contains(&lookup.offset) {
        return Recalled::Answer(Ok(Located {
            snapshot,
            segments: Vec::new(),
            aborted: Vec::new(),
        }));
    }
    let recent = take_recent(hot, partition, lookup, end);
    let in_table = lookup.offset < partition.merged_end();
    let aborted = lookup.read_committed && lookup.offset < partition.aborted_end;
    if !in_table && !aborted {
        return Recalled::Answer(Ok(Located {
            snapshot,
            segments: recent,
            aborted: Vec::new(),
        }));
    }
    Recalled::Older(Older {
        lookup: *lookup,
        partition_row: partition.row,
        snapshot,
        recent,
        in_table,
        aborted,
    })
}

/// One past the last offset that this look-up may see.
fn end_of(lookup: &Lookup, snapshot: &PartitionSnapshot) -> i64 {
    if lookup.read_committed {
        snapshot.last_stable_offset
    } else {
        snapshot.high_watermark
    }
}

/// Recent segments from the one that holds the offset (or the first) on, those that begin before `end`.
fn take_recent(hot: &Hot, partition: &Partition, lookup: &Lookup, end: i64) -> Vec<LocatedSegment> {
    let from = partition
        .recent
        .partition_point(|s| s.last_offset < lookup.offset);
    let mut taken = Vec::new();
    let mut bytes = 0;
    for segment in partition.recent.range(from..) {
        if segment.base_offset >= end {
            break;
        }
        let Some(located) = hot.located(segment) else {
            break;
        };
        taken.push(located);
        bytes += u64::from(segment.length_bytes);
        if bytes >= lookup.max_bytes {
            break;
        }
    }
    taken
}

/// Completes a look-up from the tables; `None` when what it read does not join what memory said.
pub(super) fn complete(
    conn: &Connection,
    shared: &Shared,
    older: Older,
) -> Result<Option<Located>, StoreError> {
    let (lookup, row, snapshot) = (older.lookup, older.partition_row, older.snapshot);
    let reads_aborted = older.aborted;
    let segments = if older.in_table {
        match complete_segments(conn, older)? {
            Some(segments) => segments,
            None => return Ok(None),
        }
    } else {
        older.recent
    };
    let mut aborted = Vec::new();
    if reads_aborted {
        let end = segments
            .last()
            .map_or(lookup.offset, |s| s.segment.last_offset + 1);
        aborted = aborted_ranges(conn, row, lookup.offset, end.min(snapshot.last_stable_offset))?;
        // What lies below a raised log start may have lost its ranges meanwhile.
        let hot = shared.hot.read();
        let log_start = hot.live(&lookup.partition).map(|p| p.state.log_start_offset);
        if log_start.is_none_or(|start| start > lookup.offset) {
            return Ok(None);
        }
    }
    Ok(Some(Located {
        snapshot,
        segments,
        aborted,
    }))
}

/// The aborted ranges that overlap `offset..end`, ascending by their last offset.
fn aborted_ranges(
    conn: &Connection,
    partition_row: i64,
    offset: i64,
    end: i64,
) -> Result<Vec<AbortedRange>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT producer_id, first_offset, last_offset, stable_offset FROM aborted_transactions \
         WHERE partition_id = ?1 AND last_offset >= ?2 ORDER BY last_offset",
    )?;
    let mut rows = select.query([partition_row, offset])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let range = AbortedRange {
            producer_id: row.get(0)?,
            first_offset: row.get(1)?,
            last_offset: row.get(2)?,
        };
        if range.first_offset < end {
            found.push(range);
        }
        // Whatever aborted later began at this one's last stable offset or beyond.
        if row.get::<_, i64>(3)? >= end {
            break;
        }
    }
    Ok(found)
}

fn complete_segments(conn: &Connection, older: Older) -> Result<Option<Vec<LocatedSegment>>, StoreError> {
    let Older {
        lookup,
        partition_row,
        snapshot,
        recent,
        ..
    } = older;
    let end = end_of(&lookup, &snapshot);
    let mut select = conn.prepare_cached(
        "SELECT s.base_offset, s.last_offset, s.object, s.position, s.length, s.record_count, s.max_ts, \
         s.running_max_ts, s.committed_at, o.id, o.incarnation, o.counter, o.inline, o.length \
         FROM segments s CROSS JOIN objects o ON o.id = s.object \
         WHERE s.partition_id = ?1 AND s.base_offset >= (SELECT max(base_offset) FROM segments \
         WHERE partition_id = ?1 AND base_offset <= ?2) ORDER BY s.base_offset",
    )?;
    let mut rows = select.query(params![partition_row, lookup.offset])?;
    let mut segments: Vec<LocatedSegment> = Vec::new();
    let mut bytes = 0;
    while bytes < lookup.max_bytes.max(1) || segments.is_empty() {
        let Some(row) = rows.next()? else { break };
        let segment = segment_of(row, lookup.partition)?;
        if segment.base_offset >= end {
            break;
        }
        let joins = match segments.last() {
            Some(last) => last.segment.last_offset + 1 == segment.base_offset,
            None => (segment.base_offset..=segment.last_offset).contains(&lookup.offset),
        };
        if !joins {
            return Ok(None);
        }
        bytes += u64::from(segment.length_bytes);
        segments.push(LocatedSegment {
            segment,
            object: location(row, 9)?,
        });
    }
    let Some(last) = segments.last() else {
        return Ok(None);
    };
    let joint = last.segment.last_offset + 1;
    let mut next = joint;
    // Rows merged since the snapshot are in both parts.
    for located in recent
        .into_iter()
        .skip_while(|located| located.segment.base_offset < joint)
    {
        if bytes >= lookup.max_bytes || located.segment.base_offset != next {
            break;
        }
        next = located.segment.last_offset + 1;
        bytes += u64::from(located.segment.length_bytes);
        segments.push(located);
    }
    Ok(Some(segments))
}

/// One segment row by its key.
pub(super) fn segment(
    conn: &Connection,
    partition_row: i64,
    partition: TopicPartition,
    base_offset: i64,
) -> Result<Option<Segment>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT base_offset, last_offset, object, position, length, record_count, max_ts, running_max_ts, \
         committed_at FROM segments WHERE partition_id = ?1 AND base_offset = ?2",
    )?;
    let key = params![partition_row, base_offset];
    Ok(select
        .query_row(key, |row| segment_of(row, partition))
        .optional()?)
}

/// Reads a segment from the first nine columns.
pub(super) fn segment_of(row: &Row<'_>, partition: TopicPartition) -> rusqlite::Result<Segment> {
    Ok(Segment {
        partition,
        base_offset: row.get(0)?,
        last_offset: row.get(1)?,
        object: ObjectId(row.get(2)?),
        position: unsigned(row.get(3)?),
        length_bytes: row.get(4)?,
        record_count: row.get(5)?,
        max_timestamp: row.get(6)?,
        running_max_timestamp: row.get(7)?,
        committed_at: StoreTime(row.get(8)?),
    })
}

/// Answers what can be answered from memory; the rest with its place in the request.
pub(super) type Answers = Vec<Option<Result<Located, LookupError>>>;

pub(super) fn recall_all(
    shared: &Arc<Shared>,
    lookups: &[(usize, Lookup)],
    answers: &mut Answers,
) -> Vec<(usize, Older)> {
    let hot = shared.hot.read();
    let mut older = Vec::new();
    for (place, lookup) in lookups {
        match recall(&hot, lookup) {
            Recalled::Answer(answer) => answers[*place] = Some(answer),
            Recalled::Older(part) => older.push((*place, part)),
        }
    }
    older
}
