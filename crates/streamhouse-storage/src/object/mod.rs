//! Objects: segments back to back, a footer that indexes them, a fixed trailer with magic and version.
//! An object can be read and checked without the metadata (DESIGN §4).

mod build;
mod counters;
mod format;
mod markers;
mod open;
#[cfg(test)]
mod tests;

pub use build::{BuiltObject, Part, build};
pub use counters::Counters;
pub use format::{
    ENTRY_BYTES, FormatError, IndexEntry, TRAILER_BYTES, VERSION, key_of, parse_key, prefix_of,
};
pub use markers::encode_markers;
pub use open::{open_index, verify_segment};
