//! Compaction: inline objects, the oldest first, become one stored object.
//!
//! The way: read rows and payloads, lay out ([`plan`]), PUT under a counter of this incarnation, swap.
//! Invariants: nothing is removed before the swap, which is one step of the metadata store's and needs
//! this incarnation to be live (TRACES 17); so dying anywhere before it leaves an orphan and no loss.
//! An object whose swap has no definite answer is never deleted by us: it may be named. It stays
//! undecided, and the collection of orphans looks at it when this incarnation is gone.

mod plan;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, PutPayload};
use streamhouse_metadata::ids::{ObjectId, ObjectName, StoreTime};
use streamhouse_metadata::model::object::{InlineBacklog, InlineBatch, Swap, SwapResult};
use streamhouse_metadata::store::{StoreError, SwapError};
use streamhouse_observability::logging;

use super::abandoned::Abandoned;
use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts, until};
use crate::object::{build, key_of};
use crate::writer::Identity;
use plan::plan;

/// How often a swap without a definite answer is repeated; a repeat of one that took effect changes
/// nothing.
const SWAP_TRIES_MAX: u32 = 5;

const SWAP_PAUSE: Duration = Duration::from_millis(200);

/// When nothing of a due backlog could be moved (its topics are being deleted).
const STUCK_PAUSE: Duration = Duration::from_secs(60);

pub struct CompactionTask {
    parts: UpkeepParts,
    options: UpkeepOptions,
    abandoned: Abandoned,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// The object written, if the backlog was due.
    pub object: Option<ObjectName>,
    /// Rows of this many inline objects were read.
    pub inputs: usize,
    /// Segments of them that were damaged.
    pub damaged: usize,
    /// What became of the swap's entries.
    pub swap: SwapResult,
    pub next: Next,
}

impl CompactionTask {
    pub fn new(parts: UpkeepParts, options: UpkeepOptions, abandoned: Abandoned) -> Self {
        Self {
            parts,
            options,
            abandoned,
        }
    }

    /// Moves one object's worth of the backlog when it is due.
    pub async fn run_once(&self) -> Result<CompactionReport, UpkeepError> {
        let metadata = &self.parts.metadata;
        let backlog = metadata.inline_backlog().await?;
        let now = metadata.now().await?;
        let next = self.due(&backlog, now);
        if next != Next::Now {
            return Ok(CompactionReport {
                next,
                ..CompactionReport::default()
            });
        }
        // Incarnation and counters are taken together: a counter of one is no name of the other.
        let identity = self.parts.identity.borrow().clone();
        let batch = metadata.inline_batch(self.options.compact_object_bytes).await?;
        let mut report = self.compact(&identity, batch).await?;
        if report.next == Next::Idle {
            let left = metadata.inline_backlog().await?;
            report.next = match (report.swap.swapped, self.due(&left, now)) {
                // Without progress the same would be tried again at once.
                (0, Next::Now) => Next::In(STUCK_PAUSE),
                (_, next) => next,
            };
        }
        Ok(report)
    }

    fn due(&self, backlog: &InlineBacklog, now: StoreTime) -> Next {
        let Some(oldest) = backlog.oldest else {
            return Next::Idle;
        };
        if backlog.bytes >= self.options.compact_bytes {
            return Next::Now;
        }
        match until(now, oldest, self.options.compact_age) {
            Duration::ZERO => Next::Now,
            rest => Next::In(rest),
        }
    }

    async fn compact(
        &self,
        identity: &Identity,
        batch: InlineBatch,
    ) -> Result<CompactionReport, UpkeepError> {
        let mut report = CompactionReport {
            inputs: batch.objects.len(),
            ..CompactionReport::default()
        };
        let payloads = self.read(&batch).await?;
        let plan = plan(&batch.segments, &payloads);
        report.damaged = plan.damaged.len();
        for segment in &plan.damaged {
            let partition = segment.partition.to_string();
            if let Some(suppressed) = logging::admit("compaction", "corrupt", &partition) {
                tracing::error!(
                    partition, base_offset = segment.base_offset, object_id = %segment.object, suppressed,
                    "a segment in the metadata store is damaged; it stays where it is"
                );
            }
        }
        if plan.parts.is_empty() {
            return Ok(report);
        }
        let built = build(&plan.parts);
        let name = ObjectName {
            incarnation: identity.incarnation,
            counter: identity.counters.next(),
        };
        let payload: PutPayload = built.payload.into_iter().collect();
        // A run that is dropped during the upload leaves its counter undecided, and so its key to the
        // collection of orphans.
        if let Err(error) = self.parts.objects.put(&key_of(&name), payload).await {
            self.abandoned.push(name);
            return Err(error.into());
        }
        let swap = Swap {
            name,
            length_bytes: built.length_bytes,
            partitions: plan.swaps,
        };
        report.swap = self.swap(swap).await?;
        identity.counters.decided(name.counter);
        report.object = Some(name);
        Ok(report)
    }

    /// Payloads by object; one that is gone was compacted or deleted meanwhile.
    async fn read(&self, batch: &InlineBatch) -> Result<HashMap<ObjectId, Bytes>, StoreError> {
        let mut payloads = HashMap::with_capacity(batch.objects.len());
        for object in &batch.objects {
            if let Some(payload) = self.parts.metadata.inline_payload(object.id).await? {
                payloads.insert(object.id, payload);
            }
        }
        Ok(payloads)
    }

    /// Repeats the swap until its answer is definite, a bounded number of times. Any failure may come
    /// after part of it took effect, since a long swap goes in several transactions.
    async fn swap(&self, swap: Swap) -> Result<SwapResult, SwapError> {
        let mut tries = 1;
        loop {
            match self.parts.metadata.swap(swap.clone()).await {
                Err(SwapError::Store(
                    StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Unknown(_),
                )) if tries < SWAP_TRIES_MAX => {
                    tokio::time::sleep(SWAP_PAUSE * tries).await;
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}
