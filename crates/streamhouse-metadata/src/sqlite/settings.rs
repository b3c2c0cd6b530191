//! What administrators set: configurations of topics, quotas of clients, and what clients are to push.
//!
//! All are decided on the newest state by the one thread that writes, stored, and only then shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::writer::Writer;
use crate::ids::TopicId;
use crate::model::client_metrics::{self, ClientMetrics};
use crate::model::quota::{self, ClientQuotas, QuotaChange, QuotaEntity};
use crate::model::topic::Topic;
use crate::model::topic_config::ConfigChange;
use crate::store::StoreError;
use crate::store::admin::{AlterClientMetricsError, AlterConfigError, QuotaError};

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Unavailable(format!("encoding: {e}")))
}

impl Writer {
    pub(super) fn alter_topic_config(
        &mut self,
        id: TopicId,
        change: &ConfigChange,
    ) -> Result<Topic, AlterConfigError> {
        let shared = Arc::clone(&self.shared);
        let topic = shared.hot.read().topics.get(&id).cloned();
        let mut topic = topic.ok_or(AlterConfigError::Unknown)?;
        topic.config = topic.config.changed(change)?;
        self.conn
            .prepare_cached("UPDATE topics SET config = ?2 WHERE id = ?1")?
            .execute(params![id.0.as_bytes(), json(&topic.config.entries)?])?;
        shared.hot.write().topics.insert(id, topic.clone());
        Ok(topic)
    }

    pub(super) fn alter_client_quotas(
        &mut self,
        changes: &[QuotaChange],
        entities_max: u32,
    ) -> Result<(), QuotaError> {
        let shared = Arc::clone(&self.shared);
        let before = shared.hot.read().quotas.clone();
        let after = quota::changed(before.clone(), changes);
        if after.len() > before.len() && after.len() as u64 > u64::from(entities_max) {
            return Err(QuotaError::TooMany { limit: entities_max });
        }
        let tx = self.conn.unchecked_transaction()?;
        for change in changes {
            let entity = json(&change.entity)?;
            match after.get(&change.entity) {
                // A list: JSON has no objects whose keys are no text.
                Some(rates) => tx
                    .prepare_cached("INSERT OR REPLACE INTO client_quotas (entity, rates) VALUES (?1, ?2)")?
                    .execute(params![entity, json(&rates.iter().collect::<Vec<_>>())?])?,
                None => tx
                    .prepare_cached("DELETE FROM client_quotas WHERE entity = ?1")?
                    .execute([entity])?,
            };
        }
        tx.commit()?;
        shared.hot.write().quotas = after;
        Ok(())
    }

    pub(super) fn alter_client_metrics(
        &mut self,
        name: &str,
        change: &ConfigChange,
        subscriptions_max: u32,
    ) -> Result<(), AlterClientMetricsError> {
        client_metrics::check_name(name)?;
        let shared = Arc::clone(&self.shared);
        let mut all = shared.hot.read().client_metrics.clone();
        let before = all.remove(name);
        let is_new = before.is_none();
        let after = client_metrics::changed(&before.unwrap_or_default(), change)?;
        if after.is_empty() {
            self.conn
                .prepare_cached("DELETE FROM client_metrics WHERE name = ?1")?
                .execute([name])?;
        } else {
            if is_new && all.len() as u64 >= u64::from(subscriptions_max) {
                return Err(AlterClientMetricsError::TooMany {
                    limit: subscriptions_max,
                });
            }
            self.conn
                .prepare_cached("INSERT OR REPLACE INTO client_metrics (name, config) VALUES (?1, ?2)")?
                .execute(params![name, json(&after)?])?;
            all.insert(name.to_owned(), after);
        }
        shared.hot.write().client_metrics = all;
        Ok(())
    }
}

pub(super) fn load_quotas(conn: &Connection) -> Result<ClientQuotas, StoreError> {
    let mut select = conn.prepare("SELECT entity, rates FROM client_quotas")?;
    let mut rows = select.query([])?;
    let mut quotas = ClientQuotas::default();
    let wrong = |error: serde_json::Error| StoreError::Damaged(format!("client quota: {error}"));
    while let Some(row) = rows.next()? {
        let entity: QuotaEntity = serde_json::from_str(&row.get::<_, String>(0)?).map_err(wrong)?;
        let rates: Vec<_> = serde_json::from_str(&row.get::<_, String>(1)?).map_err(wrong)?;
        quotas.insert(entity, rates.into_iter().collect());
    }
    Ok(quotas)
}

pub(super) fn load_client_metrics(conn: &Connection) -> Result<ClientMetrics, StoreError> {
    let mut select = conn.prepare("SELECT name, config FROM client_metrics")?;
    let mut rows = select.query([])?;
    let mut all = ClientMetrics::default();
    while let Some(row) = rows.next()? {
        let config: BTreeMap<String, String> = serde_json::from_str(&row.get::<_, String>(1)?)
            .map_err(|error| StoreError::Damaged(format!("client metrics: {error}")))?;
        all.insert(row.get(0)?, config);
    }
    Ok(all)
}
