//! Client quotas over the wire: what the two APIs share.

pub mod alter;
pub mod describe;

use streamhouse_metadata::model::quota::QuotaName;

/// Kafka's names of what a quota is for.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
/// Entities that may have quotas.
const ENTITIES_MAX: u32 = 10_000;

/// How an entity's part is written: the default has no name.
fn written(name: &QuotaName) -> Option<kafka_protocol::protocol::StrBytes> {
    match name {
        QuotaName::Default => None,
        QuotaName::Named(name) => Some(kafka_protocol::protocol::StrBytes::from_string(name.clone())),
    }
}
