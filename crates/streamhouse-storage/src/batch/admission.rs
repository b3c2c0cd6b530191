//! What a record batch has to be before it may be stored: the checks of Kafka's LogValidator that do
//! not need the records' content (TRACES 13), the message size limit and the CRC.
//!
//! Uncompressed batches are walked record by record, which costs microseconds; the records of
//! compressed ones stay unread unless the operator asks for more.

use bytes::Bytes;
use streamhouse_metadata::model::producer::ProducerStamp;
use streamhouse_metadata::model::topic::TimestampType;

use super::header::{self, BatchHeader, Codec, HeaderError};
use super::records::{self, RecordsError};

/// What the topic asks of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// `max.message.bytes`, compared with the whole batch.
    pub max_message_bytes: u32,
    pub timestamp_type: TimestampType,
    /// How far timestamps may lie behind and ahead of `now_ms`, milliseconds, where producers give them.
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// Becomes the timestamp of every record where the topic's type is LogAppendTime.
    pub now_ms: i64,
}

/// A batch that may be stored.
#[derive(Clone, Debug)]
pub struct AdmittedBatch {
    pub header: BatchHeader,
    pub bytes: Bytes,
    /// Set where the topic's timestamps are LogAppendTime; a producer is told so.
    pub log_append_time: Option<i64>,
}

impl AdmittedBatch {
    /// `None` for a producer that is not idempotent.
    #[must_use]
    pub fn producer(&self) -> Option<ProducerStamp> {
        (self.header.producer_id >= 0).then_some(ProducerStamp {
            producer_id: self.header.producer_id,
            epoch: self.header.producer_epoch,
            base_sequence: self.header.base_sequence,
        })
    }
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("no record batch")]
    Missing,
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("a batch of {batch} bytes in {given} bytes")]
    Truncated { batch: usize, given: usize },
    #[error("more than one record batch for a partition")]
    Several,
    #[error("a batch of {got} bytes; at most {max} are allowed")]
    TooLarge { got: usize, max: u32 },
    #[error("CRC {got:#010x} where {expected:#010x} is announced")]
    Crc { expected: u32, got: u32 },
    #[error("timestamp {timestamp} is too far from the server's {now}")]
    Timestamp { timestamp: i64, now: i64 },
    #[error("clients may not write control batches")]
    Control,
    #[error("codec {0} does not exist")]
    Codec(i16),
    #[error("{count} records announced with a last offset delta of {last_offset_delta}")]
    Count { count: i32, last_offset_delta: i32 },
    #[error("producer id {id} with epoch {epoch} and sequence {sequence}")]
    Producer { id: i64, epoch: i16, sequence: i32 },
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// Checks what a producer sent for one partition.
pub fn admit(records: &Bytes, admission: &Admission) -> Result<AdmittedBatch, BatchError> {
    if records.is_empty() {
        return Err(BatchError::Missing);
    }
    let header = BatchHeader::parse(records)?;
    if header.length_bytes > records.len() {
        return Err(BatchError::Truncated {
            batch: header.length_bytes,
            given: records.len(),
        });
    }
    if header.length_bytes < records.len() {
        return Err(BatchError::Several);
    }
    if header.length_bytes > admission.max_message_bytes as usize {
        return Err(BatchError::TooLarge {
            got: header.length_bytes,
            max: admission.max_message_bytes,
        });
    }
    let crc = header::crc_of(records);
    if crc != header.crc {
        return Err(BatchError::Crc {
            expected: header.crc,
            got: crc,
        });
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    let Some(codec) = header.codec() else {
        return Err(BatchError::Codec(header.attributes & 0b111));
    };
    if header.record_count <= 0 || header.last_offset_delta != header.record_count - 1 {
        return Err(BatchError::Count {
            count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    // A transaction is some producer's.
    let anonymous = header.producer_id < 0;
    let unnumbered = header.producer_epoch < 0 || header.base_sequence < 0;
    if (anonymous && header.is_transactional()) || (!anonymous && unnumbered) {
        return Err(BatchError::Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
        });
    }
    check_timestamps(&header, admission)?;
    if codec == Codec::None {
        records::check_uncompressed(&records[header::HEADER_BYTES..], header.record_count)?;
    }
    Ok(stamp(records, header, admission))
}

/// KIP-937, by the header: its largest timestamp and that of its first record.
fn check_timestamps(header: &BatchHeader, admission: &Admission) -> Result<(), BatchError> {
    if admission.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let now = admission.now_ms;
    let too_new = header.max_timestamp.saturating_sub(now) > admission.timestamp_after_max_ms;
    // -1 is no timestamp.
    let too_old = header.base_timestamp >= 0
        && now.saturating_sub(header.base_timestamp) > admission.timestamp_before_max_ms;
    let timestamp = match (too_new, too_old) {
        (true, _) => header.max_timestamp,
        (false, true) => header.base_timestamp,
        (false, false) => return Ok(()),
    };
    Err(BatchError::Timestamp { timestamp, now })
}

fn stamp(records: &Bytes, mut header: BatchHeader, admission: &Admission) -> AdmittedBatch {
    let (bytes, log_append_time) = match admission.timestamp_type {
        TimestampType::LogAppendTime => {
            let mut copy = records.to_vec();
            header::set_log_append_time(&mut copy, admission.now_ms);
            header.max_timestamp = admission.now_ms;
            (Bytes::from(copy), Some(admission.now_ms))
        }
        TimestampType::CreateTime if header.is_log_append_time() => {
            let mut copy = records.to_vec();
            header::clear_log_append_time(&mut copy);
            (Bytes::from(copy), None)
        }
        TimestampType::CreateTime => (records.clone(), None),
    };
    AdmittedBatch {
        header,
        bytes,
        log_append_time,
    }
}
