//! The calls into librdkafka that the crate `rdkafka` does not offer, or not safely enough.
//!
//! Everything `unsafe` of this crate is in this room. What is asked here and nowhere else: a delivery report
//! as the batch that it is, with its latency and whether the record may be stored; a fetched record whose
//! headers may hold any bytes (the crate panics on a header name that is not UTF-8); errors with the topic
//! and partition they are about; commits with what was refused of them, and with a limit; the high watermark that the
//! last fetch saw. Codes are read as integers: a
//! broker may send one that no enum has.
//!
//! Not here: configuration, sending, other group calls and transactions. Those are the crate's.

mod commits;
mod events;
mod message;

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;

pub(crate) use commits::{CommitAnswer, commit};
pub(crate) use events::{Event, EventQueue, Kind};
pub(crate) use message::{Fetched, Persisted, Report};

/// Lets records leave at once, linger or not, and waits until none is left; the queue is served by its own
/// thread meanwhile. Whether none is left.
#[allow(unsafe_code)]
pub(crate) fn flush<C: ClientContext>(client: &Client<C>, limit: Duration) -> bool {
    // SAFETY: the client lives as long as it is borrowed. Delivery reports are events in this crate, so this
    // call only waits and serves nothing itself.
    let outcome = unsafe { sys::rd_kafka_flush(client.native_ptr(), millis(limit)) };
    outcome == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// The high watermark that the last fetch of this partition brought; nothing is asked of a broker.
#[allow(unsafe_code)]
pub(crate) fn high_watermark<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: i32,
) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (0, 0);
    // SAFETY: the client is alive, the name ends in a zero, both places are ours.
    let outcome = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (outcome == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// How long a call may take, as librdkafka wants it.
pub(crate) fn millis(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)
}

/// A C string that may hold anything.
///
/// # Safety
/// `text` is null or ends in a zero, and lives while it is read.
#[allow(unsafe_code)]
unsafe fn lossy(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
