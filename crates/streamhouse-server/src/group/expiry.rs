//! Offsets of groups that have been empty for long expire (KIP-211), and groups without offsets with them.
//!
//! Looked at every ten minutes, as in Kafka, while there are groups at all; a server without groups asks
//! nothing of its store.

use std::sync::Arc;
use std::time::Duration;

use streamhouse_metadata::ids::StoreTime;
use streamhouse_metadata::store::StoreError;

use super::coordinator::Groups;

/// Kafka's `offsets.retention.check.interval.ms`.
const INTERVAL: Duration = Duration::from_secs(600);
/// Groups in one transaction, so that commits come between.
const GROUPS_AT_ONCE: u32 = 100;

impl Groups {
    /// Runs until the server stops.
    pub async fn expire(self: Arc<Self>) {
        loop {
            match self.expire_once().await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(gone, "consumer groups expired"),
                Err(error) => tracing::warn!(%error, "expiring consumer groups failed; tried again later"),
            }
            let some_left = !matches!(self.metadata().list_groups().await, Ok(groups) if groups.is_empty());
            tokio::select! {
                () = self.stopping().cancelled() => return,
                () = tokio::time::sleep(INTERVAL), if some_left => {}
                () = self.stored().notified(), if !some_left => {}
            }
        }
    }

    /// Expires what is due; how many groups are gone.
    pub async fn expire_once(&self) -> Result<usize, StoreError> {
        let now = self.metadata().now().await?;
        let retention = i64::try_from(self.settings().offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let before = StoreTime(now.0.saturating_sub(retention));
        let mut total = 0;
        loop {
            let (gone, more) = self.metadata().expire_groups(before, GROUPS_AT_ONCE).await?;
            total += gone.len();
            for group in &gone {
                self.forget(group).await;
            }
            if !more || gone.is_empty() {
                return Ok(total);
            }
        }
    }
}
