//! Opening: reads the state from the tables and replays what was committed but not merged.
//!
//! After it the [`Hot`] state is what it was when the last process died, commit for commit. Deltas are
//! replayed in commit order; a segment below its partition's merged high watermark is in the table
//! already, and one of a partition that is gone was merged before its rows were purged.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::encoding::{Delta, decode};
use super::hot::{Hot, Incarnation, RecentObject};
use super::producers::ProducerCache;
use super::retention::find_untrimmed;
use super::settings::{load_client_metrics, load_quotas};
use crate::ids::{IncarnationId, ObjectId, ObjectName, StoreTime, TopicId, TopicPartition};
use crate::model::object::{Amount, InlineBacklog, ObjectLocation};
use crate::model::segment::Segment;
use crate::model::topic::{Topic, TopicConfig, topic_name_key};
use crate::model::transaction::Transaction;
use crate::rules::append::PartitionState;
use crate::store::StoreError;

/// Everything a store holds in memory.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) cluster: Uuid,
    pub(super) hot: Hot,
    pub(super) producers: ProducerCache,
    pub(super) merged_commit: i64,
    pub(super) next_commit: i64,
    pub(super) next_object: i64,
    /// Partitions with something to merge.
    pub(super) dirty: Vec<TopicPartition>,
    /// The newest moment that anything stored tells of, milliseconds.
    pub(super) newest: i64,
}

pub(super) fn load(conn: &Connection) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded::default();
    let cluster = "SELECT id, epoch, merged_commit FROM cluster";
    (loaded.cluster, loaded.hot.epoch, loaded.merged_commit) = conn.query_row(cluster, [], |row| {
        Ok((Uuid::from_bytes(row.get(0)?), row.get(1)?, row.get(2)?))
    })?;
    let newest_commit: i64 = conn.query_row("SELECT coalesce(max(id), 0) FROM commits", [], |r| r.get(0))?;
    loaded.next_commit = newest_commit.max(loaded.merged_commit) + 1;
    let sequence = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'objects'";
    loaded.next_object = conn.query_row(sequence, [], |row| row.get::<_, i64>(0))? + 1;
    load_topics(conn, &mut loaded)?;
    load_partitions(conn, &mut loaded)?;
    load_incarnations(conn, &mut loaded)?;
    loaded.hot.inline = inline_backlog(conn)?;
    (loaded.hot.stored, loaded.hot.deleting) = stored_amounts(conn)?;
    loaded.hot.settled_object = loaded.next_object - 1;
    replay(conn, &mut loaded)?;
    find_untrimmed(conn, &mut loaded.hot)?;
    loaded.hot.quotas = load_quotas(conn)?;
    loaded.hot.client_metrics = load_client_metrics(conn)?;
    load_transactions(conn, &mut loaded)?;
    Ok(loaded)
}

fn load_topics(conn: &Connection, loaded: &mut Loaded) -> Result<(), StoreError> {
    let mut select = conn.prepare(
        "SELECT id, name, config, created_at, deleted_at, \
         (SELECT count(*) FROM partitions WHERE topic = topics.id) FROM topics",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let id = TopicId(Uuid::from_bytes(row.get(0)?));
        let created_at: i64 = row.get(3)?;
        let deleted_at: Option<i64> = row.get(4)?;
        loaded.newest = loaded.newest.max(created_at).max(deleted_at.unwrap_or(0));
        if deleted_at.is_some() {
            loaded.hot.deleted_topics.insert(id);
            continue;
        }
        let name: String = row.get(1)?;
        let config: String = row.get(2)?;
        let entries =
            serde_json::from_str(&config).map_err(|e| StoreError::Damaged(format!("topic config: {e}")))?;
        loaded.hot.names.insert(topic_name_key(&name), id);
        let config = TopicConfig { entries };
        let topic = Topic {
            id,
            name,
            partitions: row.get(5)?,
            config,
            created_at: StoreTime(created_at),
        };
        loaded.hot.topics.insert(id, topic);
    }
    Ok(())
}

fn load_partitions(conn: &Connection, loaded: &mut Loaded) -> Result<(), StoreError> {
    let mut select = conn.prepare(
        "SELECT id, topic, partition, log_start_offset, high_watermark, running_max_ts, size_bytes, \
         records_end FROM partitions",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let id = TopicPartition {
            topic: TopicId(Uuid::from_bytes(row.get(1)?)),
            partition: row.get(2)?,
        };
        let state = PartitionState {
            log_start_offset: row.get(3)?,
            high_watermark: row.get(4)?,
            running_max_timestamp: row.get(5)?,
        };
        let live = loaded.hot.topics.contains_key(&id.topic);
        loaded.hot.live_partitions += u64::from(live);
        loaded.hot.add_partition(id, row.get(0)?, live, state);
        if let Some(partition) = loaded.hot.partitions.get_mut(&id) {
            partition.size_bytes = unsigned(row.get(6)?);
            partition.records_end = row.get(7)?;
        }
    }
    Ok(())
}

fn load_transactions(conn: &Connection, loaded: &mut Loaded) -> Result<(), StoreError> {
    let mut select = conn.prepare("SELECT state FROM transactions")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let row: Transaction = decode("transaction", &row.get::<_, Vec<u8>>(0)?)?;
        loaded.newest = loaded.newest.max(row.last_used.0);
        loaded.hot.put_transaction(Arc::new(row));
    }
    let mut select = conn
        .prepare("SELECT partition_id, max(last_offset) FROM aborted_transactions GROUP BY partition_id")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let partition = loaded.hot.partition_of_row.get(&row.get(0)?).copied();
        if let Some(partition) = partition.and_then(|id| loaded.hot.partitions.get_mut(&id)) {
            partition.aborted_end = row.get::<_, i64>(1)? + 1;
        }
    }
    Ok(())
}

fn load_incarnations(conn: &Connection, loaded: &mut Loaded) -> Result<(), StoreError> {
    let mut select = conn.prepare(
        "SELECT i.id, i.registered_at, i.fenced_at, i.swept_at, c.id, c.number, c.lowest_undecided, \
         c.committed_at FROM incarnations i LEFT JOIN commits c ON c.incarnation = i.id AND c.number = \
         (SELECT max(number) FROM commits WHERE incarnation = i.id)",
    )?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let fenced_at: Option<i64> = row.get(2)?;
        let swept_at: Option<i64> = row.get(3)?;
        let committed_at: Option<i64> = row.get(7)?;
        let times = [Some(row.get(1)?), fenced_at, swept_at, committed_at];
        loaded.newest = times.into_iter().flatten().fold(loaded.newest, i64::max);
        let incarnation = Incarnation {
            last_commit: row.get::<_, Option<i64>>(4)?.unwrap_or(0),
            last_number: unsigned(row.get::<_, Option<i64>>(5)?.unwrap_or(0)),
            lowest_undecided: unsigned(row.get::<_, Option<i64>>(6)?.unwrap_or(0)),
            fenced_at: fenced_at.map(StoreTime),
            swept_at: swept_at.map(StoreTime),
        };
        loaded
            .hot
            .incarnations
            .insert(IncarnationId(Uuid::from_bytes(row.get(0)?)), incarnation);
    }
    Ok(())
}

/// Stored objects in use, and those that wait for deletion.
fn stored_amounts(conn: &Connection) -> Result<(Amount, Amount), StoreError> {
    let mut select = conn.prepare(
        "SELECT deleting_since IS NOT NULL, count(*), sum(length) FROM objects WHERE inline = 0 GROUP BY 1",
    )?;
    let mut rows = select.query([])?;
    let (mut live, mut deleting) = (Amount::default(), Amount::default());
    while let Some(row) = rows.next()? {
        let amount = Amount {
            objects: unsigned(row.get(1)?),
            bytes: unsigned(row.get(2)?),
        };
        match row.get(0)? {
            true => deleting = amount,
            false => live = amount,
        }
    }
    Ok((live, deleting))
}

fn inline_backlog(conn: &Connection) -> Result<InlineBacklog, StoreError> {
    let select = "SELECT count(*), coalesce(sum(o.length), 0), min(o.created_at) \
                  FROM inline_objects i CROSS JOIN objects o ON o.id = i.id";
    Ok(conn.query_row(select, [], |row| {
        Ok(InlineBacklog {
            objects: unsigned(row.get(0)?),
            bytes: unsigned(row.get(1)?),
            oldest: row.get::<_, Option<i64>>(2)?.map(StoreTime),
        })
    })?)
}

fn replay(conn: &Connection, loaded: &mut Loaded) -> Result<(), StoreError> {
    let mut select = conn.prepare("SELECT committed_at, delta FROM commits WHERE id > ?1 ORDER BY id")?;
    let mut rows = select.query([loaded.merged_commit])?;
    while let Some(row) = rows.next()? {
        let committed_at = StoreTime(row.get(0)?);
        loaded.newest = loaded.newest.max(committed_at.0);
        let delta: Delta = decode("commit delta", &row.get::<_, Vec<u8>>(1)?)?;
        for segment in delta.segments {
            let Some(&partition) = loaded.hot.partition_of_row.get(&segment.partition_row) else {
                continue;
            };
            let state = loaded.hot.partitions[&partition].state;
            loaded.dirty.push(partition);
            if segment.base_offset < state.high_watermark {
                continue;
            }
            if segment.base_offset > state.high_watermark {
                let hole = format!("{partition}: no segment at {}", state.high_watermark);
                return Err(StoreError::Damaged(hole));
            }
            let object = ObjectId(segment.object);
            note_object(conn, loaded, object)?;
            let has_records = !loaded.hot.is_markers(object);
            let segment = Segment {
                partition,
                base_offset: segment.base_offset,
                last_offset: segment.base_offset + i64::from(segment.record_count) - 1,
                object,
                position: segment.position,
                length_bytes: segment.length_bytes,
                record_count: segment.record_count,
                max_timestamp: segment.max_timestamp,
                running_max_timestamp: segment.max_timestamp.wrapping_add(segment.running_above),
                committed_at,
            };
            loaded.hot.push_recent(segment, has_records);
            loaded.hot.settled_object = loaded.hot.settled_object.min(object.0 - 1);
        }
        for (partition_row, producer_id, state) in delta.producers {
            if let Some(partition) = loaded.hot.partition_of_row.get(&partition_row) {
                loaded.dirty.push(*partition);
                loaded.producers.put_dirty(partition_row, producer_id, state);
            }
        }
    }
    Ok(())
}

/// Counts one more recent segment of an object, whose row is read when it is met first.
fn note_object(conn: &Connection, loaded: &mut Loaded, id: ObjectId) -> Result<(), StoreError> {
    if let Some(known) = loaded.hot.recent_objects.get_mut(&id) {
        known.segments += 1;
        return Ok(());
    }
    let mut select =
        conn.prepare_cached("SELECT id, incarnation, counter, inline, length FROM objects WHERE id = ?1")?;
    let location = select.query_row(params![id.0], |row| location(row, 0))?;
    loaded.hot.recent_objects.insert(
        id,
        RecentObject {
            location,
            segments: 1,
        },
    );
    Ok(())
}

/// Reads id, incarnation, counter, inline and length of an object from column `at` on.
pub(super) fn location(row: &Row<'_>, at: usize) -> rusqlite::Result<ObjectLocation> {
    let incarnation = IncarnationId(Uuid::from_bytes(row.get(at + 1)?));
    Ok(ObjectLocation {
        id: ObjectId(row.get(at)?),
        name: ObjectName {
            incarnation,
            counter: unsigned(row.get(at + 2)?),
        },
        inline: row.get(at + 3)?,
        length_bytes: unsigned(row.get(at + 4)?),
    })
}

/// What was stored from an unsigned number.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
