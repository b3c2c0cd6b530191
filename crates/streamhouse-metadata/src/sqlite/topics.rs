//! Topics: created, extended, marked deleted and purged.
//!
//! Limits and names are checked in the job that creates, so nothing comes between. Deletion marks first:
//! the name is free and the partitions are gone for everybody at once; their rows are removed later in
//! bounded pieces, after what is not merged yet was merged, so that every object learns that a segment
//! less names it (TRACES 18).

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::hot::Hot;
use super::objects::release;
use super::writer::Writer;
use crate::ids::{TopicId, TopicPartition};
use crate::model::topic::{NewTopic, Topic, TopicLimits, topic_name_key};
use crate::rules::append::PartitionState;
use crate::store::{StoreError, TopicError};

impl Writer {
    pub(super) fn create_topic(&mut self, new: NewTopic, limits: TopicLimits) -> Result<Topic, TopicError> {
        let shared = Arc::clone(&self.shared);
        {
            let hot = shared.hot.read();
            if let Some(existing) = hot.topic_like(&new.name) {
                return Err(TopicError::Exists(existing.name.clone()));
            }
            if hot.topics.len() as u64 >= u64::from(limits.topics_max) {
                return Err(TopicError::TooMany {
                    what: "topics",
                    limit: limits.topics_max,
                });
            }
            check_partitions(&hot, new.partitions, limits)?;
        }
        let topic = Topic {
            id: TopicId(Uuid::new_v4()),
            name: new.name,
            partitions: new.partitions,
            config: new.config,
            created_at: shared.now(),
        };
        let config = serde_json::to_string(&topic.config.entries)
            .map_err(|e| StoreError::Unavailable(format!("encoding: {e}")))?;
        let tx = self.conn.unchecked_transaction()?;
        tx.prepare_cached("INSERT INTO topics (id, name, config, created_at) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                topic.id.0.as_bytes(),
                topic.name,
                config,
                topic.created_at.0
            ])?;
        let rows = insert_partitions(&tx, topic.id, 0..topic.partitions)?;
        tx.commit()?;

        let mut hot = shared.hot.write();
        hot.names.insert(topic_name_key(&topic.name), topic.id);
        hot.topics.insert(topic.id, topic.clone());
        add_partitions(&mut hot, rows);
        Ok(topic)
    }

    pub(super) fn create_partitions(
        &mut self,
        id: TopicId,
        total: i32,
        limits: TopicLimits,
    ) -> Result<Topic, TopicError> {
        let shared = Arc::clone(&self.shared);
        let mut topic = {
            let hot = shared.hot.read();
            let topic = hot.topics.get(&id).ok_or(TopicError::Unknown)?;
            if total <= topic.partitions {
                return Err(TopicError::NotMorePartitions {
                    current: topic.partitions,
                    requested: total,
                });
            }
            check_partitions(&hot, total - topic.partitions, limits)?;
            topic.clone()
        };
        let tx = self.conn.unchecked_transaction()?;
        let rows = insert_partitions(&tx, id, topic.partitions..total)?;
        tx.commit()?;

        topic.partitions = total;
        let mut hot = shared.hot.write();
        hot.topics.insert(id, topic.clone());
        add_partitions(&mut hot, rows);
        Ok(topic)
    }

    pub(super) fn delete_topic(&mut self, id: TopicId) -> Result<(), TopicError> {
        let shared = Arc::clone(&self.shared);
        let topic = shared
            .hot
            .read()
            .topics
            .get(&id)
            .cloned()
            .ok_or(TopicError::Unknown)?;
        self.conn
            .prepare_cached("UPDATE topics SET deleted_at = ?2 WHERE id = ?1")?
            .execute(params![id.0.as_bytes(), shared.now().0])?;

        let mut hot = shared.hot.write();
        hot.topics.remove(&id);
        hot.names.remove(&topic_name_key(&topic.name));
        hot.deleted_topics.insert(id);
        for number in 0..topic.partitions {
            if let Some(partition) = hot.partitions.get_mut(&TopicPartition {
                topic: id,
                partition: number,
            }) {
                partition.live = false;
                self.producers.forget_partition(partition.row);
                hot.live_partitions -= 1;
            }
        }
        Ok(())
    }

    /// Removes about `limit` rows of deleted topics; true when nothing is left. What belongs to them has
    /// been merged before, else it waits for the next round.
    pub(super) fn purge_chunk(&mut self, limit: u32) -> Result<bool, StoreError> {
        let shared = Arc::clone(&self.shared);
        let Some(topic) = shared.hot.read().deleted_topics.first().copied() else {
            return Ok(true);
        };
        let now = shared.now();
        let tx = self.conn.unchecked_transaction()?;
        // With room for one row only, none would be left for the partition's own.
        let mut room = i64::from(limit.max(2));
        let mut gone = Vec::new();
        let mut objects = BTreeMap::new();
        let mut topic_gone = false;
        while room > 0 {
            let Some((row, number)) = next_partition(&tx, topic, &gone)? else {
                topic_gone = true;
                break;
            };
            let partition = TopicPartition {
                topic,
                partition: number,
            };
            let hot = shared.hot.read();
            if hot
                .partitions
                .get(&partition)
                .is_some_and(|p| !p.recent.is_empty())
            {
                break;
            }
            drop(hot);
            let removed = purge_partition(&tx, row, room, &mut objects)?;
            room -= removed.max(1);
            if room > 0 {
                tx.prepare_cached("DELETE FROM partitions WHERE id = ?1")?
                    .execute([row])?;
                gone.push((row, partition));
            }
        }
        if topic_gone {
            tx.prepare_cached("DELETE FROM topics WHERE id = ?1")?
                .execute([topic.0.as_bytes()])?;
        }
        let released = release(&tx, &objects, now)?;
        tx.commit()?;

        let mut hot = shared.hot.write();
        for (row, partition) in gone {
            hot.partitions.remove(&partition);
            hot.partition_of_row.remove(&row);
            self.producers.forget_partition(row);
        }
        if topic_gone {
            hot.deleted_topics.remove(&topic);
        }
        released.apply(&mut hot);
        Ok(hot.deleted_topics.is_empty())
    }
}

fn check_partitions(hot: &Hot, more: i32, limits: TopicLimits) -> Result<(), TopicError> {
    let total = hot.live_partitions + u64::try_from(more).unwrap_or(0);
    if total > u64::from(limits.partitions_max) {
        return Err(TopicError::TooMany {
            what: "partitions",
            limit: limits.partitions_max,
        });
    }
    Ok(())
}

fn insert_partitions(
    conn: &Connection,
    topic: TopicId,
    numbers: std::ops::Range<i32>,
) -> Result<Vec<(i64, TopicPartition)>, StoreError> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO partitions (topic, partition, log_start_offset, high_watermark, running_max_ts) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let empty = PartitionState::EMPTY;
    let mut rows = Vec::new();
    for partition in numbers {
        let row = insert.insert(params![
            topic.0.as_bytes(),
            partition,
            empty.log_start_offset,
            empty.high_watermark,
            empty.running_max_timestamp,
        ])?;
        rows.push((row, TopicPartition { topic, partition }));
    }
    Ok(rows)
}

fn add_partitions(hot: &mut Hot, rows: Vec<(i64, TopicPartition)>) {
    hot.live_partitions += rows.len() as u64;
    for (row, partition) in rows {
        hot.add_partition(partition, row, true, PartitionState::EMPTY);
    }
}

/// The next partition of a deleted topic that is still there.
fn next_partition(
    conn: &Connection,
    topic: TopicId,
    gone: &[(i64, TopicPartition)],
) -> Result<Option<(i64, i32)>, StoreError> {
    let after = gone.last().map_or(-1, |(_, partition)| partition.partition);
    let mut select = conn.prepare_cached(
        "SELECT id, partition FROM partitions WHERE topic = ?1 AND partition > ?2 ORDER BY partition LIMIT 1",
    )?;
    let found = select.query_row(params![topic.0.as_bytes(), after], |row| {
        Ok((row.get(0)?, row.get(1)?))
    });
    Ok(found.optional()?)
}

/// Removes up to `room` segments, producers and committed offsets; their number. Counts the segments by object.
fn purge_partition(
    conn: &Connection,
    row: i64,
    room: i64,
    objects: &mut BTreeMap<i64, i64>,
) -> Result<i64, StoreError> {
    let mut removed = 0;
    let mut select = conn.prepare_cached(
        "SELECT base_offset, object FROM segments WHERE partition_id = ?1 ORDER BY base_offset LIMIT ?2",
    )?;
    let mut rows = select.query(params![row, room])?;
    let mut last: Option<i64> = None;
    while let Some(segment) = rows.next()? {
        last = Some(segment.get(0)?);
        *objects.entry(segment.get(1)?).or_insert(0) += 1;
        removed += 1;
    }
    drop(rows);
    if let Some(last) = last {
        conn.prepare_cached("DELETE FROM segments WHERE partition_id = ?1 AND base_offset <= ?2")?
            .execute([row, last])?;
    }
    let mut delete = conn.prepare_cached(
        "DELETE FROM producers WHERE partition_id = ?1 AND producer_id IN \
         (SELECT producer_id FROM producers WHERE partition_id = ?1 LIMIT ?2)",
    )?;
    let removed = removed + delete.execute([row, room - removed])? as i64;
    for statement in [
        "DELETE FROM aborted_transactions WHERE partition_id = ?1",
        "DELETE FROM pending_offsets WHERE partition_id = ?1",
    ] {
        conn.prepare_cached(statement)?.execute([row])?;
    }
    let mut delete = conn.prepare_cached(
        "DELETE FROM committed_offsets WHERE partition_id = ?1 AND group_name IN \
         (SELECT group_name FROM committed_offsets WHERE partition_id = ?1 LIMIT ?2)",
    )?;
    Ok(removed + delete.execute([row, (room - removed).max(0)])? as i64)
}
