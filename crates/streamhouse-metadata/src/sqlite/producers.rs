//! Producer states: a bounded cache before the table, and the ids that are given out.
//!
//! A state that changed since it was merged is dirty and stays in memory, because only it is true; a
//! clean one may go at any time. Not here: what a state means (`rules::producer`).

use rusqlite::{Connection, OptionalExtension, params};

use super::encoding::{decode, encode};
use super::writer::Writer;
use crate::ids::{IdMap, StoreTime, TopicPartition};
use crate::model::producer::{ActiveProducer, ProducerState};
use crate::store::{LookupError, StoreError};

/// Partition row and producer id.
pub(super) type ProducerKey = (i64, i64);

#[derive(Debug)]
struct Cached {
    state: ProducerState,
    dirty: bool,
}

/// By partition row, then producer id.
#[derive(Debug, Default)]
pub(super) struct ProducerCache {
    partitions: IdMap<i64, IdMap<i64, Cached>>,
    total: usize,
}

impl ProducerCache {
    /// The state from memory, else from the table.
    pub(super) fn load(
        &self,
        conn: &Connection,
        partition_row: i64,
        producer_id: i64,
    ) -> Result<Option<ProducerState>, StoreError> {
        if let Some(cached) = self
            .partitions
            .get(&partition_row)
            .and_then(|p| p.get(&producer_id))
        {
            return Ok(Some(cached.state.clone()));
        }
        let mut select =
            conn.prepare_cached("SELECT state FROM producers WHERE partition_id = ?1 AND producer_id = ?2")?;
        let row = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0);
        let bytes = select
            .query_row(params![partition_row, producer_id], row)
            .optional()?;
        bytes.map(|bytes| decode("producer state", &bytes)).transpose()
    }

    /// Takes a committed change.
    pub(super) fn put_dirty(&mut self, partition_row: i64, producer_id: i64, state: ProducerState) {
        let partition = self.partitions.entry(partition_row).or_default();
        if partition
            .insert(producer_id, Cached { state, dirty: true })
            .is_none()
        {
            self.total += 1;
        }
    }

    /// Writes the dirty states of one partition; their number.
    pub(super) fn store_dirty(&self, conn: &Connection, partition_row: i64) -> Result<usize, StoreError> {
        let Some(partition) = self.partitions.get(&partition_row) else {
            return Ok(0);
        };
        let mut upsert = conn.prepare_cached(
            "INSERT OR REPLACE INTO producers (partition_id, producer_id, last_used, state) \
             VALUES (?1, ?2, ?3, ?4)",
        )?;
        let mut stored = 0;
        for (producer_id, cached) in partition.iter().filter(|(_, cached)| cached.dirty) {
            let state = encode(&cached.state)?;
            upsert.execute(params![
                partition_row,
                producer_id,
                cached.state.last_used.0,
                state
            ])?;
            stored += 1;
        }
        Ok(stored)
    }

    pub(super) fn mark_clean(&mut self, partition_row: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition_row) {
            partition.values_mut().for_each(|cached| cached.dirty = false);
        }
    }

    pub(super) fn forget_partition(&mut self, partition_row: i64) {
        if let Some(partition) = self.partitions.remove(&partition_row) {
            self.total -= partition.len();
        }
    }

    fn forget(&mut self, partition_row: i64, producer_id: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition_row) {
            if partition.remove(&producer_id).is_some() {
                self.total -= 1;
            }
            if partition.is_empty() {
                self.partitions.remove(&partition_row);
            }
        }
    }

    /// Drops the clean states that were used longest ago when there are more than `max` in all.
    pub(super) fn shrink(&mut self, max: usize) {
        if self.total <= max {
            return;
        }
        let mut clean: Vec<(StoreTime, i64, i64)> = Vec::new();
        for (row, partition) in &self.partitions {
            let states = partition.iter().filter(|(_, cached)| !cached.dirty);
            clean.extend(states.map(|(id, cached)| (cached.state.last_used, *row, *id)));
        }
        clean.sort_unstable();
        // A quarter below the bound, so that this does not run again at once.
        let drop = (self.total - max + max / 4).min(clean.len());
        for (_, row, id) in &clean[..drop] {
            self.forget(*row, *id);
        }
    }
}

impl Writer {
    pub(super) fn allocate_producer_ids(&mut self, count: u32) -> Result<i64, StoreError> {
        let mut update = self.conn.prepare_cached(
            "UPDATE cluster SET next_producer_id = next_producer_id + ?1 RETURNING next_producer_id - ?1",
        )?;
        Ok(update.query_row(params![count], |row| row.get(0))?)
    }

    /// What administrators may see of the producers of a partition, ascending by id.
    pub(super) fn active_producers(
        &mut self,
        id: TopicPartition,
    ) -> Result<Result<Vec<ActiveProducer>, LookupError>, StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        let hot = shared.hot.read();
        let Some(partition) = hot.live(&id) else {
            return Ok(Err(LookupError::UnknownPartition));
        };
        let mut states = std::collections::BTreeMap::new();
        let mut select = self
            .conn
            .prepare_cached("SELECT producer_id, state FROM producers WHERE partition_id = ?1")?;
        let mut rows = select.query([partition.row])?;
        while let Some(row) = rows.next()? {
            let state: ProducerState = decode("producer state", &row.get::<_, Vec<u8>>(1)?)?;
            states.insert(row.get(0)?, state);
        }
        // Memory is newer than the table.
        for (producer_id, cached) in self
            .producers
            .partitions
            .get(&partition.row)
            .into_iter()
            .flatten()
        {
            states.insert(*producer_id, cached.state.clone());
        }
        let start_of = |producer_id| {
            let mut open = partition.open.iter();
            open.find(|(_, id)| *id == producer_id).map(|(first, _)| *first)
        };
        let active = states.into_iter().map(|(producer_id, state)| ActiveProducer {
            producer_id,
            epoch: state.epoch,
            last_sequence: state.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_used: state.last_used,
            transaction_start_offset: start_of(producer_id),
        });
        Ok(Ok(active.collect()))
    }

    /// Removes rows of `keys` that have still not been used since `before`; their number.
    pub(super) fn expire_chunk(
        &mut self,
        keys: &[ProducerKey],
        before: StoreTime,
    ) -> Result<u64, StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        let open = |producer_id| shared.hot.read().transactions.is_open(producer_id);
        let tx = self.conn.unchecked_transaction()?;
        let mut expired = Vec::new();
        {
            let mut delete = tx.prepare_cached(
                "DELETE FROM producers WHERE partition_id = ?1 AND producer_id = ?2 AND last_used < ?3",
            )?;
            for (row, id) in keys {
                // A transaction may outlive any time without batches (TRACES 19).
                if open(*id) {
                    continue;
                }
                // What memory knows may be newer than the table.
                let used = self.producers.partitions.get(row).and_then(|p| p.get(id));
                if used.is_some_and(|cached| cached.state.last_used >= before) {
                    continue;
                }
                if delete.execute(params![row, id, before.0])? > 0 {
                    expired.push((*row, *id));
                }
            }
        }
        tx.commit()?;
        for (row, id) in &expired {
            self.producers.forget(*row, *id);
        }
        Ok(expired.len() as u64)
    }
}

/// Up to `limit` producers after `after` that were not used since `before`, and where to go on.
pub(super) fn expired_after(
    conn: &Connection,
    after: ProducerKey,
    before: StoreTime,
    limit: usize,
) -> Result<(Vec<ProducerKey>, Option<ProducerKey>), StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT partition_id, producer_id, last_used FROM producers \
         WHERE (partition_id, producer_id) > (?1, ?2) ORDER BY partition_id, producer_id LIMIT ?3",
    )?;
    let mut rows = select.query(params![
        after.0,
        after.1,
        i64::try_from(limit).unwrap_or(i64::MAX)
    ])?;
    let (mut expired, mut seen, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let key = (row.get(0)?, row.get(1)?);
        if row.get::<_, i64>(2)? < before.0 {
            expired.push(key);
        }
        seen += 1;
        last = Some(key);
    }
    Ok((expired, last.filter(|_| seen == limit)))
}
