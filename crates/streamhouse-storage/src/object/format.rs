//! The stored format, version 1 (docs/adr/0002): footer entries and trailer, big endian.
//!
//! Entry, 44 bytes: topic id 16, partition i32, position u64, length u32, batch count u32, record count
//! u32, CRC-32C of the segment u32. Trailer, 20 bytes: entry count u32, CRC-32C of the entries u32,
//! version u16, reserved u16 (0), magic `STRMHOUS`.

use object_store::path::Path;
use streamhouse_metadata::ids::{IncarnationId, ObjectName, TopicId, TopicPartition};
use uuid::Uuid;

pub const ENTRY_BYTES: usize = 44;
pub const TRAILER_BYTES: usize = 20;
pub const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"STRMHOUS";

/// What the footer says of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub partition: TopicPartition,
    pub position: u64,
    pub length_bytes: u32,
    pub batch_count: u32,
    pub record_count: u32,
    pub crc: u32,
}

/// Why bytes are no object of ours, or a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("{0} bytes are too few for an object")]
    Short(usize),
    #[error("no object of this system")]
    Magic,
    #[error("object format version {0} is not known")]
    Version(u16),
    #[error("the footer's CRC is wrong")]
    FooterCrc,
    #[error("the footer names bytes outside the object")]
    Bounds,
    #[error("the segment of {0} is damaged")]
    SegmentCrc(TopicPartition),
}

impl IndexEntry {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.partition.topic.0.as_bytes());
        out.extend_from_slice(&self.partition.partition.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        for word in [self.length_bytes, self.batch_count, self.record_count, self.crc] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }

    pub(super) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut topic = [0; 16];
        topic.copy_from_slice(&bytes[..16]);
        Self {
            partition: TopicPartition {
                topic: TopicId(Uuid::from_bytes(topic)),
                partition: word(16) as i32,
            },
            position: u64::from(word(20)) << 32 | u64::from(word(24)),
            length_bytes: word(28),
            batch_count: word(32),
            record_count: word(36),
            crc: word(40),
        }
    }
}

pub(super) fn encode_trailer(entries: u32, entries_crc: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&entries.to_be_bytes());
    out.extend_from_slice(&entries_crc.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&0u16.to_be_bytes());
    out.extend_from_slice(MAGIC);
}

/// The number of entries and their CRC, from an object's last bytes.
pub(super) fn decode_trailer(trailer: &[u8; TRAILER_BYTES]) -> Result<(u32, u32), FormatError> {
    let word =
        |at: usize| u32::from_be_bytes([trailer[at], trailer[at + 1], trailer[at + 2], trailer[at + 3]]);
    if &trailer[12..] != MAGIC {
        return Err(FormatError::Magic);
    }
    let version = (word(8) >> 16) as u16;
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    Ok((word(0), word(4)))
}

/// Where an object lies below the store's root.
#[must_use]
pub fn key_of(name: &ObjectName) -> Path {
    Path::from(name.to_string())
}

/// All objects of an incarnation lie below this.
#[must_use]
pub fn prefix_of(incarnation: IncarnationId) -> Path {
    Path::from(format!("objects/{incarnation}"))
}

/// The name that a key stands for; `None` for keys that this system did not give.
#[must_use]
pub fn parse_key(key: &Path) -> Option<ObjectName> {
    let mut parts = key.as_ref().split('/');
    let (objects, incarnation, counter) = (parts.next()?, parts.next()?, parts.next()?);
    if objects != "objects" || parts.next().is_some() || counter.len() != 20 {
        return None;
    }
    Some(ObjectName {
        incarnation: IncarnationId(incarnation.parse().ok()?),
        counter: counter.parse().ok()?,
    })
}
