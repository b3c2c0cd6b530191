//! A push as bytes: decompressed within bounds.

use std::io::Read;

use streamhouse_storage::batch::{Codec, decompressed};

use super::{PUSH_BYTES_MAX, Push, TelemetryFault};

pub(super) fn decompress(push: Push<'_>) -> Result<Vec<u8>, TelemetryFault> {
    let codec = match push.compression {
        0 => Codec::None,
        1 => Codec::Gzip,
        2 => Codec::Snappy,
        3 => Codec::Lz4,
        4 => Codec::Zstd,
        other => return Err(TelemetryFault::Compression(other)),
    };
    // One byte more than may be tells a payload that ends from one that was cut.
    let limit = u64::from(PUSH_BYTES_MAX) + 1;
    let mut payload = Vec::new();
    let stream = decompressed(codec, push.payload, limit);
    let mut stream = stream.map_err(|_| TelemetryFault::Malformed)?;
    stream
        .read_to_end(&mut payload)
        .map_err(|_| TelemetryFault::Malformed)?;
    if payload.len() as u64 == limit {
        return Err(TelemetryFault::TooLarge);
    }
    Ok(payload)
}
