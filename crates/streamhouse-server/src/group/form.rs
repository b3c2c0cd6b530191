//! The envelope of what a group stores: a version byte, then postcard.
//!
//! A stored form never changes in place; another form gets another version byte.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamhouse_metadata::store::StoreError;

pub(super) fn encode<T: Serialize>(version: u8, form: &T) -> Bytes {
    // Into memory, of plain values: there is nothing that could fail.
    postcard::to_extend(form, vec![version])
        .map(Bytes::from)
        .unwrap_or_default()
}

/// The version of a form, and the form.
pub(super) fn split<'a>(what: &str, bytes: &'a [u8]) -> Result<(u8, &'a [u8]), StoreError> {
    let empty = || StoreError::Damaged(format!("{what}: empty"));
    bytes
        .split_first()
        .map(|(version, form)| (*version, form))
        .ok_or_else(empty)
}

pub(super) fn decode<'a, T: Deserialize<'a>>(
    what: &str,
    version: u8,
    bytes: &'a [u8],
) -> Result<T, StoreError> {
    let damaged = |why: String| StoreError::Damaged(format!("{what}: {why}"));
    match split(what, bytes)? {
        (found, form) if found == version => {
            postcard::from_bytes(form).map_err(|error| damaged(error.to_string()))
        }
        (other, _) => Err(damaged(format!("unknown form {other}"))),
    }
}
