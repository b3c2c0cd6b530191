//! Search by timestamp (TRACES 14): a binary search over the running maximum, by probes of the primary
//! key, then on to the first segment whose own maximum reaches the time.
//!
//! The first segment whose running maximum reaches the time raised it itself, unless an older one that
//! was larger is gone; only then is there a way to step.

use rusqlite::{Connection, OptionalExtension, params};

use super::hot::Hot;
use super::load::location;
use super::lookup::segment_of;
use crate::ids::TopicPartition;
use crate::model::segment::{LocatedSegment, TimestampQuery};
use crate::store::{LookupError, StoreError};

pub(super) enum Found {
    Answer(Result<Option<LocatedSegment>, LookupError>),
    /// To be searched in the table first.
    Older(TableSearch),
}

/// A search among the segments of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableSearch {
    partition: TopicPartition,
    partition_row: i64,
    timestamp: i64,
    from_offset: i64,
    /// One past the last offset to look at.
    merged_end: i64,
}

/// Searches memory. `past_table` says up to where the table has been searched without success.
pub(super) fn recall(
    hot: &Hot,
    partition_id: TopicPartition,
    query: TimestampQuery,
    past_table: Option<i64>,
) -> Found {
    let Some(partition) = hot.live(&partition_id) else {
        return Found::Answer(Err(LookupError::UnknownPartition));
    };
    let state = partition.state;
    let (timestamp, from_offset) = match query {
        TimestampQuery::AtLeast(timestamp) => (timestamp, state.log_start_offset),
        TimestampQuery::AtLeastFrom { timestamp, offset } => (timestamp, offset.max(state.log_start_offset)),
        TimestampQuery::Max => (state.running_max_timestamp, state.log_start_offset),
    };
    if from_offset >= state.high_watermark || timestamp > state.running_max_timestamp {
        return Found::Answer(Ok(None));
    }
    let merged_end = partition.merged_end();
    let in_table = from_offset < merged_end && timestamp <= partition.merged_max_timestamp;
    if in_table && past_table.is_none_or(|end| end < merged_end) {
        return Found::Older(TableSearch {
            partition: partition_id,
            partition_row: partition.row,
            timestamp,
            from_offset: past_table.unwrap_or(from_offset).max(from_offset),
            merged_end,
        });
    }
    let from = partition
        .recent
        .partition_point(|s| s.running_max_timestamp < timestamp);
    let found = partition
        .recent
        .range(from..)
        .find(|s| s.max_timestamp >= timestamp && s.last_offset >= from_offset);
    Found::Answer(Ok(found.and_then(|segment| hot.located(segment))))
}

impl TableSearch {
    /// Up to where an unsuccessful search has looked.
    pub(super) fn end(&self) -> i64 {
        self.merged_end
    }

    pub(super) fn run(&self, conn: &Connection) -> Result<Option<LocatedSegment>, StoreError> {
        let mut probe = conn.prepare_cached(
            "SELECT base_offset, last_offset, running_max_ts FROM segments \
             WHERE partition_id = ?1 AND base_offset <= ?2 ORDER BY base_offset DESC LIMIT 1",
        )?;
        // Every segment that ends before `low` has a smaller running maximum; the one that holds `high`
        // reaches the time, or `high` is the end.
        let (mut low, mut high) = (self.from_offset, self.merged_end);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = probe.query_row(params![self.partition_row, middle], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            });
            match row.optional()? {
                Some((base_offset, _, running)) if running >= self.timestamp => high = base_offset.max(low),
                Some((_, last_offset, _)) => low = (last_offset + 1).max(middle + 1),
                None => low = middle + 1,
            }
            if high <= low {
                break;
            }
        }
        let mut step = conn.prepare_cached(
            "SELECT s.base_offset, s.last_offset, s.object, s.position, s.length, s.record_count, s.max_ts, \
             s.running_max_ts, s.committed_at, o.id, o.incarnation, o.counter, o.inline, o.length \
             FROM segments s CROSS JOIN objects o ON o.id = s.object \
             WHERE s.partition_id = ?1 AND s.max_ts >= ?3 AND s.base_offset >= coalesce((SELECT \
             max(base_offset) FROM segments WHERE partition_id = ?1 AND base_offset <= ?2), ?2) \
             AND s.last_offset >= ?2 ORDER BY s.base_offset LIMIT 1",
        )?;
        let found = step.query_row(
            params![self.partition_row, high.min(low), self.timestamp],
            |row| {
                Ok(LocatedSegment {
                    segment: segment_of(row, self.partition)?,
                    object: location(row, 9)?,
                })
            },
        );
        Ok(found.optional()?)
    }
}

/// The largest timestamp of the merged segments that end at `start` or later.
pub(super) fn largest_timestamp(
    conn: &Connection,
    partition_row: i64,
    start: i64,
) -> Result<Option<i64>, StoreError> {
    let mut select = conn
        .prepare_cached("SELECT max(max_ts) FROM segments WHERE partition_id = ?1 AND last_offset >= ?2")?;
    Ok(select.query_row([partition_row, start], |row| row.get(0))?)
}
