//! Framing batches for the wire: base offset and leader epoch are patched, the bodies are slices of what
//! is stored. Small batches are copied, since a slice of its own costs more than a few kilobytes.

use bytes::{Bytes, BytesMut};

use crate::batch::{PATCHED_BYTES, patched_prefix};

/// Bodies up to this size are copied next to their headers.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// The records of one partition in a response: chunks to be written one after the other.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub chunks: Vec<Bytes>,
    pub length_bytes: usize,
}

impl Records {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length_bytes == 0
    }

    /// All bytes in one piece: for tests and small answers.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.chunks.concat().into()
    }

    /// Frames whole batches, given with the base offset of each.
    pub(super) fn frame(batches: &[(i64, Bytes)], leader_epoch: i32) -> Self {
        let copied: usize = batches
            .iter()
            .map(|(_, batch)| {
                if batch.len() <= COPIED_BYTES_MAX {
                    batch.len()
                } else {
                    PATCHED_BYTES
                }
            })
            .sum();
        let mut scratch = BytesMut::with_capacity(copied);
        let mut chunks = Vec::new();
        let mut length_bytes = 0;
        for (base_offset, batch) in batches {
            length_bytes += batch.len();
            scratch.extend_from_slice(&patched_prefix(*base_offset, batch.len(), leader_epoch));
            if batch.len() <= COPIED_BYTES_MAX {
                scratch.extend_from_slice(&batch[PATCHED_BYTES..]);
            } else {
                chunks.push(scratch.split().freeze());
                chunks.push(batch.slice(PATCHED_BYTES..));
            }
        }
        if !scratch.is_empty() {
            chunks.push(scratch.freeze());
        }
        Self { chunks, length_bytes }
    }
}
