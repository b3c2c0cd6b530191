//! Decoding requests that a stranger wrote.
//!
//! The message crate sizes vectors from counts it reads off the wire, so a body of ten bytes can ask for
//! gigabytes. Every body is therefore decoded twice: first *dry*, from a buffer that bounds each count by
//! the bytes that remain and the whole by a number of reads, then for real. What the dry run accepts
//! costs at most [`READ_COST_BYTES`] a read. Produce is not decoded here: its body is the only big one,
//! and `handlers/produce` takes it apart by hand. Headers are parsed here by hand too, because the
//! crate's own function panics on short frames.
//!
//! Integers of four bytes may be counts or values, so the dry run cannot refuse large ones: it lowers
//! them to one more than the bytes that remain. No honest count exceeds what remains, and a lying one, so
//! lowered, still finds too few bytes, also at the very end. Varints are counts, lengths and tags;
//! all of them are bounded by the frame, so large ones are refused.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::buf::{ByteBuf, NotEnoughBytesError};
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::wire::{Cursor, WireError};

/// Bound of what one read of the decoder can make the decoded request grow by: the largest element
/// (about 100 bytes in memory) takes two reads.
pub const READ_COST_BYTES: usize = 48;

/// What a byte of a body can become in memory before the dry run has told: charged beforehand.
pub const DECODED_FACTOR: usize = 32;

/// Most reads one request may take: about 60,000 partitions in a Fetch, 20 MB decoded.
pub const READS_MAX: usize = 400_000;

/// Why a request is not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the request's header cannot be read: {0}")]
    Header(#[from] WireError),
    #[error("unknown API key {0}")]
    UnknownApi(i16),
    #[error("{api:?} has no version {version} here")]
    UnsupportedVersion { api: ApiKey, version: i16 },
    #[error("{api:?} v{version} cannot be decoded: {why}")]
    Body { api: ApiKey, version: i16, why: String },
}

/// The head of a request, and what follows it.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub api: ApiKey,
    pub version: i16,
    /// The client's number, echoed in the answer.
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
}

/// The first eight bytes of a request: enough to answer an ApiVersions of an unknown version.
pub struct Opening {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
}

/// Reads the part of the header that never changes.
pub fn opening(frame: &Bytes) -> Result<Opening, WireError> {
    let mut cursor = Cursor::new(frame.clone());
    Ok(Opening {
        api_key: cursor.i16()?,
        version: cursor.i16()?,
        correlation_id: cursor.i32()?,
    })
}

/// Takes the header off a frame whose API and version have been found to be served.
pub fn header(frame: &Bytes, api: ApiKey) -> Result<(RequestHead, Bytes), RequestError> {
    let mut cursor = Cursor::new(frame.clone());
    let _ = cursor.i16()?;
    let version = cursor.i16()?;
    let correlation_id = cursor.i32()?;
    // The client id stays a plain nullable string also in the flexible header.
    let client_id = cursor.nullable_string()?;
    if api.request_header_version(version) >= 2 {
        cursor.tagged_fields()?;
    }
    let head = RequestHead {
        api,
        version,
        correlation_id,
        client_id,
    };
    Ok((head, cursor.rest()))
}

/// A decoded request and an upper bound of its memory.
pub struct Decoded<R> {
    pub request: R,
    pub bytes_max: usize,
}

/// Decodes a body, dry first; see the module's head.
pub fn decode<R: Decodable>(head: &RequestHead, body: &Bytes) -> Result<Decoded<R>, RequestError> {
    let wrong = |why: String| RequestError::Body {
        api: head.api,
        version: head.version,
        why,
    };
    let mut dry = Dry::new(body.clone());
    drop(R::decode(&mut dry, head.version).map_err(|error| wrong(dry.complaint(&error)))?);
    let reads = dry.reads;
    let mut real = body.clone();
    let request = R::decode(&mut real, head.version).map_err(|error| wrong(error.to_string()))?;
    Ok(Decoded {
        request,
        bytes_max: reads * READ_COST_BYTES,
    })
}

/// Decodes a message that lies inside a request, such as a member's subscription; `None` where it is none.
pub fn decode_inner<R: Decodable>(body: &Bytes, version: i16) -> Option<R> {
    let mut dry = Dry::new(body.clone());
    drop(R::decode(&mut dry, version).ok()?);
    R::decode(&mut body.clone(), version).ok()
}

/// The buffer of the dry run.
struct Dry {
    inner: Bytes,
    reads: usize,
    /// The last bytes read one by one that had their high bit set: the varint being read. A boolean
    /// that is neither 0 nor 1 may stand before it, so every way of cutting the run is checked.
    run: [u8; 4],
    run_len: usize,
    refused: Option<&'static str>,
}

impl Dry {
    fn new(inner: Bytes) -> Self {
        Self {
            inner,
            reads: 0,
            run: [0; 4],
            run_len: 0,
            refused: None,
        }
    }

    fn complaint(&self, error: &anyhow::Error) -> String {
        self.refused.map_or_else(|| error.to_string(), ToOwned::to_owned)
    }

    /// Poisons the buffer: the decoder finds nothing more to read and stops.
    fn refuse(&mut self, why: &'static str) -> TryGetError {
        self.refused.get_or_insert(why);
        self.inner.clear();
        TryGetError {
            requested: 1,
            available: 0,
        }
    }

    fn count(&mut self) -> Result<(), TryGetError> {
        self.reads += 1;
        if self.reads > READS_MAX {
            return Err(self.refuse("it holds too many elements"));
        }
        Ok(())
    }

    /// Called for each byte that may belong to a varint.
    fn varint_byte(&mut self, byte: u8) -> Result<(), TryGetError> {
        if byte >= 0x80 {
            if self.run_len == self.run.len() {
                return Err(self.refuse("a count or length exceeds the request"));
            }
            self.run[self.run_len] = byte;
            self.run_len += 1;
            return Ok(());
        }
        for start in 0..=self.run_len {
            let mut value = 0u64;
            for (place, part) in self.run[start..self.run_len].iter().chain([&byte]).enumerate() {
                value |= u64::from(part & 0x7f) << (7 * place);
            }
            // A compact count is one more than its elements.
            if start < self.run_len && value > self.inner.remaining() as u64 + 1 {
                return Err(self.refuse("a count or length exceeds the request"));
            }
        }
        self.run_len = 0;
        Ok(())
    }
}

impl Buf for Dry {
    fn remaining(&self) -> usize {
        self.inner.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.inner.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.run_len = 0;
        self.inner.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        self.count()?;
        let byte = self.inner.try_get_u8()?;
        self.varint_byte(byte)?;
        // A lone byte below 128 is a count too when little is left.
        Ok(byte)
    }

    fn try_get_i16(&mut self) -> Result<i16, TryGetError> {
        self.count()?;
        self.run_len = 0;
        self.inner.try_get_i16()
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        self.count()?;
        self.run_len = 0;
        let value = self.inner.try_get_i32()?;
        let too_many = self.inner.remaining().saturating_add(1);
        Ok(value.min(i32::try_from(too_many).unwrap_or(i32::MAX)))
    }
}

impl ByteBuf for Dry {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.inner.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.run_len = 0;
        self.inner.split_to(size)
    }

    fn try_get_bytes(&mut self, size: usize) -> Result<Bytes, NotEnoughBytesError> {
        self.run_len = 0;
        if self.inner.remaining() < size || self.count().is_err() {
            return Err(NotEnoughBytesError);
        }
        Ok(self.inner.split_to(size))
    }
}
