//! Objects: how many segments name each, what becomes of one that none names, and inline payloads.
//!
//! `live_segments` counts every segment, merged or not. At 0 a stored object is marked deleting, because
//! its key is still there; an inline one is removed at once, because its bytes are in the row.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::encoding::{SegmentKeys, decode};
use super::hot::Hot;
use super::load::{location, unsigned};
use super::lookup::segment;
use super::writer::{Shared, Writer};
use crate::ids::{IncarnationId, ObjectId, StoreTime};
use crate::model::object::{Amount, DeletingObject, InlineBatch, StoredObject};
use crate::store::StoreError;

/// Inline objects that a transaction removed, and stored ones that nothing names since.
#[derive(Debug, Default)]
pub(super) struct Released {
    objects: u64,
    bytes: u64,
    oldest: Option<StoreTime>,
    dead: Amount,
}

impl Released {
    /// Tells memory, once the transaction is committed.
    pub(super) fn apply(&self, hot: &mut Hot) {
        if self.objects > 0 {
            hot.inline.objects -= self.objects;
            hot.inline.bytes -= self.bytes;
            hot.inline.oldest = self.oldest;
        }
        hot.stored.sub(self.dead);
        hot.deleting.add(self.dead);
    }
}

/// Takes segments off objects (row number → how many).
pub(super) fn release(
    conn: &Connection,
    objects: &BTreeMap<i64, i64>,
    now: StoreTime,
) -> Result<Released, StoreError> {
    let mut released = Released::default();
    let mut take = conn.prepare_cached(
        "UPDATE objects SET live_segments = live_segments - ?2 WHERE id = ?1 \
         RETURNING live_segments, inline, length",
    )?;
    for (id, count) in objects {
        let (left, inline, length): (i64, bool, i64) =
            take.query_row([id, count], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if left > 0 {
            continue;
        }
        if inline {
            conn.prepare_cached("DELETE FROM inline_objects WHERE id = ?1")?
                .execute([id])?;
            conn.prepare_cached("DELETE FROM objects WHERE id = ?1")?
                .execute([id])?;
            released.objects += 1;
            released.bytes += unsigned(length);
        } else {
            conn.prepare_cached("UPDATE objects SET deleting_since = ?2 WHERE id = ?1")?
                .execute(params![id, now.0])?;
            released.dead.add(Amount {
                objects: 1,
                bytes: unsigned(length),
            });
        }
    }
    if released.objects > 0 {
        let oldest = "SELECT o.created_at FROM inline_objects i CROSS JOIN objects o ON o.id = i.id \
                      ORDER BY i.id LIMIT 1";
        let oldest = conn
            .prepare_cached(oldest)?
            .query_row([], |row| row.get(0))
            .optional()?;
        released.oldest = oldest.map(StoreTime);
    }
    Ok(released)
}

impl Writer {
    pub(super) fn forget_objects(&mut self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let tx = self.conn.unchecked_transaction()?;
        let mut gone = Amount::default();
        {
            // Only what is deleting: an object that something names keeps its row whatever is asked.
            let mut delete = tx.prepare_cached(
                "DELETE FROM objects WHERE id = ?1 AND deleting_since IS NOT NULL RETURNING length, inline",
            )?;
            for object in objects {
                let deleted = delete.query_row([object.0], |row| Ok((row.get(0)?, row.get(1)?)));
                if let Some((length, false)) = deleted.optional()? {
                    gone.add(Amount {
                        objects: 1,
                        bytes: unsigned(length),
                    });
                }
            }
        }
        tx.commit()?;
        self.shared.hot.write().deleting.sub(gone);
        Ok(())
    }
}

pub(super) fn deleting(
    conn: &Connection,
    before: StoreTime,
    limit: u32,
) -> Result<Vec<DeletingObject>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT id, incarnation, counter, inline, length, deleting_since FROM objects \
         WHERE deleting_since < ?1 ORDER BY deleting_since, id LIMIT ?2",
    )?;
    let rows = select.query_map(params![before.0, limit], |row| {
        Ok(DeletingObject {
            location: location(row, 0)?,
            since: StoreTime(row.get(5)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn stored(
    conn: &Connection,
    after: ObjectId,
    limit: u32,
) -> Result<Vec<StoredObject>, StoreError> {
    let mut select = conn.prepare_cached(
        "SELECT id, incarnation, counter, inline, length, live_segments FROM objects \
         WHERE id > ?1 AND inline = 0 AND deleting_since IS NULL ORDER BY id LIMIT ?2",
    )?;
    let rows = select.query_map(params![after.0, limit], |row| {
        Ok(StoredObject {
            location: location(row, 0)?,
            segments: unsigned(row.get(5)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn unnamed(
    conn: &Connection,
    incarnation: IncarnationId,
    counters: &[u64],
) -> Result<Vec<u64>, StoreError> {
    let mut select =
        conn.prepare_cached("SELECT 1 FROM objects WHERE incarnation = ?1 AND counter = ?2 AND inline = 0")?;
    let mut unnamed = Vec::new();
    for &counter in counters {
        let key = params![incarnation.0.as_bytes(), super::commit::signed(counter)];
        if !select.exists(key)? {
            unnamed.push(counter);
        }
    }
    Ok(unnamed)
}

pub(super) fn payload(conn: &Connection, object: ObjectId) -> Result<Option<Bytes>, StoreError> {
    let mut select = conn.prepare_cached("SELECT payload FROM inline_objects WHERE id = ?1")?;
    let payload = select
        .query_row([object.0], |row| row.get::<_, Vec<u8>>(0))
        .optional()?;
    Ok(payload.map(Bytes::from))
}

/// The oldest inline objects that are merged wholly. Their rows of deleted topics are left to the purge;
/// an object that has no other is left out.
pub(super) fn inline_batch(
    conn: &Connection,
    shared: &Arc<Shared>,
    max_bytes: u64,
) -> Result<InlineBatch, StoreError> {
    let settled = shared.hot.read().settled_object;
    let mut select = conn.prepare_cached(
        "SELECT o.id, o.incarnation, o.counter, o.inline, o.length, i.segments \
         FROM inline_objects i CROSS JOIN objects o ON o.id = i.id WHERE i.id <= ?1 ORDER BY i.id",
    )?;
    let mut rows = select.query([settled])?;
    let mut batch = InlineBatch::default();
    let mut bytes = 0;
    while bytes < max_bytes.max(1)
        && let Some(row) = rows.next()?
    {
        let object = location(row, 0)?;
        let keys: SegmentKeys = decode("inline object's segments", &row.get::<_, Vec<u8>>(5)?)?;
        let before = batch.segments.len();
        for (partition_row, base_offset) in keys {
            let hot = shared.hot.read();
            let Some(partition) = hot.partition_of_row.get(&partition_row).copied() else {
                continue;
            };
            if hot.live(&partition).is_none() {
                continue;
            }
            drop(hot);
            let found = segment(conn, partition_row, partition, base_offset)?;
            batch
                .segments
                .extend(found.filter(|segment| segment.object == object.id));
        }
        if batch.segments.len() > before {
            bytes += object.length_bytes;
            batch.objects.push(object);
        }
    }
    Ok(batch)
}
