//! Control batches: the markers with which a transaction ends in each of its partitions.
//!
//! One record a batch. Its key says what it is (version 0, then type: 0 abort, 1 commit), its value names
//! the coordinator's epoch (version 0, then epoch), as in Kafka's `EndTxnMarker`. Readers leave it out.

use bytes::Bytes;
use streamhouse_metadata::model::transaction::{ProducerIdentity, TransactionResult};

use super::header::{ATTRIBUTE_CONTROL, ATTRIBUTE_TRANSACTIONAL, HEADER_BYTES, crc_of};

/// Length of the record after its own length field, and both as written.
const RECORD_BYTES: usize = 16;
const MAGIC: u8 = 2;

/// The marker of one partition; base offset and leader epoch are patched on every read.
#[must_use]
pub fn marker(
    producer: ProducerIdentity,
    result: TransactionResult,
    coordinator_epoch: i32,
    now_ms: i64,
) -> Bytes {
    let mut batch = vec![0; HEADER_BYTES];
    let length = (HEADER_BYTES + 1 + RECORD_BYTES - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = MAGIC;
    let attributes = ATTRIBUTE_TRANSACTIONAL | ATTRIBUTE_CONTROL;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[27..35].copy_from_slice(&now_ms.to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    batch[43..51].copy_from_slice(&producer.producer_id.to_be_bytes());
    batch[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&(-1_i32).to_be_bytes());
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    let kind: i16 = match result {
        TransactionResult::Abort => 0,
        TransactionResult::Commit => 1,
    };
    // Lengths are zigzag varints; attributes, both deltas and the number of headers are 0.
    batch.push((RECORD_BYTES as u8) << 1);
    batch.extend_from_slice(&[0, 0, 0, 4 << 1, 0, 0]);
    batch.extend_from_slice(&kind.to_be_bytes());
    batch.extend_from_slice(&[6 << 1, 0, 0]);
    batch.extend_from_slice(&coordinator_epoch.to_be_bytes());
    batch.push(0);
    let crc = crc_of(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchHeader;

    #[test]
    fn a_marker_is_a_whole_control_batch_of_78_bytes() {
        let producer = ProducerIdentity {
            producer_id: 4_242,
            epoch: 7,
        };
        let abort = marker(producer, TransactionResult::Abort, 1, 1_700);
        let commit = marker(producer, TransactionResult::Commit, 1, 1_700);
        let header = BatchHeader::parse(&commit).expect("a header");
        assert_eq!((commit.len(), header.length_bytes), (78, 78));
        assert!(header.is_control() && header.is_transactional());
        assert_eq!((header.producer_id, header.producer_epoch), (4_242, 7));
        assert_eq!((header.max_timestamp, header.record_count), (1_700, 1));
        assert_eq!(header.crc, crc_of(&commit));
        // The record of a COMMIT as Apache Kafka writes it.
        let record = [32, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(commit[HEADER_BYTES..], record);
        assert_eq!(abort[HEADER_BYTES + 8], 0, "the type of an ABORT");
    }
}
