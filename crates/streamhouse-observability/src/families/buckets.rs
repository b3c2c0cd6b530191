//! Every histogram's bounds. The user's are fixed; ours reach lower and further, and hold the limits
//! that the SLOs ask about (25 ms, 0.25 s, 1 s) as bounds, so that those ratios are exact. What the client
//! crate measures under the same names has the same bounds, and takes them from here.

use crate::registry::{Buckets, Unit};

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// `producer_latency_seconds`: the user's.
pub static PRODUCER_LATENCY: Buckets = Buckets {
    unit: Unit::Seconds,
    bounds: &[
        MS,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
    ],
};

/// `producer_batch_size`: the user's, in records.
pub static PRODUCER_BATCH_SIZE: Buckets = Buckets {
    unit: Unit::Value,
    bounds: &[1, 10, 50, 100, 500, 1_000, 5_000, 10_000],
};

/// `s3_latency_seconds`: the user's.
pub(super) static S3_LATENCY: Buckets = Buckets {
    unit: Unit::Seconds,
    bounds: &[
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
        10 * S,
    ],
};

/// Ours, from 50 µs: attempts, stages, reads, metadata operations, requests.
pub(super) static FINE: Buckets = Buckets {
    unit: Unit::Seconds,
    bounds: &[
        50 * US,
        100 * US,
        250 * US,
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
        10 * S,
        30 * S,
    ],
};

/// `runtime_stall_seconds`: below a millisecond is the timer's own grain.
pub(super) static STALL: Buckets = Buckets {
    unit: Unit::Seconds,
    bounds: &[
        MS,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        5 * S,
        10 * S,
    ],
};

/// `flush_object_bytes`.
pub(super) static OBJECT_BYTES: Buckets = Buckets {
    unit: Unit::Value,
    bounds: &[
        KIB,
        4 * KIB,
        16 * KIB,
        64 * KIB,
        256 * KIB,
        MIB,
        2 * MIB,
        4 * MIB,
        8 * MIB,
        16 * MIB,
        32 * MIB,
        64 * MIB,
    ],
};
