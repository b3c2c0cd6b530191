//! Metadata of StreamHouse: what is stored, the rules by which it changes, and the stores that hold it.
//!
//! `model` is plain data, `rules` decide, `store` says what agents may ask; `sqlite` loads, locks and
//! stores, `metered` measures any of them. `conformance` is what every store has to pass, `testing` holds
//! a clock and a faulty store for tests of this and other crates. Nothing here knows the Kafka protocol
//! or the object store.

pub mod clock;
pub mod conformance;
pub mod ids;
pub mod metered;
pub mod model;
pub mod rules;
pub mod sqlite;
pub mod store;
pub mod testing;
