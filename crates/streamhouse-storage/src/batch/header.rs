//! Reading and patching the header of a v2 record batch.
//!
//! Layout (big endian): base offset 0..8, batch length 8..12 (bytes after this field), partition leader
//! epoch 12..16, magic 16, CRC-32C 17..21 (of everything from 21 on), attributes 21..23, last offset
//! delta 23..27, base timestamp 27..35, max timestamp 35..43, producer id 43..51, producer epoch 51..53,
//! base sequence 53..57, record count 57..61. The first 16 bytes lie outside the CRC: they are patched
//! when a batch is read, and the stored bytes never change.

use crc_fast::{CrcAlgorithm, checksum};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes at the head of a batch that are written anew on every read.
pub const PATCHED_BYTES: usize = 16;

const CRC_FROM: usize = 21;
const ATTRIBUTE_LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const ATTRIBUTE_TRANSACTIONAL: i16 = 1 << 4;
pub(super) const ATTRIBUTE_CONTROL: i16 = 1 << 5;

/// Codec of a batch's records (attribute bits 0–2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Why bytes are no batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("{got} bytes are too few for a record batch")]
    Short { got: usize },
    #[error("magic {0} instead of 2")]
    Magic(u8),
    #[error("batch length {0} is impossible")]
    Length(i32),
}

/// A decoded header. `length_bytes` is the whole batch, header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub length_bytes: usize,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`. Says nothing about what follows it.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        // Older formats have their magic at the same place, so it is named before the length.
        if bytes.len() > 16 && bytes[16] != 2 {
            return Err(HeaderError::Magic(bytes[16]));
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(HeaderError::Short { got: bytes.len() });
        };
        let batch_length = i32::from_be_bytes(array(header, 8));
        if batch_length < (HEADER_BYTES - 12) as i32 {
            return Err(HeaderError::Length(batch_length));
        }
        Ok(Self {
            length_bytes: batch_length as usize + 12,
            crc: u32::from_be_bytes(array(header, 17)),
            attributes: i16::from_be_bytes(array(header, 21)),
            last_offset_delta: i32::from_be_bytes(array(header, 23)),
            base_timestamp: i64::from_be_bytes(array(header, 27)),
            max_timestamp: i64::from_be_bytes(array(header, 35)),
            producer_id: i64::from_be_bytes(array(header, 43)),
            producer_epoch: i16::from_be_bytes(array(header, 51)),
            base_sequence: i32::from_be_bytes(array(header, 53)),
            record_count: i32::from_be_bytes(array(header, 57)),
        })
    }

    /// `None` for a codec that does not exist.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        match self.attributes & 0b111 {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & ATTRIBUTE_CONTROL != 0
    }

    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & ATTRIBUTE_TRANSACTIONAL != 0
    }

    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & ATTRIBUTE_LOG_APPEND_TIME != 0
    }
}

/// The CRC-32C that belongs into the header of `batch`.
pub(super) fn crc_of(batch: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, &batch[CRC_FROM..]) as u32
}

/// Turns a batch's timestamps into `now_ms` (LogAppendTime, TRACES 14) and renews its CRC.
pub(super) fn set_log_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(array(batch, 21)) | ATTRIBUTE_LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc_of(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Clears the LogAppendTime bit that a client has no business to set, and renews the CRC.
pub(super) fn clear_log_append_time(batch: &mut [u8]) {
    let attributes = i16::from_be_bytes(array(batch, 21)) & !ATTRIBUTE_LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc_of(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The first 16 bytes of a batch as a reader gets them.
#[must_use]
pub fn patched_prefix(base_offset: i64, length_bytes: usize, leader_epoch: i32) -> [u8; PATCHED_BYTES] {
    let mut prefix = [0; PATCHED_BYTES];
    prefix[0..8].copy_from_slice(&base_offset.to_be_bytes());
    prefix[8..12].copy_from_slice(&((length_bytes - 12) as i32).to_be_bytes());
    prefix[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    prefix
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[from..from + N]);
    out
}
