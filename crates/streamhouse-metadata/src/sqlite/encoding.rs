//! The binary forms that lie in blobs: a version byte, then postcard.
//!
//! A stored form never changes in place: another form gets another version byte, and the old one stays
//! readable. JSON would be ten times the size, and a commit of 1,000 partitions one of these blobs.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::producer::ProducerState;
use crate::store::StoreError;

const VERSION: u8 = 1;

/// What one commit adds to the ordered tables; partitions by row number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delta {
    pub(super) segments: Vec<DeltaSegment>,
    pub(super) producers: Vec<(i64, i64, ProducerState)>,
}

/// A segment row of the commit; `committed_at` is the commit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeltaSegment {
    pub(super) partition_row: i64,
    pub(super) object: i64,
    pub(super) base_offset: i64,
    pub(super) record_count: u32,
    pub(super) position: u64,
    pub(super) length_bytes: u32,
    pub(super) max_timestamp: i64,
    /// How far the running maximum lies above `max_timestamp`: mostly 0, one byte.
    pub(super) running_above: i64,
}

/// The primary keys of an inline object's segments.
pub(super) type SegmentKeys = Vec<(i64, i64)>;

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(value, vec![VERSION]).map_err(|e| StoreError::Unavailable(format!("encoding: {e}")))
}

pub(super) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            postcard::from_bytes(rest).map_err(|e| StoreError::Damaged(format!("{what}: {e}")))
        }
        Some((version, _)) => Err(StoreError::Damaged(format!("{what}: unknown form {version}"))),
        None => Err(StoreError::Damaged(format!("{what}: empty"))),
    }
}
