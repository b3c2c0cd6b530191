//! One message as librdkafka shows it: the report on a record that was sent, or a record that came.

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use bytes::Bytes;
use rdkafka_sys as sys;

use crate::error::ErrorCode;
use crate::producer::Pending;
use crate::record::Header;

type Raw = NonNull<sys::rd_kafka_message_t>;

/// Whether a record is stored, as far as the client can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persisted {
    No,
    /// It was sent, and no answer says what became of it.
    Maybe,
    Yes,
}

/// The report on one record.
pub(crate) struct Report<'e> {
    raw: Raw,
    event: PhantomData<&'e ()>,
}

#[allow(unsafe_code)]
impl Report<'_> {
    /// # Safety
    /// The message is that of a delivery report, and lives for this value's lifetime.
    pub(super) unsafe fn new(raw: Raw) -> Self {
        Self {
            raw,
            event: PhantomData,
        }
    }

    /// The same from a message that the crate `rdkafka` shows; it has taken who waits.
    pub(crate) fn borrowed<'m>(message: &'m rdkafka::message::BorrowedMessage<'_>) -> Option<Report<'m>> {
        Some(Report {
            raw: NonNull::new(message.ptr())?,
            event: PhantomData,
        })
    }

    /// Who waits for this report; taken once.
    pub(crate) fn take_pending(&mut self) -> Option<Box<Pending>> {
        // SAFETY: the message is alive and nobody else looks at it. Every record of this crate is sent with a
        // box of this type, which comes back in its one report; taken, its place is left null.
        unsafe {
            let opaque = std::mem::replace(&mut self.raw.as_mut()._private, ptr::null_mut());
            (!opaque.is_null()).then(|| Box::from_raw(opaque.cast::<Pending>()))
        }
    }

    pub(crate) fn error(&self) -> Option<ErrorCode> {
        error(self.raw)
    }

    /// `None` when the record was refused before a partition was chosen.
    pub(crate) fn partition(&self) -> Option<i32> {
        // SAFETY: the message is alive.
        let partition = unsafe { self.raw.as_ref().partition };
        (partition >= 0).then_some(partition)
    }

    /// `None` where the broker answered without one (acks 0; a retry that was a duplicate).
    pub(crate) fn offset(&self) -> Option<i64> {
        // SAFETY: the message is alive.
        let offset = unsafe { self.raw.as_ref().offset };
        (offset >= 0).then_some(offset)
    }

    pub(crate) fn timestamp_ms(&self) -> Option<i64> {
        timestamp_ms(self.raw)
    }

    /// Key and value.
    pub(crate) fn bytes(&self) -> u64 {
        // SAFETY: the message is alive.
        let message = unsafe { self.raw.as_ref() };
        (message.key_len + message.len) as u64
    }

    /// From the call that sent the record to this report, by librdkafka's clock, in microseconds.
    pub(crate) fn latency(&self) -> Option<Duration> {
        // SAFETY: the message is alive.
        let micros = unsafe { sys::rd_kafka_message_latency(self.raw.as_ptr()) };
        u64::try_from(micros).ok().map(Duration::from_micros)
    }

    pub(crate) fn persisted(&self) -> Persisted {
        // SAFETY: the message is alive.
        match unsafe { sys::rd_kafka_message_status(self.raw.as_ptr()) } {
            sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persisted::No,
            sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persisted::Maybe,
            sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persisted::Yes,
        }
    }
}

/// What a fetch brought for one partition.
pub(crate) struct Fetched<'e> {
    raw: Raw,
    event: PhantomData<&'e ()>,
}

#[allow(unsafe_code)]
impl Fetched<'_> {
    /// # Safety
    /// The message is that of a fetch, and lives for this value's lifetime.
    pub(super) unsafe fn new(raw: Raw) -> Self {
        Self {
            raw,
            event: PhantomData,
        }
    }

    /// Set where this is no record but the reason why there is none.
    pub(crate) fn error(&self) -> Option<ErrorCode> {
        error(self.raw)
    }

    pub(crate) fn topic(&self) -> &str {
        topic(&self.raw)
    }

    pub(crate) fn partition(&self) -> i32 {
        // SAFETY: the message is alive.
        unsafe { self.raw.as_ref().partition }
    }

    pub(crate) fn offset(&self) -> i64 {
        // SAFETY: the message is alive.
        unsafe { self.raw.as_ref().offset }
    }

    pub(crate) fn timestamp_ms(&self) -> Option<i64> {
        timestamp_ms(self.raw)
    }

    pub(crate) fn key(&self) -> Option<Bytes> {
        // SAFETY: the message is alive, and its key has that many bytes.
        unsafe { copied(self.raw.as_ref().key, self.raw.as_ref().key_len) }
    }

    pub(crate) fn value(&self) -> Option<Bytes> {
        // SAFETY: the message is alive, and its value has that many bytes.
        unsafe { copied(self.raw.as_ref().payload, self.raw.as_ref().len) }
    }

    /// Bytes of key and value.
    pub(crate) fn size_bytes(&self) -> usize {
        // SAFETY: the message is alive.
        let message = unsafe { self.raw.as_ref() };
        message.key_len + message.len
    }

    /// Copies of the headers, in order. Names are what the sender made them: bytes that are not UTF-8 are
    /// replaced.
    pub(crate) fn headers(&self) -> Vec<Header> {
        let mut list = ptr::null_mut();
        // SAFETY: the message is alive, and so is the list that belongs to it while it is walked; name and
        // value are copied. The walk ends where librdkafka says that there is no such header.
        unsafe {
            let found = sys::rd_kafka_message_headers(self.raw.as_ptr(), &raw mut list);
            if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || list.is_null() {
                return Vec::new();
            }
            let count = sys::rd_kafka_header_cnt(list);
            let mut headers = Vec::with_capacity(count.min(64));
            for index in 0..count {
                let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
                let found =
                    sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut len);
                if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    break;
                }
                headers.push(Header {
                    name: super::lossy(name),
                    value: copied(value, len),
                });
            }
            headers
        }
    }
}

/// The code as the integer it is in C: the binding's enum may lack what a broker sends.
#[allow(unsafe_code)]
fn error(raw: Raw) -> Option<ErrorCode> {
    // SAFETY: the message is alive, and the field is an aligned C int.
    let code = unsafe { (&raw const (*raw.as_ptr()).err).cast::<i32>().read() };
    (code != 0).then(|| ErrorCode::new(code))
}

#[allow(unsafe_code)]
fn topic(raw: &Raw) -> &str {
    // SAFETY: the message is alive, it holds its topic, and the topic its name.
    let name = unsafe {
        let topic = raw.as_ref().rkt;
        if topic.is_null() {
            return "";
        }
        CStr::from_ptr(sys::rd_kafka_topic_name(topic))
    };
    // Kafka allows letters, digits, `.`, `_` and `-`; what else a broker says is nobody's topic.
    name.to_str().unwrap_or_default()
}

#[allow(unsafe_code)]
fn timestamp_ms(raw: Raw) -> Option<i64> {
    let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is alive, and the place is ours.
    let timestamp = unsafe { sys::rd_kafka_message_timestamp(raw.as_ptr(), &raw mut kind) };
    (timestamp >= 0).then_some(timestamp)
}

/// # Safety
/// `data` is null, or `len` bytes can be read there.
#[allow(unsafe_code)]
unsafe fn copied(data: *const c_void, len: usize) -> Option<Bytes> {
    if data.is_null() {
        return None;
    }
    // SAFETY: as the caller says.
    Some(Bytes::copy_from_slice(unsafe {
        slice::from_raw_parts(data.cast::<u8>(), len)
    }))
}
