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

/// The largest answer, but for Fetch, which has limits of its own. Clients take no more in one piece: librdkafka
/// 100 MB, unless told otherwise.
pub const ANSWER_BYTES_MAX: usize = 100 << 20;

/// An answer that is not sent: the connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Our answer does not fit the protocol: a mistake of ours.
    #[error("the answer to {api:?} v{version} cannot be encoded: {why}")]
    Message { api: ApiKey, version: i16, why: String },
    /// The client asked for more at once than can be told.
    #[error("the answer to {api:?} v{version} would have {bytes} bytes; the limit is {limit}")]
    TooLarge {
        api: ApiKey,
        version: i16,
        bytes: usize,
        limit: usize,
    },
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

/// Refuses an answer of more bytes than its kind may have.
pub fn check_length(head: &RequestHead, bytes: usize, limit: usize) -> Result<(), EncodeError> {
    let RequestHead { api, version, .. } = *head;
    if bytes <= limit {
        return Ok(());
    }
    Err(EncodeError::TooLarge {
        api,
        version,
        bytes,
        limit,
    })
}

/// Puts the length in front of what follows it.
fn finish(buffer: &mut BytesMut) {
    let length = (buffer.len() - 4) as u32;
    buffer[..4].copy_from_slice(&length.to_be_bytes());
}

impl Response {
    /// Encodes `message` as the answer to `head`. Nothing of its size is allocated for one that is too large.
    pub fn encode<M: Encodable>(
        head: &RequestHead,
        message: &M,
        outcome: ApiOutcome,
    ) -> Result<Self, EncodeError> {
        let RequestHead { api, version, .. } = *head;
        let wrong = |why: String| EncodeError::Message { api, version, why };
        let bytes = message
            .compute_size(version)
            .map_err(|error| wrong(error.to_string()))?;
        check_length(head, bytes, ANSWER_BYTES_MAX)?;
        let mut buffer = begin(head, bytes);
        message
            .encode(&mut buffer, version)
            .map_err(|error| wrong(error.to_string()))?;
        finish(&mut buffer);
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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::FindCoordinatorResponse;
    use kafka_protocol::messages::find_coordinator_response::Coordinator;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    #[test]
    fn an_answer_above_the_limit_is_refused_and_one_below_says_its_length() {
        let head = RequestHead {
            api: ApiKey::FindCoordinator,
            version: 4,
            correlation_id: 1,
            client_id: None,
        };
        // All of them share one name.
        let found = Coordinator::default().with_host(StrBytes::from_string("h".repeat(1 << 20)));
        let encode = |times| {
            let message = FindCoordinatorResponse::default().with_coordinators(vec![found.clone(); times]);
            Response::encode(&head, &message, ApiOutcome::Ok)
        };
        let Err(EncodeError::TooLarge { bytes, limit, .. }) = encode(100) else {
            panic!("it is encoded");
        };
        assert!(bytes > limit && limit == ANSWER_BYTES_MAX);
        let [encoded] = encode(3).unwrap().parts.try_into().unwrap();
        let length = u32::from_be_bytes(encoded[..4].try_into().unwrap());
        assert_eq!(length as usize, encoded.len() - 4);
        assert!(check_length(&head, limit, limit).is_ok());
    }
}
