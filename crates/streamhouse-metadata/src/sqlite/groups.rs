//! Consumer groups and committed offsets in SQLite: every change is one transaction, fenced by the group's
//! coordinator epoch (TRACES 24).
//!
//! Offsets are kept by partition row, so that a recreated topic inherits none; those of a deleted topic are
//! hidden at once and removed with its other rows. Not here: what payloads mean, who is a member.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::encoding::{decode, encode};
use super::hot::{Hot, NOBODY};
use super::open::SqliteStore;
use super::writer::{Shared, Writer};
use crate::ids::{StoreTime, TopicPartition};
use crate::model::group::{
    CommittedOffset, GroupLag, GroupOffset, GroupSnapshot, GroupSummary, GroupWrite, ListedGroup,
    OffsetOutcome, StoredGroup,
};
use crate::store::StoreError;
use crate::store::groups::{GroupError, GroupStore};

#[async_trait]
impl GroupStore for SqliteStore {
    async fn claim_group(&self, group: &str) -> Result<Option<StoredGroup>, StoreError> {
        let group = group.to_owned();
        self.write(move |writer| writer.claim_group(group)).await
    }

    async fn write_group(&self, write: GroupWrite, groups_max: u32) -> Result<i64, GroupError> {
        self.write(move |writer| writer.write_group(&write, groups_max))
            .await
    }

    async fn commit_offsets(
        &self,
        group: &str,
        coordinator_epoch: i64,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<Vec<OffsetOutcome>, GroupError> {
        let group = group.to_owned();
        self.write(move |writer| writer.commit_offsets(&group, coordinator_epoch, &offsets))
            .await
    }

    async fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<GroupOffset>, StoreError> {
        let (group, shared) = (group.to_owned(), Arc::clone(&self.shared));
        let wanted = partitions.map(<[TopicPartition]>::to_vec);
        self.read(move |conn| group_offsets(conn, &shared, &group, wanted.as_deref()))
            .await
    }

    async fn delete_offsets(
        &self,
        group: &str,
        coordinator_epoch: i64,
        partitions: &[TopicPartition],
    ) -> Result<(), GroupError> {
        let (group, partitions) = (group.to_owned(), partitions.to_vec());
        self.write(move |writer| writer.delete_offsets(&group, coordinator_epoch, &partitions))
            .await
    }

    async fn delete_group(&self, group: &str, coordinator_epoch: i64) -> Result<(), GroupError> {
        let group = group.to_owned();
        self.write(move |writer| writer.delete_group(&group, coordinator_epoch))
            .await
    }

    async fn list_groups(&self) -> Result<Vec<ListedGroup>, StoreError> {
        self.read(list_groups).await
    }

    async fn expire_groups(&self, before: StoreTime, limit: u32) -> Result<(Vec<String>, bool), StoreError> {
        self.write(move |writer| writer.expire_groups(before, limit))
            .await
    }

    async fn group_snapshots(&self) -> Result<Vec<GroupSnapshot>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.read(move |conn| group_snapshots(conn, &shared)).await
    }
}

impl Writer {
    fn claim_group(&mut self, group: String) -> Result<Option<StoredGroup>, StoreError> {
        // Without this look an unknown name would cost a flush.
        let known = self
            .conn
            .prepare_cached("SELECT 1 FROM consumer_groups WHERE name = ?1")?
            .exists([&group])?;
        if !known {
            return Ok(None);
        }
        let tx = self.conn.unchecked_transaction()?;
        let claimed = tx
            .prepare_cached(
                "UPDATE consumer_groups SET coordinator_epoch = coordinator_epoch + 1 WHERE name = ?1 \
                 RETURNING coordinator_epoch, summary, payload, empty_since",
            )?
            .query_row([&group], |row| {
                let blobs: (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
                Ok((row.get(0)?, blobs, row.get::<_, Option<i64>>(3)?))
            })?;
        let (coordinator_epoch, (summary, payload), empty_since) = claimed;
        let members = tx
            .prepare_cached(
                "SELECT member, payload FROM group_members WHERE group_name = ?1 ORDER BY member",
            )?
            .query_map([&group], |row| {
                Ok((row.get(0)?, Bytes::from(row.get::<_, Vec<u8>>(1)?)))
            })?
            .collect::<Result<_, _>>()?;
        tx.commit()?;
        Ok(Some(StoredGroup {
            group,
            coordinator_epoch,
            summary: decode("group summary", &summary)?,
            payload: Bytes::from(payload),
            members,
            empty_since: empty_since.map(StoreTime),
        }))
    }

    fn write_group(&mut self, write: &GroupWrite, groups_max: u32) -> Result<i64, GroupError> {
        let now = self.shared.now();
        let summary = encode(&write.summary)?;
        let empty_since = (write.summary.members == 0).then_some(now.0);
        let fenced = || GroupError::Fenced(write.group.clone());
        let tx = self.conn.unchecked_transaction()?;
        let epoch = match write.coordinator_epoch {
            None => {
                let mut count = tx.prepare_cached("SELECT count(*) FROM consumer_groups")?;
                if count.query_row([], |row| row.get::<_, i64>(0))? >= i64::from(groups_max) {
                    return Err(GroupError::TooMany { limit: groups_max });
                }
                let mut insert = tx.prepare_cached(
                    "INSERT INTO consumer_groups (name, coordinator_epoch, summary, payload, empty_since) \
                     VALUES (?1, 1, ?2, ?3, ?4) ON CONFLICT (name) DO NOTHING",
                )?;
                let row = params![write.group, summary, &write.payload[..], empty_since];
                if insert.execute(row)? == 0 {
                    return Err(fenced());
                }
                1
            }
            Some(epoch) => {
                // A group that stays empty has been empty since before.
                let mut update = tx.prepare_cached(
                    "UPDATE consumer_groups SET summary = ?3, payload = ?4, \
                     empty_since = CASE WHEN ?5 IS NULL THEN NULL ELSE coalesce(empty_since, ?5) END \
                     WHERE name = ?1 AND coordinator_epoch = ?2",
                )?;
                let row = params![write.group, epoch, summary, &write.payload[..], empty_since];
                if update.execute(row)? == 0 {
                    return Err(fenced());
                }
                epoch
            }
        };
        {
            let mut store = tx.prepare_cached(
                "INSERT OR REPLACE INTO group_members (group_name, member, payload) VALUES (?1, ?2, ?3)",
            )?;
            let mut remove =
                tx.prepare_cached("DELETE FROM group_members WHERE group_name = ?1 AND member = ?2")?;
            for (member, payload) in &write.members {
                match payload {
                    Some(payload) => store.execute(params![write.group, member, &payload[..]])?,
                    None => remove.execute(params![write.group, member])?,
                };
            }
        }
        tx.commit()?;
        Ok(epoch)
    }

    fn commit_offsets(
        &mut self,
        group: &str,
        coordinator_epoch: i64,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<Vec<OffsetOutcome>, GroupError> {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        let tx = self.conn.unchecked_transaction()?;
        require_coordinator(&tx, group, coordinator_epoch)?;
        let mut outcomes = Vec::with_capacity(offsets.len());
        {
            let hot = shared.hot.read();
            let mut previous = tx.prepare_cached(
                "SELECT offset FROM committed_offsets WHERE group_name = ?1 AND partition_id = ?2",
            )?;
            let mut upsert = tx.prepare_cached(
                "INSERT OR REPLACE INTO committed_offsets \
                 (group_name, partition_id, offset, leader_epoch, metadata, committed_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            let mut supersede = tx.prepare_cached(
                "UPDATE pending_offsets SET superseded = 1 WHERE group_name = ?1 AND partition_id = ?2",
            )?;
            for (partition, committed) in offsets {
                let Some(live) = hot.live(partition) else {
                    outcomes.push(OffsetOutcome::UnknownPartition);
                    continue;
                };
                let before = previous
                    .query_row(params![group, live.row], |row| row.get(0))
                    .optional()?;
                upsert.execute(params![
                    group,
                    live.row,
                    committed.offset,
                    committed.leader_epoch,
                    committed.metadata,
                    now.0
                ])?;
                supersede.execute(params![group, live.row])?;
                outcomes.push(OffsetOutcome::Stored { previous: before });
            }
        }
        tx.commit()?;
        Ok(outcomes)
    }

    fn delete_offsets(
        &mut self,
        group: &str,
        coordinator_epoch: i64,
        partitions: &[TopicPartition],
    ) -> Result<(), GroupError> {
        let shared = Arc::clone(&self.shared);
        let tx = self.conn.unchecked_transaction()?;
        require_coordinator(&tx, group, coordinator_epoch)?;
        {
            let hot = shared.hot.read();
            let mut delete = tx.prepare_cached(
                "DELETE FROM committed_offsets WHERE group_name = ?1 AND partition_id = ?2",
            )?;
            for live in partitions.iter().filter_map(|partition| hot.live(partition)) {
                delete.execute(params![group, live.row])?;
            }
        }
        tx.commit()?;
        Ok(())
    }

    fn delete_group(&mut self, group: &str, coordinator_epoch: i64) -> Result<(), GroupError> {
        let tx = self.conn.unchecked_transaction()?;
        let empty = tx
            .prepare_cached(
                "SELECT empty_since IS NOT NULL, coordinator_epoch FROM consumer_groups WHERE name = ?1",
            )?
            .query_row([group], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        match empty {
            None => return Err(GroupError::Unknown(group.to_owned())),
            Some((_, epoch)) if epoch != coordinator_epoch => {
                return Err(GroupError::Fenced(group.to_owned()));
            }
            Some((false, _)) => return Err(GroupError::NotEmpty(group.to_owned())),
            Some((true, _)) => remove_group(&tx, group)?,
        }
        tx.commit()?;
        Ok(())
    }

    fn expire_groups(&mut self, before: StoreTime, limit: u32) -> Result<(Vec<String>, bool), StoreError> {
        let tx = self.conn.unchecked_transaction()?;
        let groups: Vec<String> = tx
            .prepare_cached(
                "SELECT name FROM consumer_groups AS g WHERE empty_since < ?1 AND \
                 NOT EXISTS (SELECT 1 FROM pending_offsets WHERE group_name = g.name) AND \
                 (EXISTS (SELECT 1 FROM committed_offsets WHERE group_name = g.name AND committed_at < ?1) \
                  OR NOT EXISTS (SELECT 1 FROM committed_offsets WHERE group_name = g.name)) LIMIT ?2",
            )?
            .query_map(params![before.0, limit], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let more = groups.len() >= limit as usize;
        let mut gone = Vec::new();
        for group in groups {
            tx.prepare_cached("DELETE FROM committed_offsets WHERE group_name = ?1 AND committed_at < ?2")?
                .execute(params![group, before.0])?;
            let left = tx
                .prepare_cached("SELECT 1 FROM committed_offsets WHERE group_name = ?1 LIMIT 1")?
                .exists([&group])?;
            if !left {
                remove_group(&tx, &group)?;
                gone.push(group);
            }
        }
        tx.commit()?;
        Ok((gone, more))
    }
}

/// The group is still this coordinator's.
pub(super) fn require_coordinator(
    conn: &Connection,
    group: &str,
    coordinator_epoch: i64,
) -> Result<(), GroupError> {
    let epoch: Option<i64> = conn
        .prepare_cached("SELECT coordinator_epoch FROM consumer_groups WHERE name = ?1")?
        .query_row([group], |row| row.get(0))
        .optional()?;
    match epoch {
        Some(epoch) if epoch == coordinator_epoch => Ok(()),
        _ => Err(GroupError::Fenced(group.to_owned())),
    }
}

fn remove_group(conn: &Connection, group: &str) -> rusqlite::Result<()> {
    for statement in [
        "DELETE FROM pending_offsets WHERE group_name = ?1",
        "DELETE FROM committed_offsets WHERE group_name = ?1",
        "DELETE FROM group_members WHERE group_name = ?1",
        "DELETE FROM consumer_groups WHERE name = ?1",
    ] {
        conn.prepare_cached(statement)?.execute([group])?;
    }
    Ok(())
}

fn group_offsets(
    conn: &Connection,
    shared: &Shared,
    group: &str,
    wanted: Option<&[TopicPartition]>,
) -> Result<Vec<GroupOffset>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT partition_id, offset, leader_epoch, metadata, committed_at FROM committed_offsets \
         WHERE group_name = ?1",
    )?;
    let mut rows = select.query([group])?;
    let mut found = std::collections::BTreeMap::new();
    while let Some(row) = rows.next()? {
        let committed = CommittedOffset {
            offset: row.get(1)?,
            leader_epoch: row.get(2)?,
            metadata: row.get(3)?,
        };
        let (partition_row, at): (i64, i64) = (row.get(0)?, row.get(4)?);
        if let Some(partition) = live_partition(&shared.hot.read(), partition_row) {
            let offset = GroupOffset {
                partition,
                committed: Some(committed),
                pending: false,
                committed_at: StoreTime(at),
            };
            found.insert(partition, offset);
        }
    }
    let pending = pending_partitions(conn, shared, group)?;
    let Some(wanted) = wanted else {
        let found = found.into_values().map(|offset| GroupOffset {
            pending: pending.contains(&offset.partition),
            ..offset
        });
        return Ok(found.collect());
    };
    let none = |partition| GroupOffset {
        partition,
        committed: None,
        pending: false,
        committed_at: StoreTime(0),
    };
    Ok(wanted
        .iter()
        .map(|partition| GroupOffset {
            pending: pending.contains(partition),
            ..found.get(partition).cloned().unwrap_or_else(|| none(*partition))
        })
        .collect())
}

/// The partitions in which a transaction holds an offset of this group.
fn pending_partitions(
    conn: &Connection,
    shared: &Shared,
    group: &str,
) -> Result<BTreeSet<TopicPartition>, StoreError> {
    let mut select =
        conn.prepare_cached("SELECT DISTINCT partition_id FROM pending_offsets WHERE group_name = ?1")?;
    let mut rows = select.query([group])?;
    let mut pending = BTreeSet::new();
    while let Some(row) = rows.next()? {
        pending.extend(live_partition(&shared.hot.read(), row.get(0)?));
    }
    Ok(pending)
}

pub(super) fn live_partition(hot: &Hot, row: i64) -> Option<TopicPartition> {
    let partition = hot.partition_of_row.get(&row)?;
    hot.live(partition).map(|_| *partition)
}

fn list_groups(conn: &Connection) -> Result<Vec<ListedGroup>, StoreError> {
    let mut select = conn.prepare_cached("SELECT name, summary FROM consumer_groups ORDER BY name")?;
    let mut rows = select.query([])?;
    let mut listed = Vec::new();
    while let Some(row) = rows.next()? {
        let summary: GroupSummary = decode("group summary", &row.get::<_, Vec<u8>>(1)?)?;
        listed.push(ListedGroup {
            group: row.get(0)?,
            summary,
        });
    }
    Ok(listed)
}

/// All groups with their lags. Offsets are read first and high watermarks after them, so that no lag is
/// negative. A segment that memory does not know any more is in the table: it is asked last, outside the
/// transaction that read the offsets, which would not see what was merged meanwhile.
fn group_snapshots(conn: &Connection, shared: &Shared) -> Result<Vec<GroupSnapshot>, StoreError> {
    let mut snapshots = Vec::new();
    let mut older = Vec::new();
    let tx = conn.unchecked_transaction()?;
    let listed = list_groups(&tx)?;
    {
        let mut select = tx.prepare_cached(
            "SELECT partition_id, offset, committed_at FROM committed_offsets WHERE group_name = ?1",
        )?;
        for group in listed {
            let mut snapshot = GroupSnapshot {
                last_commit: None,
                lags: Vec::new(),
                group,
            };
            let mut rows = select.query([&snapshot.group.group])?;
            while let Some(row) = rows.next()? {
                let (partition_row, committed): (i64, i64) = (row.get(0)?, row.get(1)?);
                let Some((lag, in_table)) = lag_of(&shared.hot.read(), partition_row, committed) else {
                    continue;
                };
                if in_table {
                    older.push((snapshots.len(), snapshot.lags.len(), partition_row));
                }
                snapshot.last_commit = snapshot.last_commit.max(Some(StoreTime(row.get(2)?)));
                snapshot.lags.push(lag);
            }
            snapshots.push(snapshot);
        }
    }
    tx.commit()?;
    // Markers that are compacted count as records here: at most the age is that of one before the record.
    let mut select = conn.prepare_cached(
        "SELECT s.committed_at FROM segments s CROSS JOIN objects o ON o.id = s.object \
         WHERE s.partition_id = ?1 AND s.last_offset >= ?2 AND s.base_offset >= coalesce((SELECT \
         max(base_offset) FROM segments WHERE partition_id = ?1 AND base_offset <= ?2), ?2) \
         AND o.incarnation <> ?3 ORDER BY s.base_offset LIMIT 1",
    )?;
    for (group, at, partition_row) in older {
        let lag = &mut snapshots[group].lags[at];
        let first = lag.committed.max(lag.log_start_offset);
        let key = params![partition_row, first, NOBODY.0.as_bytes()];
        let found = select.query_row(key, |row| row.get(0).map(StoreTime));
        // Else the record is among those that memory had.
        lag.oldest_unconsumed_at = found.optional()?.or(lag.oldest_unconsumed_at);
    }
    Ok(snapshots)
}

/// What memory knows of the lag, with the commit time of the first record among the recent segments; true where
/// the table may have an older one. Markers that no record follows are nothing to consume.
fn lag_of(hot: &Hot, partition_row: i64, committed: i64) -> Option<(GroupLag, bool)> {
    let partition = live_partition(hot, partition_row)?;
    let live = hot.live(&partition)?;
    let first = committed.max(live.state.log_start_offset);
    let is_behind = first < live.records_end;
    let from = live.recent.partition_point(|segment| segment.last_offset < first);
    let mut recent = live.recent.range(from..).filter(|_| is_behind);
    let oldest = recent.find(|segment| !hot.is_markers(segment.object));
    let lag = GroupLag {
        partition,
        committed,
        log_start_offset: live.state.log_start_offset,
        records_end: live.records_end,
        high_watermark: live.state.high_watermark,
        oldest_unconsumed_at: oldest.map(|segment| segment.committed_at),
    };
    Some((lag, is_behind && first < live.merged_end()))
}
