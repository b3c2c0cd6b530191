//! Kafka's v2 record batch, the unit everywhere: its 61-byte header, what is checked when one comes in,
//! the markers that end transactions, and the search for a record inside one. The records themselves stay opaque (DESIGN §2.3).

mod admission;
#[cfg(test)]
mod codec_tests;
mod control;
mod header;
mod records;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use admission::{Admission, AdmittedBatch, BatchError, admit};
pub use control::marker;
pub use header::{BatchHeader, Codec, HEADER_BYTES, HeaderError, PATCHED_BYTES, patched_prefix};
pub use records::{FoundRecord, RecordsError, decompressed, find_max_timestamp, find_timestamp};
