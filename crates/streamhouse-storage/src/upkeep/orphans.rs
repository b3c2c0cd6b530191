//! Collects what dead incarnations left in the object store: keys under a tombstone's prefix that no
//! row names.
//!
//! Invariants (TRACES 16): only prefixes of tombstones are listed, no sooner than the PUT deadline
//! after the fencing, and daily again while the tombstone is kept, because a delayed PUT may still
//! land. A tombstone names nothing new, so what is unnamed once stays so. Keys that this system did
//! not give are left alone. No clock of an agent is asked.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt as _;
use futures::{StreamExt as _, stream};
use object_store::path::Path;
use streamhouse_metadata::ids::{IncarnationId, ObjectName, StoreTime};
use streamhouse_observability::Gauge;

use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts, before};
use crate::object::{key_of, parse_key, prefix_of};

/// Keys compared with the metadata at once.
const CHUNK_KEYS: usize = 1_000;

/// How often a tombstone's prefix is listed; the metadata store keeps to the same.
const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

pub struct OrphansTask {
    parts: UpkeepParts,
    options: UpkeepOptions,
    /// Bytes of orphans that were found and are still there.
    found_bytes: Gauge,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrphansReport {
    /// Tombstones whose prefixes are clean now.
    pub swept: usize,
    pub deleted: usize,
    pub next: Next,
}

impl OrphansTask {
    pub fn new(parts: UpkeepParts, options: UpkeepOptions, found_bytes: Gauge) -> Self {
        Self {
            parts,
            options,
            found_bytes,
        }
    }

    /// Sweeps every tombstone that is due.
    pub async fn run_once(&self) -> Result<OrphansReport, UpkeepError> {
        let metadata = &self.parts.metadata;
        let now = metadata.now().await?;
        let due = metadata
            .tombstones(before(now, self.options.put_deadline))
            .await?;
        let mut report = OrphansReport::default();
        // What an earlier run could not delete is found again.
        self.found_bytes.set(0);
        for (incarnation, from) in due {
            report.deleted += self.sweep(incarnation, from).await?;
            metadata.swept(incarnation, now).await?;
            report.swept += 1;
        }
        // One fenced a moment ago is due when the PUT deadline has passed. Beyond that the one look a day
        // is the only thing that upkeep does unasked: the store answers it without listing anything when
        // there are no tombstones.
        let fresh = metadata.tombstones(StoreTime(now.0.saturating_add(1))).await?;
        report.next = match fresh.is_empty() {
            true => Next::In(AGAIN_AFTER),
            false => Next::In(self.options.put_deadline),
        };
        Ok(report)
    }

    /// Deletes the unnamed keys of a tombstone from counter `from` on; their number.
    async fn sweep(&self, incarnation: IncarnationId, from: u64) -> Result<usize, UpkeepError> {
        let prefix = prefix_of(incarnation);
        let listing = match from.checked_sub(1) {
            Some(counter) => {
                let last = key_of(&ObjectName { incarnation, counter });
                self.parts.objects.list_with_offset(Some(&prefix), &last)
            }
            None => self.parts.objects.list(Some(&prefix)),
        };
        let listed = listing.try_filter_map(|meta| {
            let name = parse_key(&meta.location).filter(|name| name.incarnation == incarnation);
            std::future::ready(Ok(name.map(|name| (name.counter, meta.size))))
        });
        let mut chunks = listed.try_chunks(CHUNK_KEYS);
        let mut deleted = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| error.1)?;
            let counters: Vec<u64> = chunk.iter().map(|(counter, _)| *counter).collect();
            let unnamed = self.parts.metadata.unnamed(incarnation, &counters).await?;
            let unnamed: HashSet<u64> = unnamed.into_iter().collect();
            let orphans = chunk.into_iter().filter(|(counter, _)| unnamed.contains(counter));
            let sizes: HashMap<Path, u64> = orphans
                .map(|(counter, size)| (key_of(&ObjectName { incarnation, counter }), size))
                .collect();
            self.found_bytes.add(sizes.values().sum::<u64>());
            let keys: Vec<_> = sizes.keys().cloned().map(Ok).collect();
            let deleting = self.parts.objects.delete_stream(stream::iter(keys).boxed());
            deleted += deleting
                .try_fold(0, |count, key| {
                    tracing::info!(object_id = %key, "an orphan was deleted");
                    self.found_bytes.sub(sizes.get(&key).copied().unwrap_or(0));
                    std::future::ready(Ok(count + 1))
                })
                .await?;
        }
        Ok(deleted)
    }
}
