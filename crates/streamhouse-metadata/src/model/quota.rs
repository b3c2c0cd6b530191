//! Client quotas (KIP-546): byte rates of users and client ids, as they are stored.
//!
//! Not here: which quota applies to whom and how a client is slowed down; the server knows who asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whom a part of an entity means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QuotaName {
    /// Everybody without a quota of their own.
    Default,
    Named(String),
}

/// Whom a quota is for. At least one part is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuotaEntity {
    pub user: Option<QuotaName>,
    pub client_id: Option<QuotaName>,
}

/// What can be limited, under Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QuotaKey {
    /// Bytes a second that are produced.
    ProducerByteRate,
    /// Bytes a second that are fetched.
    ConsumerByteRate,
}

impl QuotaKey {
    pub const ALL: [Self; 2] = [Self::ProducerByteRate, Self::ConsumerByteRate];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// All quotas: what is limited to how many bytes a second, by entity.
pub type ClientQuotas = BTreeMap<QuotaEntity, BTreeMap<QuotaKey, f64>>;

/// A change of one entity's quotas: a new rate, or none any more.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaChange {
    pub entity: QuotaEntity,
    pub ops: Vec<(QuotaKey, Option<f64>)>,
}

/// `quotas` after `changes`; entities without a quota are gone.
#[must_use]
pub fn changed(mut quotas: ClientQuotas, changes: &[QuotaChange]) -> ClientQuotas {
    for change in changes {
        let values = quotas.entry(change.entity.clone()).or_default();
        for (key, rate) in &change.ops {
            match rate {
                Some(rate) => values.insert(*key, *rate),
                None => values.remove(key),
            };
        }
        if values.is_empty() {
            quotas.remove(&change.entity);
        }
    }
    quotas
}
