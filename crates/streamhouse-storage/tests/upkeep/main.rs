//! Upkeep between two real stores: the embedded metadata store and an object store that misbehaves on
//! plan. Each test walks one way to lose acknowledged data, and finds it closed.

// clippy.toml allows it in test functions; here the functions beside them are tests as well.
#![allow(clippy::unwrap_used)]

mod compaction;
mod house;
mod orphans;
mod retention;
mod scheduler;
mod verification;
