//! What goes back over a connection: the parts of one response, ready to be written one after the other.
//!
//! Most responses are one buffer that the message crate filled; a Fetch response is many slices of
//! stored bytes. Both carry length and header already, so the connection writes parts and knows nothing
//! of what they are.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Encodable;
use streamhouse_observability::families::ApiOutcome;
use tokio::time::Instant;

use crate::listener::guard::RequestHead;
use crate::listener::responses::Held;

/// Runs when the last byte of a response was handed to the kernel.
pub type AfterWrite = Box<dyn FnOnce(Instant) + Send>;

/// One response, complete with length and header.
pub struct Response {
    /// In the order of writing.
    pub parts: Vec<Bytes>,
    /// The worst of what it reports.
    pub outcome: ApiOutcome,
    pub after: Option<AfterWrite>,
    /// How long nothing more is read from the client: it went over its quota.
    pub throttle: Duration,
    /// How long the request was allowed to wait for data.
    pub may_wait: Duration,
    /// Goes when it was written or can no longer be.
    pub memory: Held,
}

/// Our answer does not fit the protocol: a mistake of ours, the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the answer to {api:?} v{version} cannot be encoded: {why}")]
pub struct EncodeError {
    pub api: ApiKey,
    pub version: i16,
    pub why: String,
}

/// Begins a response: four bytes for the length, then the header.
pub fn begin(head: &RequestHead, capacity: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(capacity + 9);
    buffer.put_u32(0);
    buffer.put_i32(head.correlation_id);
    if head.api.response_header_version(head.version) >= 1 {
        buffer.put_u8(0);
    }
    buffer
}

/// Puts the length in front of what follows it; `beyond` bytes come in later parts.
pub fn finish(buffer: &mut BytesMut, beyond: usize) {
    let length = (buffer.len() - 4 + beyond) as u32;
    buffer[..4].copy_from_slice(&length.to_be_bytes());
}

impl Response {
    /// Encodes `message` as the answer to `head`.
    pub fn encode<M: Encodable>(
        head: &RequestHead,
        message: &M,
        outcome: ApiOutcome,
    ) -> Result<Self, EncodeError> {
        let mut buffer = begin(head, 256);
        message
            .encode(&mut buffer, head.version)
            .map_err(|error| EncodeError {
                api: head.api,
                version: head.version,
                why: error.to_string(),
            })?;
        finish(&mut buffer, 0);
        Ok(Self {
            parts: vec![buffer.freeze()],
            outcome,
            after: None,
            throttle: Duration::ZERO,
            may_wait: Duration::ZERO,
            memory: Held::default(),
        })
    }
}

/// The worse of two outcomes: what a request with several answers counts as.
#[must_use]
pub fn worse(a: ApiOutcome, b: ApiOutcome) -> ApiOutcome {
    match (a, b) {
        (ApiOutcome::ServerError, _) | (_, ApiOutcome::ServerError) => ApiOutcome::ServerError,
        (ApiOutcome::ClientError, _) | (_, ApiOutcome::ClientError) => ApiOutcome::ClientError,
        (ApiOutcome::Ok, ApiOutcome::Ok) => ApiOutcome::Ok,
    }
}
