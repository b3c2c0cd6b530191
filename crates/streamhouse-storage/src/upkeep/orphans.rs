//! Collects what dead incarnations left in the object store: keys under a tombstone's prefix that no
//! row names.
//!
//! Invariants (TRACES 16): only prefixes of tombstones are listed, no sooner than the PUT deadline
//! after the fencing, and daily again while the tombstone is kept, because a delayed PUT may still
//! land. A tombstone names nothing new, so what is unnamed once stays so. Keys that this system did
//! not give are left alone. No clock of an agent is asked.
//!
//! Each tombstone has a day of its own, which a restart does not begin anew: the metadata store knows when the
//! first one is due. Nothing is asked before that, and nothing at all where there are no tombstones.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::{StreamExt as _, stream};
use object_store::Error;
use object_store::path::Path;
use streamhouse_metadata::ids::{IncarnationId, ObjectName};
use streamhouse_observability::Gauge;

use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts, before, until};
use crate::object::{key_of, parse_key, prefix_of};

/// Keys compared with the metadata at once.
const CHUNK_KEYS: usize = 1_000;

pub struct OrphansTask {
    parts: UpkeepParts,
    options: UpkeepOptions,
    /// Bytes of orphans that the last whole look found and could not delete.
    found_bytes: Gauge,
}

/// One tombstone's prefix.
#[derive(Default)]
struct Sweep {
    deleted: usize,
    left_bytes: u64,
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

    /// Sweeps every tombstone that is due. A deletion that is refused ends the deleting, not the looking: what is
    /// left is known as a whole, or stays as it was known before.
    pub async fn run_once(&self) -> Result<OrphansReport, UpkeepError> {
        let metadata = &self.parts.metadata;
        let now = metadata.now().await?;
        let due = metadata
            .tombstones(before(now, self.options.put_deadline))
            .await?;
        let mut report = OrphansReport::default();
        let mut left_bytes = 0;
        let mut refused = None;
        for (incarnation, from) in due {
            let sweep = self.sweep(incarnation, from, &mut refused).await?;
            report.deleted += sweep.deleted;
            left_bytes += sweep.left_bytes;
            if refused.is_none() {
                metadata.swept(incarnation, now).await?;
                report.swept += 1;
            }
        }
        // Tombstones that were not due had nothing left when they were swept.
        self.found_bytes.set(left_bytes);
        if let Some(error) = refused {
            return Err(error.into());
        }
        report.next = match metadata.next_sweep(self.options.put_deadline).await? {
            // Listing may have taken long.
            Some(due) => Next::In(until(metadata.now().await?, due, Duration::ZERO)),
            None => Next::Idle,
        };
        Ok(report)
    }

    /// Deletes the unnamed keys of a tombstone from counter `from` on. Once a deletion was `refused`, only counts
    /// them: each of the others would most likely cost the same time for the same answer.
    async fn sweep(
        &self,
        incarnation: IncarnationId,
        from: u64,
        refused: &mut Option<Error>,
    ) -> Result<Sweep, UpkeepError> {
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
        let mut sweep = Sweep::default();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| error.1)?;
            let counters: Vec<u64> = chunk.iter().map(|(counter, _)| *counter).collect();
            let unnamed = self.parts.metadata.unnamed(incarnation, &counters).await?;
            let unnamed: HashSet<u64> = unnamed.into_iter().collect();
            let orphans = chunk.into_iter().filter(|(counter, _)| unnamed.contains(counter));
            let sizes: HashMap<Path, u64> = orphans
                .map(|(counter, size)| (key_of(&ObjectName { incarnation, counter }), size))
                .collect();
            sweep.left_bytes += sizes.values().sum::<u64>();
            if refused.is_some() {
                continue;
            }
            let keys: Vec<_> = sizes.keys().cloned().map(Ok).collect();
            let mut deleting = self.parts.objects.delete_stream(stream::iter(keys).boxed());
            while let Some(result) = deleting.next().await {
                match result {
                    Ok(key) => {
                        tracing::info!(object_id = %key, "an orphan was deleted");
                        sweep.left_bytes -= sizes.get(&key).copied().unwrap_or(0);
                        sweep.deleted += 1;
                    }
                    Err(error) => {
                        *refused = Some(error);
                        break;
                    }
                }
            }
        }
        Ok(sweep)
    }
}
