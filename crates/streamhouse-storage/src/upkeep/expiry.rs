//! Clearing up inside the metadata store: what deleted topics left, what fast commits left unsorted,
//! and producers that nobody heard of for long.
//!
//! Invariant: each step is bounded, so that commits come between.

use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts, before};

/// Rows removed by one step.
const PURGE_ROWS: u32 = 1_000;

/// Steps of one run.
const STEPS_MAX: usize = 50;

/// Removes what deleted topics left behind.
pub struct PurgeTask(pub UpkeepParts);

impl PurgeTask {
    pub async fn run_once(&self) -> Result<Next, UpkeepError> {
        for _ in 0..STEPS_MAX {
            if self.0.metadata.purge_deleted(PURGE_ROWS).await? {
                return Ok(Next::Idle);
            }
        }
        Ok(Next::Now)
    }
}

/// Moves what commits appended into the store's ordered tables.
pub struct SettleTask(pub UpkeepParts);

impl SettleTask {
    pub async fn run_once(&self) -> Result<Next, UpkeepError> {
        for _ in 0..STEPS_MAX {
            if self.0.metadata.settle().await? {
                return Ok(Next::Idle);
            }
        }
        Ok(Next::Now)
    }
}

/// Forgets producers that have been idle for long.
pub struct ExpireProducersTask {
    parts: UpkeepParts,
    options: UpkeepOptions,
}

impl ExpireProducersTask {
    pub fn new(parts: UpkeepParts, options: UpkeepOptions) -> Self {
        Self { parts, options }
    }

    /// The number of producer states forgotten.
    pub async fn run_once(&self) -> Result<u64, UpkeepError> {
        let now = self.parts.metadata.now().await?;
        let expired = self
            .parts
            .metadata
            .expire_producers(before(now, self.options.producer_expiry))
            .await?;
        Ok(expired)
    }
}
