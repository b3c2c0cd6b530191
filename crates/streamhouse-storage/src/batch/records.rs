//! Looking into a batch: the walk over uncompressed records at admission, and the search for a record
//! by timestamp, which decompresses as a stream and holds no more than one buffer.

use std::io::{self, Read};

use super::header::{BatchHeader, Codec, HEADER_BYTES};

/// A record batch cannot decompress to more than this when it is searched: a bomb ends there.
const DECOMPRESSED_BYTES_MAX: u64 = 1 << 30;

/// Why the records of a batch cannot be what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    #[error("record {index} of {count} is malformed")]
    Malformed { index: i32, count: i32 },
    #[error("bytes after the last of {count} records")]
    Trailing { count: i32 },
    #[error("the batch is no valid {0:?} data")]
    Compression(Codec),
}

/// A record found by a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    pub offset_delta: i32,
    pub timestamp: i64,
}

/// Walks uncompressed records: lengths fit, offset deltas count up from 0, nothing is left over.
pub(super) fn check_uncompressed(mut rest: &[u8], count: i32) -> Result<(), RecordsError> {
    for index in 0..count {
        rest = skip_record(rest, index).ok_or(RecordsError::Malformed { index, count })?;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(RecordsError::Trailing { count })
    }
}

/// Checks one record and returns what follows it.
fn skip_record(bytes: &[u8], index: i32) -> Option<&[u8]> {
    let mut rest = bytes;
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    let (mut body, after) = rest.split_at_checked(length)?;
    body = body.get(1..)?; // attributes: none are defined
    varint(&mut body)?; // timestamp delta
    if varint(&mut body)? != i64::from(index) {
        return None;
    }
    skip_bytes(&mut body, true)?; // key
    skip_bytes(&mut body, true)?; // value
    let headers = varint(&mut body)?;
    for _ in 0..u32::try_from(headers).ok()? {
        skip_bytes(&mut body, false)?;
        skip_bytes(&mut body, true)?;
    }
    body.is_empty().then_some(after)
}

fn skip_bytes(rest: &mut &[u8], nullable: bool) -> Option<()> {
    let length = varint(rest)?;
    if length == -1 && nullable {
        return Some(());
    }
    *rest = rest.get(usize::try_from(length).ok()?..)?;
    Some(())
}

fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// The first record of `batch` whose timestamp is at least `timestamp`.
/// Records before `from_delta` are passed over: they lie below the log's start.
pub fn find_timestamp(
    batch: &[u8],
    timestamp: i64,
    from_delta: i32,
) -> Result<Option<FoundRecord>, RecordsError> {
    search(batch, from_delta, |found| found.timestamp >= timestamp)
}

/// The first record from `from_delta` on that carries the batch's largest timestamp.
pub fn find_max_timestamp(
    batch: &[u8],
    header: &BatchHeader,
    from_delta: i32,
) -> Result<Option<FoundRecord>, RecordsError> {
    let max = header.max_timestamp;
    search(batch, from_delta, |found| found.timestamp >= max)
}

fn search(
    batch: &[u8],
    from_delta: i32,
    wanted: impl Fn(&FoundRecord) -> bool,
) -> Result<Option<FoundRecord>, RecordsError> {
    let malformed = |index| RecordsError::Malformed { index, count: 0 };
    let header = BatchHeader::parse(batch).map_err(|_| malformed(0))?;
    if header.is_log_append_time() {
        // All records carry the batch's one timestamp.
        let found = FoundRecord {
            offset_delta: from_delta.max(0),
            timestamp: header.max_timestamp,
        };
        return Ok(wanted(&found).then_some(found));
    }
    let codec = header.codec().ok_or(malformed(0))?;
    let payload = &batch[HEADER_BYTES.min(batch.len())..];
    let mut stream = io::BufReader::new(decompressed(codec, payload, DECOMPRESSED_BYTES_MAX)?);
    for index in 0..header.record_count {
        let found = next_record(&mut stream, header.base_timestamp).map_err(|_| RecordsError::Malformed {
            index,
            count: header.record_count,
        })?;
        if found.offset_delta >= from_delta && wanted(&found) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn next_record(stream: &mut impl Read, base_timestamp: i64) -> io::Result<FoundRecord> {
    let (length, _) = read_varint(stream)?;
    let length = u64::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut body = stream.take(length);
    let mut attributes = [0];
    body.read_exact(&mut attributes)?;
    let (timestamp_delta, _) = read_varint(&mut body)?;
    let (offset_delta, _) = read_varint(&mut body)?;
    io::copy(&mut body, &mut io::sink())?;
    if body.limit() > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(FoundRecord {
        offset_delta: i32::try_from(offset_delta).map_err(|_| io::ErrorKind::InvalidData)?,
        timestamp: base_timestamp.saturating_add(timestamp_delta),
    })
}

fn read_varint(stream: &mut impl Read) -> io::Result<(i64, usize)> {
    let mut value = 0u64;
    for (index, shift) in (0..64).step_by(7).enumerate() {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(((value >> 1) as i64 ^ -((value & 1) as i64), index + 1));
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// What a client compressed, as a stream that ends after `bytes_max`.
pub fn decompressed(
    codec: Codec,
    payload: &[u8],
    bytes_max: u64,
) -> Result<Box<dyn Read + '_>, RecordsError> {
    let reader: Box<dyn Read + '_> = match codec {
        Codec::None => Box::new(payload),
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(payload)),
        Codec::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(payload)),
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(payload);
            let mut decoder = decoder.map_err(|_| RecordsError::Compression(codec))?;
            // A window is allocated at once: none larger than what clients use for as many bytes.
            let window_log = bytes_max
                .next_power_of_two()
                .ilog2()
                .clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX);
            let limited = decoder.window_log_max(window_log);
            limited.map_err(|_| RecordsError::Compression(codec))?;
            Box::new(decoder)
        }
        Codec::Snappy => {
            let block_bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
            Box::new(SnappyBlocks::new(
                payload,
                block_bytes_max.min(SNAPPY_BLOCK_BYTES_MAX),
            ))
        }
    };
    Ok(Box::new(reader.take(bytes_max)))
}

/// No client writes snappy blocks larger than a batch may be.
const SNAPPY_BLOCK_BYTES_MAX: usize = 128 << 20;
/// The windows that streaming encoders take at ordinary levels, and the most that decoders allow by default.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Snappy as Kafka clients write it: either the framing of xerial's Java library (magic, then blocks
/// with their length), or one bare block.
struct SnappyBlocks<'a> {
    rest: &'a [u8],
    framed: bool,
    block_bytes_max: usize,
    block: io::Cursor<Vec<u8>>,
}

/// Magic (8 bytes), version and oldest compatible version (4 each).
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
impl<'a> SnappyBlocks<'a> {
    fn new(payload: &'a [u8], block_bytes_max: usize) -> Self {
        let framed = payload.starts_with(XERIAL_MAGIC) && payload.len() >= XERIAL_HEADER_BYTES;
        let rest = if framed {
            &payload[XERIAL_HEADER_BYTES..]
        } else {
            payload
        };
        Self {
            rest,
            framed,
            block_bytes_max,
            block: io::Cursor::new(Vec::new()),
        }
    }

    fn next_block(&mut self) -> io::Result<bool> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        let compressed = if self.framed {
            let (length, after) = self
                .rest
                .split_first_chunk::<4>()
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let (block, after) = after
                .split_at_checked(u32::from_be_bytes(*length) as usize)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            self.rest = after;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let length = snap::raw::decompress_len(compressed).map_err(io::Error::from)?;
        if length > self.block_bytes_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let block = snap::raw::Decoder::new()
            .decompress_vec(compressed)
            .map_err(io::Error::from)?;
        self.block = io::Cursor::new(block);
        Ok(true)
    }
}

impl Read for SnappyBlocks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(out)?;
            if read > 0 || out.is_empty() || !self.next_block()? {
                return Ok(read);
            }
        }
    }
}
