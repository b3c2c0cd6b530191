//! Storage of StreamHouse: the ways of the bytes. A batch comes in through `writer` and goes out through
//! `reader`; both speak of objects (`object`) made of record batches (`batch`) in an object store
//! (`stores`). `upkeep` moves, frees and collects what they leave behind.
//!
//! Nothing here knows the Kafka protocol beyond the record batch.

pub mod batch;
pub mod object;
pub mod reader;
pub mod stores;
pub mod upkeep;
pub mod writer;
