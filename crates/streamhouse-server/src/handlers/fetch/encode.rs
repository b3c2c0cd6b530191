//! A Fetch response framed by hand: small buffers of our own between slices of stored bytes.
//!
//! The message crate would copy all records into one buffer; here they go to the socket from where they
//! lie. Field order follows Kafka's `FetchResponse.json`; a test decodes every version with the message
//! crate.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use streamhouse_metadata::model::partition::PartitionSnapshot;
use streamhouse_metadata::model::transaction::AbortedRange;
use streamhouse_observability::families::ApiOutcome;
use streamhouse_storage::reader::Records;

use crate::handlers::error_code::NONE;
use crate::handlers::response::{self, EncodeError, Response};
use crate::handlers::topics::TopicKey;
use crate::listener::guard::RequestHead;
use crate::listener::responses::Held;

/// First flexible version.
const FLEXIBLE: i16 = 12;
/// The largest length that the protocol can say.
const FRAME_BYTES_MAX: usize = i32::MAX as usize;

pub(super) struct Topic {
    pub(super) key: TopicKey,
    pub(super) partitions: Vec<Partition>,
}

pub(super) struct Partition {
    pub(super) index: i32,
    pub(super) error_code: i16,
    /// `None` where the partition could not be read.
    pub(super) snapshot: Option<PartitionSnapshot>,
    pub(super) records: Records,
    /// A reader of committed data gets a list of aborted transactions; others get null.
    pub(super) aborted: Option<Vec<AbortedRange>>,
}

impl Partition {
    /// To be filled by the read.
    pub(super) fn waiting(index: i32) -> Self {
        Self::failed(index, NONE)
    }

    pub(super) fn failed(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            snapshot: None,
            records: Records::default(),
            aborted: None,
        }
    }
}

/// Writes into the buffer in hand, and sets it aside when stored bytes follow.
struct Parts {
    buffer: BytesMut,
    parts: Vec<Bytes>,
    flexible: bool,
}

impl Parts {
    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    fn array(&mut self, length: usize) {
        if self.flexible {
            self.varint(length as u32 + 1);
        } else {
            self.buffer.put_i32(length as i32);
        }
    }

    fn null_array(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        } else {
            self.buffer.put_i32(-1);
        }
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    fn topic(&mut self, key: &TopicKey) {
        match key {
            TopicKey::Id(id) => self.buffer.put_u128(id.as_u128()),
            TopicKey::Name(name) if self.flexible => {
                self.varint(name.len() as u32 + 1);
                self.buffer.put_slice(name.as_bytes());
            }
            TopicKey::Name(name) => {
                self.buffer.put_i16(name.len() as i16);
                self.buffer.put_slice(name.as_bytes());
            }
        }
    }

    fn records(&mut self, records: Records) {
        // Same encoding as an array of bytes.
        self.array(records.length_bytes);
        if !records.is_empty() {
            self.parts.push(self.buffer.split().freeze());
            self.parts.extend(records.chunks);
        }
    }
}

/// The whole response. `topics` is empty where `error_code` is not.
pub(super) fn response(
    head: &RequestHead,
    (error_code, session_id): (i16, i32),
    topics: Vec<Topic>,
    outcome: ApiOutcome,
    throttle: Duration,
) -> Result<Response, EncodeError> {
    let version = head.version;
    let partitions: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut out = Parts {
        buffer: response::begin(head, 64 + topics.len() * 64 + partitions * 64),
        parts: Vec::new(),
        flexible: version >= FLEXIBLE,
    };
    out.buffer
        .put_i32(i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX));
    if version >= 7 {
        out.buffer.put_i16(error_code);
        out.buffer.put_i32(session_id);
    }
    out.array(topics.len());
    for topic in topics {
        out.topic(&topic.key);
        out.array(topic.partitions.len());
        for partition in topic.partitions {
            write_partition(&mut out, version, partition);
        }
        out.no_tags();
    }
    out.no_tags();
    let mut parts = out.parts;
    if !out.buffer.is_empty() {
        parts.push(out.buffer.freeze());
    }
    let length: usize = parts.iter().map(Bytes::len).sum::<usize>() - 4;
    response::check_length(head, length, FRAME_BYTES_MAX)?;
    put_length(&mut parts, length);
    Ok(Response {
        parts,
        outcome,
        after: None,
        throttle,
        may_wait: Duration::ZERO,
        memory: Held::default(),
    })
}

fn write_partition(out: &mut Parts, version: i16, partition: Partition) {
    let (high_watermark, last_stable, log_start) = match partition.snapshot {
        Some(snapshot) => (
            snapshot.high_watermark,
            snapshot.last_stable_offset,
            snapshot.log_start_offset,
        ),
        None => (-1, -1, -1),
    };
    out.buffer.put_i32(partition.index);
    out.buffer.put_i16(partition.error_code);
    out.buffer.put_i64(high_watermark);
    out.buffer.put_i64(last_stable);
    if version >= 5 {
        out.buffer.put_i64(log_start);
    }
    match partition.aborted {
        Some(aborted) => {
            out.array(aborted.len());
            for range in aborted {
                out.buffer.put_i64(range.producer_id);
                out.buffer.put_i64(range.first_offset);
                out.no_tags();
            }
        }
        None => out.null_array(),
    }
    if version >= 11 {
        out.buffer.put_i32(-1); // preferred read replica
    }
    out.records(partition.records);
    out.no_tags();
}

/// The length stands in the first part and counts all of them.
fn put_length(parts: &mut [Bytes], length: usize) {
    if let Some(first) = parts.first_mut() {
        let mut copy = BytesMut::from(&first[..]);
        copy[..4].copy_from_slice(&(length as u32).to_be_bytes());
        *first = copy.freeze();
    }
}
