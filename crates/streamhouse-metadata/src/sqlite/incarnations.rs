//! Incarnations: registered, fenced, swept and forgotten.
//!
//! The file lock proves every predecessor dead, so registering turns all of them into tombstones in the
//! same transaction (TRACES 30). A tombstone is kept for 30 days, because an upload of its dead process
//! may still appear in the object store (TRACES 16).

use std::sync::Arc;
use std::time::Duration;

use rusqlite::params;
use uuid::Uuid;

use super::hot::Incarnation;
use super::writer::{Shared, Writer};
use crate::ids::{IncarnationId, StoreTime};
use crate::store::{Registered, StoreError};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const TOMBSTONES_KEPT_MS: i64 = 30 * DAY_MS;

impl Writer {
    pub(super) fn register(&mut self, advertised: &str) -> Result<Registered, StoreError> {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        let incarnation = IncarnationId(Uuid::new_v4());
        let tx = self.conn.unchecked_transaction()?;
        tx.execute(
            "UPDATE incarnations SET fenced_at = ?1 WHERE fenced_at IS NULL",
            [now.0],
        )?;
        tx.execute(
            "INSERT INTO agents (advertised) VALUES (?1) ON CONFLICT DO NOTHING",
            [advertised],
        )?;
        let select = "SELECT node_id FROM agents WHERE advertised = ?1";
        let node_id: i32 = tx.query_row(select, [advertised], |row| row.get(0))?;
        tx.execute(
            "INSERT INTO incarnations (id, node_id, registered_at) VALUES (?1, ?2, ?3)",
            params![incarnation.0.as_bytes(), node_id, now.0],
        )?;
        tx.commit()?;

        let mut hot = shared.hot.write();
        for known in hot.incarnations.values_mut() {
            known.fenced_at.get_or_insert(now);
        }
        let fresh = Incarnation {
            last_number: 0,
            last_commit: 0,
            lowest_undecided: 0,
            fenced_at: None,
            swept_at: None,
        };
        hot.incarnations.insert(incarnation, fresh);
        Ok(Registered { incarnation, node_id })
    }

    pub(super) fn fence(&mut self, incarnation: IncarnationId) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let live = |known: &Incarnation| known.fenced_at.is_none();
        if !shared.hot.read().incarnations.get(&incarnation).is_some_and(live) {
            return Ok(());
        }
        let now = shared.now();
        self.conn.execute(
            "UPDATE incarnations SET fenced_at = ?2 WHERE id = ?1",
            params![incarnation.0.as_bytes(), now.0],
        )?;
        if let Some(known) = shared.hot.write().incarnations.get_mut(&incarnation) {
            known.fenced_at = Some(now);
        }
        Ok(())
    }

    pub(super) fn swept(&mut self, incarnation: IncarnationId, at: StoreTime) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let known = shared.hot.read().incarnations.get(&incarnation).copied();
        let Some((known, fenced_at)) = known.and_then(|known| Some((known, known.fenced_at?))) else {
            return Ok(());
        };
        let id = incarnation.0.as_bytes();
        if at.0.saturating_sub(fenced_at.0) < TOMBSTONES_KEPT_MS {
            let update = "UPDATE incarnations SET swept_at = ?2 WHERE id = ?1";
            self.conn.execute(update, params![id, at.0])?;
            if let Some(known) = shared.hot.write().incarnations.get_mut(&incarnation) {
                known.swept_at = Some(at);
            }
            return Ok(());
        }
        self.conn
            .execute("DELETE FROM incarnations WHERE id = ?1", [id])?;
        shared.hot.write().incarnations.remove(&incarnation);
        // Its last commit row had stayed for its sake only; it goes with the next trimming.
        self.trim.superseded(known.last_commit);
        Ok(())
    }
}

/// Tombstones fenced before `before` that were not found clean within the last day.
pub(super) fn tombstones(shared: &Shared, before: StoreTime) -> Vec<(IncarnationId, u64)> {
    let now = shared.now();
    let hot = shared.hot.read();
    let due = hot.incarnations.iter().filter(|(_, known)| {
        known.fenced_at.is_some_and(|fenced| fenced < before)
            && swept_again_at(known).is_none_or(|again| again <= now)
    });
    let mut tombstones: Vec<_> = due
        .map(|(id, known)| (known.fenced_at, *id, known.lowest_undecided))
        .collect();
    tombstones.sort_unstable();
    tombstones
        .into_iter()
        .map(|(_, id, lowest)| (id, lowest))
        .collect()
}

/// When the first tombstone is one of [`tombstones`] before the moment that lies `put_deadline` back.
pub(super) fn next_sweep(shared: &Shared, put_deadline: Duration) -> Option<StoreTime> {
    let deadline_ms = i64::try_from(put_deadline.as_millis()).unwrap_or(i64::MAX);
    let hot = shared.hot.read();
    let due = hot.incarnations.values().filter_map(|known| {
        // Due when it is older than the deadline, not when it is as old.
        let landed = StoreTime(known.fenced_at?.0.saturating_add(deadline_ms).saturating_add(1));
        Some(swept_again_at(known).map_or(landed, |again| again.max(landed)))
    });
    due.min()
}

/// `None` while it was never swept: then nothing but its fencing is waited for.
fn swept_again_at(known: &Incarnation) -> Option<StoreTime> {
    known
        .swept_at
        .map(|swept| StoreTime(swept.0.saturating_add(DAY_MS)))
}
