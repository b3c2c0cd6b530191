//! Reading an object without the metadata: its index from the footer, and the check of a segment.

use crc_fast::{CrcAlgorithm, checksum};

use super::format::{ENTRY_BYTES, FormatError, IndexEntry, TRAILER_BYTES, decode_trailer};

/// The index of a whole object. Every entry lies within the object.
pub fn open_index(object: &[u8]) -> Result<Vec<IndexEntry>, FormatError> {
    let (body, trailer) = object
        .split_last_chunk::<TRAILER_BYTES>()
        .ok_or(FormatError::Short(object.len()))?;
    let (count, entries_crc) = decode_trailer(trailer)?;
    let footer_bytes = (count as usize)
        .checked_mul(ENTRY_BYTES)
        .ok_or(FormatError::Bounds)?;
    let segments_bytes = body.len().checked_sub(footer_bytes).ok_or(FormatError::Bounds)?;
    let footer = &body[segments_bytes..];
    if checksum(CrcAlgorithm::Crc32Iscsi, footer) as u32 != entries_crc {
        return Err(FormatError::FooterCrc);
    }
    let (entries, _) = footer.as_chunks::<ENTRY_BYTES>();
    let entries: Vec<_> = entries.iter().map(IndexEntry::decode).collect();
    let inside = |entry: &IndexEntry| {
        entry
            .position
            .checked_add(u64::from(entry.length_bytes))
            .is_some_and(|end| end <= segments_bytes as u64)
    };
    if entries.iter().all(inside) {
        Ok(entries)
    } else {
        Err(FormatError::Bounds)
    }
}

/// Checks the bytes of one segment against its index entry.
pub fn verify_segment(entry: &IndexEntry, segment: &[u8]) -> Result<(), FormatError> {
    let right = segment.len() == entry.length_bytes as usize
        && checksum(CrcAlgorithm::Crc32Iscsi, segment) as u32 == entry.crc;
    if right {
        Ok(())
    } else {
        Err(FormatError::SegmentCrc(entry.partition))
    }
}
