//! Frames that other encoders may write than those of the usual clients: records are found in all of them.

use std::io::{Read, Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::testing::TestBatch;
use super::{Codec, HEADER_BYTES, RecordsError, decompressed, find_timestamp, header};

/// Enough for several blocks of every codec, and alike enough that blocks refer to earlier ones.
const RECORDS: usize = 20_000;
const FIRST_TIMESTAMP: i64 = 1_000;

/// The records of a batch, uncompressed, and the batch with what `frame` makes of them.
fn with_frame(codec: i16, frame: impl Fn(&[u8]) -> Vec<u8>) -> (Bytes, Bytes) {
    let plain = TestBatch {
        attributes: codec,
        ..TestBatch::of(RECORDS, "a value that says little")
    };
    let plain = plain.bytes();
    let records = plain.slice(HEADER_BYTES..);
    let mut batch = plain[..HEADER_BYTES].to_vec();
    batch.extend_from_slice(&frame(&records));
    let length = batch.len() as i32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = header::crc_of(&batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    (records, Bytes::from(batch))
}

#[track_caller]
fn check(codec: Codec, frame: impl Fn(&[u8]) -> Vec<u8>) {
    let attributes = match codec {
        Codec::None => 0,
        Codec::Gzip => 1,
        Codec::Snappy => 2,
        Codec::Lz4 => 3,
        Codec::Zstd => 4,
    };
    let (records, batch) = with_frame(attributes, frame);
    assert!(batch.len() < records.len() / 2, "compressed");
    let mut back = Vec::new();
    let mut stream = decompressed(codec, &batch[HEADER_BYTES..], 1 << 30).unwrap();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == records, "what went in comes out");
    for delta in [0, 1, RECORDS / 2, RECORDS - 1] {
        let found = find_timestamp(&batch, FIRST_TIMESTAMP + delta as i64, 0).unwrap();
        assert_eq!(found.map(|found| found.offset_delta), Some(delta as i32));
    }
    let after = find_timestamp(&batch, FIRST_TIMESTAMP + RECORDS as i64, 0).unwrap();
    assert_eq!(after, None);
    // Cut short, it is an error and not the end of the batch.
    let cut = &batch[..batch.len() - batch.len() / 3];
    let lost = find_timestamp(cut, FIRST_TIMESTAMP + RECORDS as i64, 0);
    assert!(matches!(lost, Err(RecordsError::Malformed { .. })), "{lost:?}");
}

fn lz4(info: FrameInfo) -> impl Fn(&[u8]) -> Vec<u8> {
    move |records| {
        let mut encoder = FrameEncoder::with_frame_info(info.clone(), Vec::new());
        encoder.write_all(records).unwrap();
        encoder.finish().unwrap()
    }
}

#[test]
fn lz4_frames_whose_blocks_depend_on_earlier_ones_are_read() {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB);
    let linked = info.clone().block_mode(BlockMode::Linked);
    // The linked frame is no independent one in disguise: references across blocks make it smaller.
    let (records, batch) = with_frame(3, lz4(linked.clone()));
    let independent = lz4(info.block_mode(BlockMode::Independent))(&records);
    assert!(batch.len() - HEADER_BYTES < independent.len());
    check(Codec::Lz4, lz4(linked));
}

#[test]
fn lz4_frames_with_checksums_and_content_sizes_are_read() {
    let (records, _) = with_frame(3, <[u8]>::to_vec);
    for block_size in [BlockSize::Max64KB, BlockSize::Max4MB] {
        let info = FrameInfo::new()
            .block_size(block_size)
            .block_checksums(true)
            .content_checksum(true)
            .content_size(Some(records.len() as u64));
        check(Codec::Lz4, lz4(info));
    }
}

#[test]
fn gzip_of_several_members_is_read_to_the_end() {
    check(Codec::Gzip, |records| {
        let mut out = Vec::new();
        // Records lie across the members.
        for part in records.chunks(records.len() / 3 + 1) {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(part).unwrap();
            out.extend(encoder.finish().unwrap());
        }
        out
    });
}

#[test]
fn zstd_with_and_without_a_content_size_and_in_several_frames_is_read() {
    let unsized_frame = |records: &[u8]| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(records).unwrap();
        encoder.finish().unwrap()
    };
    let (records, _) = with_frame(4, <[u8]>::to_vec);
    let size = |frame: &[u8]| zstd::zstd_safe::get_frame_content_size(frame).unwrap();
    assert_eq!(size(&unsized_frame(&records)), None);
    check(Codec::Zstd, unsized_frame);
    let sized = |records: &[u8]| zstd::bulk::compress(records, 3).unwrap();
    assert_eq!(size(&sized(&records)), Some(records.len() as u64));
    check(Codec::Zstd, sized);
    check(Codec::Zstd, |records| {
        records
            .chunks(records.len() / 3 + 1)
            .flat_map(unsized_frame)
            .collect()
    });
}

fn xerial(records: &[u8], block_bytes: usize) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    for block in records.chunks(block_bytes) {
        let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

#[test]
fn snappy_is_read_as_one_bare_block_and_as_blocks_of_any_size() {
    check(Codec::Snappy, |records| {
        snap::raw::Encoder::new().compress_vec(records).unwrap()
    });
    // Blocks of Java's and of Go's client; others choose their own.
    for block_bytes in [32 << 10, 64 << 10, 4_097] {
        check(Codec::Snappy, |records| xerial(records, block_bytes));
    }
}

#[test]
fn a_stream_ends_where_its_reader_said_it_must() {
    let zeros = vec![0; 8 << 20];
    let frames: [(Codec, Vec<u8>); 4] = [
        (Codec::Gzip, {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&zeros).unwrap();
            encoder.finish().unwrap()
        }),
        (Codec::Lz4, lz4(FrameInfo::new())(&zeros)),
        (Codec::Zstd, zstd::bulk::compress(&zeros, 3).unwrap()),
        (Codec::Snappy, xerial(&zeros, 64 << 10)),
    ];
    for (codec, frame) in frames {
        let mut stream = decompressed(codec, &frame, 1 << 20).unwrap();
        assert_eq!(
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap(),
            1 << 20,
            "{codec:?}"
        );
    }
}
