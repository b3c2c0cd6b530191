//! Object stores: opening the one a URL names, and the wrappers every call goes through.
//!
//! From the inside out: the store itself (S3, our local directory, memory), counting per attempt
//! ([`metered`]; S3 counts on the wire), then [`retrying`] with deadlines. All of them speak
//! `object_store::ObjectStore`; `object_store`'s own retries are off, so that an attempt is an attempt.
//! [`faulty`] stands between the store and the retries in tests. `reuse` is the memory that large reads go to.
//!
//! Not here: what the objects hold, and when they are deleted.

mod attempt;
pub mod fault;
pub mod faulty;
pub mod identity;
pub mod local;
pub mod metered;
mod open;
mod probe;
pub mod retrying;
mod reuse;
pub mod s3;
mod url;

pub use open::{OpenError, OpenedStore, StoreOptions, open};
pub use probe::{CheckError, check};
pub use url::{StoreUrl, StoreUrlError, without_credentials};
