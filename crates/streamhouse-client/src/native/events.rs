//! The queue on which librdkafka hands a client everything that happens to it.
//!
//! Each event is taken once and freed when it is dropped; what it holds is borrowed from it.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;

use super::message::{Fetched, Report};
use super::{lossy, millis};
use crate::error::ErrorCode;

#[allow(unsafe_code)]
unsafe extern "C" {
    /// The call as it is in C, where the result is an integer: the binding's enum lacks codes that a newer
    /// broker may send, and such a value must not become an enum.
    #[link_name = "rd_kafka_event_error"]
    fn error_number(event: *mut sys::rd_kafka_event_t) -> c_int;
}

/// One client's queue. It must not outlive its client, which it therefore borrows.
pub(crate) struct EventQueue<'c> {
    pub(super) queue: NonNull<sys::rd_kafka_queue_t>,
    client: PhantomData<&'c ()>,
}

#[allow(unsafe_code)]
// SAFETY: librdkafka's queues may be used from every thread.
unsafe impl Send for EventQueue<'_> {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for EventQueue<'_> {}

#[allow(unsafe_code)]
impl<'c> EventQueue<'c> {
    /// A producer's: delivery reports, log lines, errors.
    pub(crate) fn main<C: ClientContext>(client: &'c Client<C>) -> Option<Self> {
        // SAFETY: the client is alive; the reference this returns is given back when we are dropped.
        Self::new(unsafe { sys::rd_kafka_queue_get_main(client.native_ptr()) })
    }

    /// A consumer's: records as well, and rebalances.
    pub(crate) fn consumer<C: ClientContext>(client: &'c Client<C>) -> Option<Self> {
        // SAFETY: as above; null for a client without a group.
        Self::new(unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) })
    }

    /// One of our own, for answers that we ask to have there.
    pub(super) fn own<C: ClientContext>(client: &'c Client<C>) -> Option<Self> {
        // SAFETY: as above.
        Self::new(unsafe { sys::rd_kafka_queue_new(client.native_ptr()) })
    }

    fn new(queue: *mut sys::rd_kafka_queue_t) -> Option<Self> {
        Some(Self {
            queue: NonNull::new(queue)?,
            client: PhantomData,
        })
    }

    /// The next event; waits for one at most this long.
    pub(crate) fn poll(&self, limit: Duration) -> Option<Event> {
        // SAFETY: the queue is alive; the event is ours from here on.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis(limit)) };
        NonNull::new(event).map(Event)
    }

    /// Lets the thread that polls return.
    pub(crate) fn wake(&self) {
        // SAFETY: the queue is alive.
        unsafe { sys::rd_kafka_queue_yield(self.queue.as_ptr()) };
    }
}

#[allow(unsafe_code)]
impl Drop for EventQueue<'_> {
    fn drop(&mut self) {
        // SAFETY: the reference is ours and is given back once.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The fate of one batch: records of one partition that were sent together.
    Delivery,
    Fetch,
    Assigned,
    Revoked,
    Error,
    Log,
    Other,
}

/// A line of librdkafka's own log; levels are those of syslog.
pub(crate) struct LogLine {
    pub(crate) level: c_int,
    pub(crate) facility: String,
    pub(crate) text: String,
}

pub(crate) struct Event(pub(super) NonNull<sys::rd_kafka_event_t>);

#[allow(unsafe_code)]
impl Event {
    pub(crate) fn kind(&self) -> Kind {
        // SAFETY: the event is alive.
        match unsafe { sys::rd_kafka_event_type(self.0.as_ptr()) } {
            sys::RD_KAFKA_EVENT_DR => Kind::Delivery,
            sys::RD_KAFKA_EVENT_FETCH => Kind::Fetch,
            sys::RD_KAFKA_EVENT_REBALANCE => match self.code().number() {
                ErrorCode::ASSIGN_PARTITIONS => Kind::Assigned,
                // An error while rebalancing takes everything away.
                _ => Kind::Revoked,
            },
            sys::RD_KAFKA_EVENT_ERROR => Kind::Error,
            sys::RD_KAFKA_EVENT_LOG => Kind::Log,
            _ => Kind::Other,
        }
    }

    /// Hands each report of a delivery event to `take`; how many there were.
    pub(crate) fn reports(&self, mut take: impl FnMut(Report<'_>)) {
        loop {
            // SAFETY: the event is alive; each message comes once and belongs to the event.
            let message = unsafe { sys::rd_kafka_event_message_next(self.0.as_ptr()) };
            let Some(message) = NonNull::new(message.cast_mut()) else {
                return;
            };
            // SAFETY: a report does not outlive this call, and so not the event.
            take(unsafe { Report::new(message) });
        }
    }

    /// The record of a fetch event, or the error that takes its place.
    pub(crate) fn fetched(&self) -> Option<Fetched<'_>> {
        // SAFETY: the event is alive, and the message belongs to it.
        let message = unsafe { sys::rd_kafka_event_message_next(self.0.as_ptr()) };
        // SAFETY: what is returned borrows the event.
        NonNull::new(message.cast_mut()).map(|message| unsafe { Fetched::new(message) })
    }

    /// The error code of an error or a rebalance.
    pub(crate) fn code(&self) -> ErrorCode {
        // SAFETY: the event is alive.
        ErrorCode::new(unsafe { error_number(self.0.as_ptr()) })
    }

    /// The text of an error.
    pub(crate) fn text(&self) -> String {
        // SAFETY: the event is alive while its text is copied.
        unsafe { lossy(sys::rd_kafka_event_error_string(self.0.as_ptr())) }
    }

    /// Whether the client cannot go on after this error.
    pub(crate) fn is_fatal(&self) -> bool {
        // SAFETY: the event is alive.
        unsafe { sys::rd_kafka_event_error_is_fatal(self.0.as_ptr()) != 0 }
    }

    /// Which partition an error is about, if any; a whole topic has no number.
    pub(crate) fn place(&self) -> Option<(String, Option<i32>)> {
        // SAFETY: the event is alive; the place is ours, is copied, and is given back once.
        unsafe {
            let place = NonNull::new(sys::rd_kafka_event_topic_partition(self.0.as_ptr()))?;
            let topic = lossy(place.as_ref().topic);
            let partition = place.as_ref().partition;
            sys::rd_kafka_topic_partition_destroy(place.as_ptr());
            Some((topic, (partition >= 0).then_some(partition)))
        }
    }

    /// The partitions of a rebalance.
    pub(crate) fn partitions(&self) -> Vec<(String, i32)> {
        // SAFETY: the list belongs to the event and is copied; `elems` has `cnt` places.
        unsafe {
            let list = sys::rd_kafka_event_topic_partition_list(self.0.as_ptr());
            if list.is_null() {
                return Vec::new();
            }
            let count = usize::try_from((*list).cnt).unwrap_or(0);
            (0..count)
                .map(|index| (*list).elems.add(index))
                .map(|place| (lossy((*place).topic), (*place).partition))
                .collect()
        }
    }

    pub(crate) fn log_line(&self) -> LogLine {
        let (mut facility, mut text) = (ptr::null(), ptr::null());
        let mut level = 0;
        // SAFETY: the event is alive while its strings are copied; the three places are ours.
        unsafe {
            sys::rd_kafka_event_log(self.0.as_ptr(), &raw mut facility, &raw mut text, &raw mut level);
            LogLine {
                level,
                facility: lossy(facility),
                text: lossy(text),
            }
        }
    }
}

#[allow(unsafe_code)]
impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and is freed once.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}
