//! A whole agent inside the test process, over memory, spoken to by the message crate as a client.
//!
//! Other people's clients are tried elsewhere, against the real process; here are protocol details that
//! no client shows.

#![allow(clippy::unwrap_used)] // a test that cannot go on ends here, with the place

mod administration;
mod compatibility;
mod markers;
mod support;
mod telemetry;

mod counted;
mod metrics;
mod metrics_reference;
mod observed;
mod ordering;
mod reading;
mod stuck;
mod unavailable;
mod versions;
mod waiting;
mod writing;
