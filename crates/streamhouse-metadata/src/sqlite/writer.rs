//! The one connection that writes, and what only its thread knows.
//!
//! Being alone, it takes no row locks: a job is a transaction, and jobs follow each other. It changes
//! the shared [`Hot`] state only after SQLite has committed. Once something failed in a way that leaves
//! doubt about what is stored, it refuses every further job. The jobs stand in files of their own.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use rusqlite::Connection;
use streamhouse_observability::logging;
use uuid::Uuid;

use super::fault::Fault;
use super::hot::Hot;
use super::options::SqliteOptions;
use super::presence::Presence;
use super::producers::ProducerCache;
use super::settle::{Round, Trim};
use super::threads::Owner;
use crate::ids::{IdSet, StoreTime, TopicPartition};
use crate::store::StoreError;

/// The log of SQLite is copied into the database in the background each time this much was written.
const CHECKPOINT_BYTES: usize = 8 << 20;

/// What the writer's thread and everybody who reads share.
pub(super) struct Shared {
    pub(super) hot: RwLock<Hot>,
    pub(super) options: SqliteOptions,
    pub(super) cluster: Uuid,
    /// Added to the clock, so that time goes on from where a previous run had come to.
    pub(super) clock_ahead_ms: i64,
    pub(super) clock_newest: AtomicI64,
}

impl Shared {
    pub(super) fn now(&self) -> StoreTime {
        let now = self.options.clock.now().0.saturating_add(self.clock_ahead_ms);
        StoreTime(self.clock_newest.fetch_max(now, Ordering::AcqRel).max(now))
    }
}

pub(super) struct Writer {
    pub(super) conn: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) producers: ProducerCache,
    pub(super) next_commit: i64,
    pub(super) next_object: i64,
    /// Commits up to this one are merged.
    pub(super) merged_commit: i64,
    /// Partitions with something to merge that the running round does not cover.
    pub(super) dirty: IdSet<TopicPartition>,
    pub(super) round: Option<Round>,
    /// How far whoever is settling at the moment wants to come.
    pub(super) settling_to: Option<i64>,
    pub(super) trim: Trim,
    /// A round that the bound demanded goes on by itself.
    pub(super) pressed: bool,
    pub(super) damaged: Option<StoreError>,
    /// Damage that a background checkpoint met.
    pub(super) damage_seen: Arc<OnceLock<StoreError>>,
    /// `None` in memory.
    pub(super) presence: Option<Presence>,
    pub(super) checkpoints: Option<SyncSender<()>>,
    pub(super) written_bytes: usize,
}

impl Writer {
    /// Runs a job unless the store is damaged or its file is gone, and notes damage.
    pub(super) fn guard<T, E: Fault + From<StoreError>>(
        &mut self,
        job: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(damaged) = self.damaged.as_ref().or(self.damage_seen.get()) {
            return Err(damaged.clone().into());
        }
        if let Some(presence) = &self.presence {
            presence.check()?;
        }
        let result = job(self);
        if let Err(error) = &result
            && let Some(fault @ StoreError::Damaged(_)) = error.fault()
        {
            self.damaged = Some(fault.clone());
        }
        result
    }

    /// Counts what was written and lets the background copy it when it is time.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written_bytes += bytes;
        if self.written_bytes >= CHECKPOINT_BYTES {
            self.written_bytes = 0;
            if let Some(checkpoints) = &self.checkpoints {
                // Full: one is under way and sees these pages too, or the next one does.
                let _ = checkpoints.try_send(());
            }
        }
    }

    /// Whether more waits to be merged than `times` the bound.
    pub(super) fn over_bound(&self, times: usize) -> bool {
        let options = &self.shared.options;
        let commits = u64::try_from(self.next_commit - 1 - self.merged_commit).unwrap_or(0);
        self.shared.hot.read().recent_rows > options.unmerged_rows_max.saturating_mul(times)
            || commits > options.unmerged_commits_max.saturating_mul(times as u64)
    }
}

impl Owner for Writer {
    /// Merges a slice when more waits than the bound allows, else nothing: an idle store does no work.
    fn work(&mut self) -> bool {
        if self.damaged.is_some() || !(self.pressed || self.over_bound(1)) {
            return false;
        }
        self.pressed = true;
        let before = self.merged_commit;
        match self.guard(Self::merge_some) {
            Ok(()) => {
                self.pressed = self.merged_commit == before;
                true
            }
            Err(error) => {
                let error_type = error.error_type();
                if let Some(suppressed) = logging::admit("merge", error_type, "") {
                    tracing::warn!(
                        error_type,
                        %error,
                        suppressed,
                        "merging commits failed; tried again after the next request"
                    );
                }
                self.pressed = false;
                false
            }
        }
    }

    /// Callers who never leave a pause would let memory grow: then each job helps with a slice.
    fn work_under_load(&mut self) {
        if self.damaged.is_none() && self.over_bound(2) {
            self.work();
        }
    }
}
