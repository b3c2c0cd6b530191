//! Batches written by an independent encoder are admitted and searched; what lies is refused.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType as Stamp,
};
use proptest::prelude::{any, proptest};
use streamhouse_metadata::model::topic::TimestampType;

use super::testing::TestBatch;
use super::{
    Admission, BatchError, BatchHeader, Codec, HEADER_BYTES, HeaderError, RecordsError, admit,
    find_max_timestamp, find_timestamp, header, patched_prefix,
};

const ADMISSION: Admission = Admission {
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: i64::MAX,
    max_message_bytes: 1 << 20,
    timestamp_type: TimestampType::CreateTime,
    now_ms: 77_000,
};

fn encoded(timestamps: &[i64], compression: Compression) -> Bytes {
    let records: Vec<_> = timestamps
        .iter()
        .enumerate()
        .map(|(index, timestamp)| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: 9,
            producer_epoch: 1,
            timestamp_type: Stamp::Creation,
            offset: index as i64,
            sequence: 5 + index as i32,
            timestamp: *timestamp,
            key: (index % 2 == 0).then(|| Bytes::from_static(b"key")),
            value: Some(Bytes::from(vec![b'v'; 100])),
            headers: IndexMap::from_iter([("trace".into(), Some(Bytes::from_static(b"1")))]),
        })
        .collect();
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(
        &mut out,
        &records,
        &RecordEncodeOptions {
            version: 2,
            compression,
        },
    )
    .unwrap();
    out.freeze()
}

const CODECS: [(Compression, Codec); 5] = [
    (Compression::None, Codec::None),
    (Compression::Gzip, Codec::Gzip),
    (Compression::Snappy, Codec::Snappy),
    (Compression::Lz4, Codec::Lz4),
    (Compression::Zstd, Codec::Zstd),
];

#[test]
fn every_codec_is_admitted_untouched_and_searched_to_the_exact_record() {
    for (compression, codec) in CODECS {
        let batch = encoded(&[10, 40, 20, 40, 50], compression);
        let admitted = admit(&batch, &ADMISSION).unwrap();
        assert_eq!(admitted.bytes, batch);
        assert_eq!(admitted.header.codec(), Some(codec));
        assert_eq!(admitted.producer().unwrap().base_sequence, 5);
        let found = |timestamp| {
            find_timestamp(&batch, timestamp, 0)
                .unwrap()
                .map(|found| (found.offset_delta, found.timestamp))
        };
        assert_eq!(found(0), Some((0, 10)));
        assert_eq!(found(11), Some((1, 40)));
        assert_eq!(found(41), Some((4, 50)));
        assert_eq!(found(51), None);
        // Below the log's start nothing is found.
        let behind = find_timestamp(&batch, 21, 2).unwrap();
        assert_eq!(behind.map(|found| found.offset_delta), Some(3));
    }
}

#[test]
fn the_first_record_with_the_largest_timestamp_is_found() {
    let batch = encoded(&[10, 40, 20, 40], Compression::Zstd);
    let header = BatchHeader::parse(&batch).unwrap();
    let found = find_max_timestamp(&batch, &header, 0).unwrap().unwrap();
    assert_eq!((found.offset_delta, found.timestamp), (1, 40));
}

#[test]
fn trace_14_log_append_time_is_set_with_a_right_crc() {
    let admission = Admission {
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        timestamp_type: TimestampType::LogAppendTime,
        ..ADMISSION
    };
    let admitted = admit(&encoded(&[10, 20], Compression::Gzip), &admission).unwrap();
    assert_eq!(admitted.log_append_time, Some(77_000));
    assert_eq!(admitted.header.max_timestamp, 77_000);
    let mut stored = admitted.bytes.clone();
    let decoded = RecordBatchDecoder::decode(&mut stored).unwrap(); // checks the CRC
    assert_eq!(decoded.records.len(), 2);
    assert!(admit(&admitted.bytes, &admission).is_ok());
    let found = find_timestamp(&admitted.bytes, 77_000, 0).unwrap().unwrap();
    assert_eq!((found.offset_delta, found.timestamp), (0, 77_000));
}

#[test]
fn a_client_cannot_claim_log_append_time() {
    let batch = TestBatch {
        attributes: 1 << 3,
        ..TestBatch::of(2, "a")
    };
    let admitted = admit(&batch.bytes(), &ADMISSION).unwrap();
    assert!(!BatchHeader::parse(&admitted.bytes).unwrap().is_log_append_time());
}

fn refused(change: impl FnOnce(&mut Vec<u8>)) -> BatchError {
    let mut bytes = TestBatch::of(3, "a").by(1, 0, 0).bytes().to_vec();
    change(&mut bytes);
    let crc = header::crc_of(&bytes);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    admit(&Bytes::from(bytes), &ADMISSION).unwrap_err()
}

#[test]
fn trace_13_what_lies_is_refused_by_name() {
    assert_eq!(refused(|b| b[16] = 1), BatchError::Header(HeaderError::Magic(1)));
    assert_eq!(refused(|b| b[22] |= 1 << 5), BatchError::Control);
    let unnamed = |b: &mut Vec<u8>| {
        b[22] |= 1 << 4;
        b[43..57].fill(0xff);
    };
    let nobody = BatchError::Producer {
        id: -1,
        epoch: -1,
        sequence: -1,
    };
    assert_eq!(refused(unnamed), nobody, "a transaction of nobody");
    assert_eq!(refused(|b| b[22] |= 7), BatchError::Codec(7));
    assert_eq!(
        refused(|b| b[60] = 4),
        BatchError::Count {
            count: 4,
            last_offset_delta: 2
        }
    );
    assert_eq!(
        refused(|b| {
            b[60] = 4;
            b[26] = 3;
        }),
        BatchError::Records(RecordsError::Malformed { index: 3, count: 4 })
    );
    assert_eq!(
        refused(|b| {
            b[60] = 2;
            b[26] = 1;
        }),
        BatchError::Records(RecordsError::Trailing { count: 2 })
    );
    assert_eq!(
        refused(|b| b[53..57].copy_from_slice(&(-1i32).to_be_bytes())),
        BatchError::Producer {
            id: 1,
            epoch: 0,
            sequence: -1
        }
    );
    assert!(matches!(refused(|b| b.push(0)), BatchError::Several));
    assert_eq!(admit(&Bytes::new(), &ADMISSION).unwrap_err(), BatchError::Missing);
}

#[test]
fn a_wrong_crc_and_a_large_batch_are_refused() {
    let mut bytes = TestBatch::of(3, "a").bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(matches!(
        admit(&Bytes::from(bytes), &ADMISSION),
        Err(BatchError::Crc { .. })
    ));
    let bytes = TestBatch::of(3, "a").bytes();
    let small = Admission {
        max_message_bytes: bytes.len() as u32 - 1,
        ..ADMISSION
    };
    assert!(matches!(admit(&bytes, &small), Err(BatchError::TooLarge { .. })));
    assert!(
        admit(
            &bytes,
            &Admission {
                max_message_bytes: bytes.len() as u32,
                ..ADMISSION
            }
        )
        .is_ok()
    );
}

#[test]
fn a_patched_batch_carries_its_offset_and_still_its_crc() {
    let batch = encoded(&[10, 20], Compression::Lz4);
    let mut read = BytesMut::from(&patched_prefix(4_711, batch.len(), 3)[..]);
    read.extend_from_slice(&batch[16..]);
    let decoded = RecordBatchDecoder::decode(&mut read.freeze()).unwrap();
    assert_eq!(
        decoded
            .records
            .iter()
            .map(|record| record.offset)
            .collect::<Vec<_>>(),
        [4_711, 4_712]
    );
    assert_eq!(decoded.records[0].partition_leader_epoch, 3);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        attributes in any::<u8>(),
        count in any::<u32>(),
    ) {
        let _ = admit(&Bytes::from(bytes.clone()), &ADMISSION);
        // The same behind a header that gets past the first checks.
        let mut batch = vec![0; HEADER_BYTES];
        batch.extend_from_slice(&bytes);
        let length = batch.len() as i32 - 12;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        batch[22] = attributes & 0b1111;
        batch[23..27].copy_from_slice(&(count.wrapping_sub(1)).to_be_bytes());
        batch[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = header::crc_of(&batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let _ = admit(&Bytes::from(batch.clone()), &ADMISSION);
        let _ = find_timestamp(&batch, 1, 0);
    }
}

#[test]
fn timestamps_too_far_from_the_clock_are_refused_unless_the_clock_is_ours() {
    let batch = encoded(&[1_000, 5_000, 3_000], Compression::None);
    let at = |now_ms, before, after, timestamp_type| {
        let admission = Admission {
            now_ms,
            timestamp_before_max_ms: before,
            timestamp_after_max_ms: after,
            timestamp_type,
            ..ADMISSION
        };
        admit(&batch, &admission).map(|_| ())
    };
    let theirs = TimestampType::CreateTime;
    assert_eq!(at(4_000, i64::MAX, 1_000, theirs), Ok(()));
    let ahead = BatchError::Timestamp {
        timestamp: 5_000,
        now: 4_000,
    };
    assert_eq!(at(4_000, i64::MAX, 999, theirs), Err(ahead));
    let behind = BatchError::Timestamp {
        timestamp: 1_000,
        now: 4_000,
    };
    assert_eq!(at(4_000, 3_000, 1_000, theirs), Ok(()));
    assert_eq!(at(4_000, 2_999, 1_000, theirs), Err(behind));
    assert_eq!(at(4_000, 0, 0, TimestampType::LogAppendTime), Ok(()));
}
