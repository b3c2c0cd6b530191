//! Builds small uncompressed record batches for tests.

use bytes::Bytes;
use streamhouse_metadata::model::producer::ProducerStamp;
use streamhouse_metadata::model::topic::TimestampType;

use super::header;
use super::{Admission, AdmittedBatch, admit};

/// A batch to be built: one record a value, timestamps counting up from `base_timestamp`.
#[derive(Clone, Debug, Default)]
pub struct TestBatch {
    pub values: Vec<Bytes>,
    pub base_timestamp: i64,
    pub producer: Option<ProducerStamp>,
    pub attributes: i16,
    /// What the header says instead of the largest timestamp.
    pub claimed_timestamp: Option<i64>,
}

impl TestBatch {
    /// `count` records of which each says which one it is.
    #[must_use]
    pub fn of(count: usize, label: &str) -> Self {
        let values = (0..count)
            .map(|index| Bytes::from(format!("{label}-{index}")))
            .collect();
        Self {
            values,
            base_timestamp: 1_000,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn by(mut self, producer_id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = Some(ProducerStamp {
            producer_id,
            epoch,
            base_sequence,
        });
        self
    }

    #[must_use]
    pub fn at(mut self, base_timestamp: i64) -> Self {
        self.base_timestamp = base_timestamp;
        self
    }

    /// The batch as it goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let count = self.values.len() as i32;
        let mut batch = vec![0; header::HEADER_BYTES];
        for (index, value) in self.values.iter().enumerate() {
            let mut record = vec![0];
            varint(index as i64, &mut record);
            varint(index as i64, &mut record);
            varint(-1, &mut record);
            varint(value.len() as i64, &mut record);
            record.extend_from_slice(value);
            varint(0, &mut record);
            varint(record.len() as i64, &mut batch);
            batch.extend_from_slice(&record);
        }
        let length = batch.len() as i32 - 12;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        let largest = self.base_timestamp + i64::from(count) - 1;
        batch[35..43].copy_from_slice(&self.claimed_timestamp.unwrap_or(largest).to_be_bytes());
        let stamp = self.producer.unwrap_or(ProducerStamp {
            producer_id: -1,
            epoch: -1,
            base_sequence: -1,
        });
        batch[43..51].copy_from_slice(&stamp.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&stamp.epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&stamp.base_sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = header::crc_of(&batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Bytes::from(batch)
    }

    /// The batch after admission to a topic with default settings.
    #[must_use]
    pub fn admitted(&self) -> AdmittedBatch {
        let admission = Admission {
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            max_message_bytes: u32::MAX,
            timestamp_type: TimestampType::CreateTime,
            now_ms: 0,
        };
        #[allow(clippy::expect_used)]
        admit(&self.bytes(), &admission).expect("a batch built for a test is a right one")
    }
}

fn varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
