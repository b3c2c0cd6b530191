//! What only the SQLite store promises: its lock, its bounds, its schema, and that a crash at any moment
//! loses nothing that was answered.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod crashes;
mod files;
mod opening;
mod running;
