//! Swaps: a compaction's rows take the place of those it read (TRACES 17).
//!
//! The incarnation must be live in the same transaction. A partition is swapped only when every row it
//! replaces stands exactly as it was read; any other is skipped whole. Long swaps go in chunks of
//! partitions, one transaction each, so that commits come between; the new object gets its row with the
//! first partition that is swapped, and counts on from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::commit::signed;
use super::lookup::segment;
use super::objects::release;
use super::settle::insert_segment;
use super::writer::Writer;
use crate::ids::{ObjectId, ObjectName, StoreTime};
use crate::model::object::{Amount, SwapPartition, SwapResult};
use crate::model::segment::{NewSegment, Segment};
use crate::store::SwapError;

/// Rows that one transaction replaces and adds.
pub(super) const SWAP_ROWS_MAX: usize = 1_000;

impl Writer {
    /// Swaps these partitions; `last` marks the end of the swap, of which `swapped` partitions took it
    /// in earlier chunks.
    pub(super) fn swap_chunk(
        &mut self,
        name: ObjectName,
        length_bytes: u64,
        partitions: &[SwapPartition],
        swapped: usize,
        last: bool,
    ) -> Result<SwapResult, SwapError> {
        let shared = Arc::clone(&self.shared);
        let hot = shared.hot.read();
        if hot
            .incarnations
            .get(&name.incarnation)
            .is_none_or(|known| known.fenced_at.is_some())
        {
            return Err(SwapError::Fenced(name.incarnation));
        }
        drop(hot);
        let now = shared.now();
        let tx = self.conn.unchecked_transaction()?;
        let mut fitting: Vec<(i64, &SwapPartition)> = Vec::new();
        for partition in partitions {
            // A partition that is named twice was read at two moments: the first one counts.
            let fits = self
                .fits(partition)?
                .filter(|(row, _)| fitting.iter().all(|(other, _)| other != row));
            fitting.extend(fits);
        }
        let find = "SELECT id, deleting_since IS NOT NULL FROM objects \
                    WHERE incarnation = ?1 AND counter = ?2 AND inline = 0";
        let key = params![name.incarnation.0.as_bytes(), signed(name.counter)];
        let known = tx
            .prepare_cached(find)?
            .query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((_, true)) = known {
            // Its key may be gone by now: nothing may name it again.
            fitting.clear();
        }
        let known: Option<i64> = known.map(|(id, _)| id);
        let mut result = SwapResult {
            swapped: fitting.len(),
            skipped: partitions.len() - fitting.len(),
        };

        let added: usize = fitting.iter().map(|(_, p)| p.added.len()).sum();
        let dead = swapped == 0 && added == 0 && last;
        // A repeat whose first run swapped finds nothing left to swap, and its object in use.
        let id = known.unwrap_or(self.next_object);
        if known.is_none() && (added > 0 || dead) {
            tx.prepare_cached(
                "INSERT INTO objects (id, incarnation, counter, inline, length, live_segments, created_at, \
                 deleting_since) VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                id,
                name.incarnation.0.as_bytes(),
                signed(name.counter),
                signed(length_bytes),
                added as i64,
                now.0,
                dead.then_some(now.0),
            ])?;
        } else if added > 0 {
            tx.prepare_cached("UPDATE objects SET live_segments = live_segments + ?2 WHERE id = ?1")?
                .execute(params![id, added as i64])?;
        }
        let mut replaced = BTreeMap::new();
        for (row, partition) in &fitting {
            for old in &partition.replaced {
                tx.prepare_cached("DELETE FROM segments WHERE partition_id = ?1 AND base_offset = ?2")?
                    .execute([*row, old.base_offset])?;
                *replaced.entry(old.object.0).or_insert(0) += 1;
            }
            let mut insert = tx.prepare_cached(
                "INSERT INTO segments (partition_id, base_offset, last_offset, object, position, length, \
                 record_count, max_ts, running_max_ts, committed_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?;
            for new in &partition.added {
                insert_segment(&mut insert, *row, &named(new, ObjectId(id)))?;
            }
        }
        let sizes: Vec<_> = fitting.iter().map(|(row, p)| (*row, p, grown_bytes(p))).collect();
        for (row, _, grown) in sizes.iter().filter(|(_, _, grown)| *grown != 0) {
            tx.prepare_cached("UPDATE partitions SET size_bytes = max(size_bytes + ?2, 0) WHERE id = ?1")?
                .execute([row, grown])?;
        }
        let released = release(&tx, &replaced, now)?;
        tx.commit()?;

        if known.is_none() && (added > 0 || dead) {
            self.next_object += 1;
        }
        let mut hot = shared.hot.write();
        for (_, swap, grown) in sizes {
            let id = swap.replaced.first().map(|s| s.partition);
            if let Some(partition) = id.and_then(|id| hot.partitions.get_mut(&id)) {
                partition.size_bytes = partition.size_bytes.saturating_add_signed(grown);
            }
        }
        if known.is_none() && (added > 0 || dead) {
            let amount = Amount {
                objects: 1,
                bytes: length_bytes,
            };
            match dead {
                true => hot.deleting.add(amount),
                false => hot.stored.add(amount),
            }
        }
        released.apply(&mut hot);
        drop(hot);
        self.wrote(added * 512);
        result.swapped += swapped;
        Ok(result)
    }

    /// The partition's row number when every replaced row stands as it was read.
    fn fits<'a>(&self, swap: &'a SwapPartition) -> Result<Option<(i64, &'a SwapPartition)>, SwapError> {
        let Some(partition) = tiles(swap) else {
            tracing::error!("a swap was asked for whose new rows do not cover the old ones");
            return Ok(None);
        };
        let row = self.shared.hot.read().live(&partition).map(|p| p.row);
        let Some(row) = row else { return Ok(None) };
        for old in &swap.replaced {
            if segment(&self.conn, row, partition, old.base_offset)?.as_ref() != Some(old) {
                return Ok(None);
            }
        }
        Ok(Some((row, swap)))
    }
}

/// The swap's partition, when old and new rows each lie side by side and cover the same offsets.
fn tiles(swap: &SwapPartition) -> Option<crate::ids::TopicPartition> {
    let (first_old, last_old) = (swap.replaced.first()?, swap.replaced.last()?);
    let (first_new, last_new) = (swap.added.first()?, swap.added.last()?);
    let partition = first_old.partition;
    let old_joined = swap
        .replaced
        .windows(2)
        .all(|w| w[0].last_offset + 1 == w[1].base_offset);
    let new_joined = swap
        .added
        .windows(2)
        .all(|w| w[0].last_offset + 1 == w[1].base_offset);
    let one = swap
        .replaced
        .iter()
        .all(|s| s.partition == partition && s.base_offset <= s.last_offset)
        && swap
            .added
            .iter()
            .all(|s| s.partition == partition && s.base_offset <= s.last_offset);
    let same = first_old.base_offset == first_new.base_offset && last_old.last_offset == last_new.last_offset;
    (one && old_joined && new_joined && same).then_some(partition)
}

/// By how many bytes the partition grows; compaction leaves dead bytes behind.
fn grown_bytes(swap: &SwapPartition) -> i64 {
    let added: i64 = swap.added.iter().map(|s| i64::from(s.length_bytes)).sum();
    let replaced: i64 = swap.replaced.iter().map(|s| i64::from(s.length_bytes)).sum();
    added - replaced
}

fn named(new: &NewSegment, object: ObjectId) -> Segment {
    Segment {
        partition: new.partition,
        base_offset: new.base_offset,
        last_offset: new.last_offset,
        object,
        position: new.position,
        length_bytes: new.length_bytes,
        record_count: new.record_count,
        max_timestamp: new.max_timestamp,
        running_max_timestamp: new.running_max_timestamp,
        committed_at: StoreTime(new.committed_at.0),
    }
}
