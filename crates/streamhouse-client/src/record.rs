//! Records: the one that a program sends, and the one that a consumer received.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::consumer::Slot;
use crate::trace::{self, TraceContext};

/// A named value beside a record's key and value; names may come more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    /// `None` is Kafka's null, which is not the empty value.
    pub value: Option<Bytes>,
}

/// A record to be sent.
///
/// ```
/// use streamhouse_client::Record;
///
/// let record = Record::to("orders").key("customer-7").value("2 apples").header("source", "shop");
/// assert_eq!(record.topic(), "orders");
/// ```
#[derive(Clone, Debug)]
pub struct Record {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) trace: Option<TraceContext>,
}

impl Record {
    /// A record without key and value: both are null. An `Arc<str>` that the program keeps costs no copy.
    #[must_use]
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
            trace: None,
        }
    }

    /// Records with one key go to one partition, the same that Java's producer chooses.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds a header. One more of the same name stands beside the first.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header {
            name: name.into(),
            value: Some(value.into()),
        });
        self
    }

    /// Adds headers as they came, nulls included: what a program passes on.
    #[must_use]
    pub fn headers(mut self, headers: impl IntoIterator<Item = Header>) -> Self {
        self.headers.extend(headers);
        self
    }

    /// A partition instead of the one that the key, or chance without a key, chooses.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Milliseconds since 1970, instead of the time of the send.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The trace that this record belongs to, instead of what the producer's hook says.
    #[must_use]
    pub fn trace(mut self, context: TraceContext) -> Self {
        self.trace = Some(context);
        self
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What `record_bytes_max` bounds.
    pub(crate) fn value_and_key_bytes(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        len(&self.key) + len(&self.value)
    }

    /// What the record takes in the producer's queue: what it brings, and a bound on what keeping it costs.
    pub(crate) fn queued_bytes(&self) -> usize {
        const KEEPING_BYTES: usize = 256;
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.name.len() + len(&header.value) + 32)
            .sum();
        KEEPING_BYTES + len(&self.key) + len(&self.value) + headers
    }
}

/// A record that a consumer received.
#[derive(Clone)]
pub struct Received {
    pub(crate) slot: Arc<Slot>,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
}

impl Received {
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.slot.topic
    }

    #[must_use]
    pub fn partition(&self) -> i32 {
        self.slot.partition
    }

    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970; when the producer sent it or the broker stored it, as the topic is configured.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    #[must_use]
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The value of the last header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        let header = self.headers.iter().rev().find(|header| header.name == name)?;
        header.value.as_ref()
    }

    /// The trace that the sender put into the headers; `None` where there is none, or none that holds.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        trace::from_headers(&self.headers)
    }
}

impl fmt::Debug for Received {
    /// Where it stands, and how large it is; never what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("topic", &self.slot.topic)
            .field("partition", &self.slot.partition)
            .field("offset", &self.offset)
            .field("value_bytes", &self.value.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}
