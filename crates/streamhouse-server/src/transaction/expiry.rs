//! What nobody ends: transactions older than their timeout are aborted, and transactional ids that were
//! not used for long are forgotten.
//!
//! The store is asked every second, which costs nothing while no transaction is open, and looks through
//! idle ids every hour, as Kafka does.

use std::sync::Arc;
use std::time::Duration;

use streamhouse_metadata::ids::StoreTime;
use streamhouse_metadata::store::StoreError;
use streamhouse_observability::logging;
use streamhouse_storage::object::encode_markers;
use tokio::time::Instant;

use super::Transactions;

const ABORT_EVERY: Duration = Duration::from_secs(1);
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// Transactions in one step, so that commits come between.
const ABORTS_AT_ONCE: u32 = 100;

impl Transactions {
    /// Runs until the server stops.
    pub async fn expire(self: Arc<Self>) {
        let mut forget_at = Instant::now();
        loop {
            if let Err(error) = self.abort_expired().await {
                let error_type = error.error_type();
                if let Some(suppressed) = logging::admit("abort transactions", error_type, "") {
                    tracing::warn!(error_type, %error, suppressed, "aborting expired transactions failed; tried again");
                }
            }
            if Instant::now() >= forget_at {
                forget_at = Instant::now() + FORGET_EVERY;
                match self.forget_idle().await {
                    Ok(0) => {}
                    Ok(gone) => tracing::info!(gone, "transactional ids expired"),
                    Err(error) => {
                        tracing::warn!(%error, "expiring transactional ids failed; tried again later");
                    }
                }
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(ABORT_EVERY) => {}
            }
        }
    }

    async fn abort_expired(&self) -> Result<(), StoreError> {
        loop {
            let encode = Arc::new(encode_markers);
            let aborted = self
                .metadata
                .abort_expired_transactions(ABORTS_AT_ONCE, encode)
                .await?;
            let more = aborted.len() >= ABORTS_AT_ONCE as usize;
            for (transactional_id, ended) in aborted {
                let partitions = ended.markers.len();
                tracing::info!(%transactional_id, partitions, "transaction aborted: it was open for too long");
                self.ended(&ended);
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn forget_idle(&self) -> Result<u64, StoreError> {
        let now = self.metadata.now().await?;
        let retention = i64::try_from(self.settings.id_retention.as_millis()).unwrap_or(i64::MAX);
        let before = StoreTime(now.0.saturating_sub(retention));
        self.metadata.expire_transactional_ids(before).await
    }
}
