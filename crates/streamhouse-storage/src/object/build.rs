//! Laying out an object from batches, without copying them: the payload is a list of the very slices
//! that came in, followed by footer and trailer.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest, checksum};
use streamhouse_metadata::ids::TopicPartition;

use super::format::{ENTRY_BYTES, IndexEntry, TRAILER_BYTES, encode_trailer};

/// Some whole batches of one partition. Neighbours of the same partition form one segment.
#[derive(Clone, Debug)]
pub struct Part {
    pub partition: TopicPartition,
    pub bytes: Bytes,
    pub batch_count: u32,
    pub record_count: u32,
}

/// An object ready to be stored.
#[derive(Clone, Debug)]
pub struct BuiltObject {
    /// All bytes in order.
    pub payload: Vec<Bytes>,
    pub length_bytes: u64,
    pub index: Vec<IndexEntry>,
}

/// Lays the parts out in the order given, which has to hold each partition's parts side by side.
#[must_use]
pub fn build(parts: &[Part]) -> BuiltObject {
    let mut payload = Vec::with_capacity(parts.len() + 1);
    let mut index: Vec<IndexEntry> = Vec::new();
    let mut position = 0u64;
    for run in parts.chunk_by(|a, b| a.partition == b.partition) {
        let start = position;
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        for part in run {
            digest.update(&part.bytes);
            position += part.bytes.len() as u64;
            payload.push(part.bytes.clone());
        }
        index.push(IndexEntry {
            partition: run[0].partition,
            position: start,
            length_bytes: (position - start) as u32,
            batch_count: run.iter().map(|part| part.batch_count).sum(),
            record_count: run.iter().map(|part| part.record_count).sum(),
            crc: digest.finalize() as u32,
        });
    }
    let mut footer = Vec::with_capacity(index.len() * ENTRY_BYTES + TRAILER_BYTES);
    for entry in &index {
        entry.encode(&mut footer);
    }
    let entries_crc = checksum(CrcAlgorithm::Crc32Iscsi, &footer) as u32;
    encode_trailer(index.len() as u32, entries_crc, &mut footer);
    let length_bytes = position + footer.len() as u64;
    payload.push(Bytes::from(footer));
    BuiltObject {
        payload,
        length_bytes,
        index,
    }
}
