//! Commits that wait no longer than they shall, and whose answers are whole.
//!
//! The crate's commit gives one code for all partitions, and waits for as long as librdkafka does. Here several are
//! under way at once, each answer holds what librdkafka says of each partition, and there is a limit.

use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka_sys as sys;

use super::events::{Event, EventQueue};
use super::lossy;
use crate::error::ErrorCode;

/// Librdkafka answers every commit, some time: without a limit this is how long one look for answers lasts.
const LOOK: Duration = Duration::from_secs(1);

/// What became of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitAnswer {
    /// Why it failed, or a part of it: the code of one partition, or of the whole.
    pub(crate) error: Option<ErrorCode>,
    /// The partitions that librdkafka calls failed. Where `error` is set, that is all of them, true or not: it gives
    /// that code to those that the broker accepted as well.
    pub(crate) failed: Vec<(String, i32, ErrorCode)>,
}

impl CommitAnswer {
    fn failed(error: ErrorCode) -> Self {
        Self {
            error: Some(error),
            failed: Vec::new(),
        }
    }
}

/// Commits each of the lists by itself, all at once; an answer for each, in their order. One that did not come in
/// time is an `OperationTimedOut`: that commit may still be done.
pub(crate) fn commit<C: ClientContext>(
    client: &Client<C>,
    lists: &[TopicPartitionList],
    until: Option<Instant>,
) -> Vec<CommitAnswer> {
    let Some(queue) = EventQueue::own(client) else {
        return vec![CommitAnswer::failed(ErrorCode::DESTROYED); lists.len()];
    };
    let unanswered = CommitAnswer::failed(Code::OperationTimedOut.into());
    let mut answers = vec![unanswered; lists.len()];
    let mut left = 0;
    for (number, list) in lists.iter().enumerate() {
        match queue.commit(client, list, number) {
            Ok(()) => left += 1,
            Err(code) => answers[number] = CommitAnswer::failed(code),
        }
    }
    while left > 0 {
        let patience = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
        match queue.poll(patience) {
            Some(event) => {
                if let Some((number, answer)) = event.commit_answer()
                    && let Some(place) = answers.get_mut(number)
                {
                    *place = answer;
                    left -= 1;
                }
            }
            None if until.is_some_and(|until| Instant::now() >= until) => break,
            None => {}
        }
    }
    answers
}

#[allow(unsafe_code)]
impl EventQueue<'_> {
    /// The answer comes to this queue, with this number.
    fn commit<C: ClientContext>(
        &self,
        client: &Client<C>,
        list: &TopicPartitionList,
        number: usize,
    ) -> Result<(), ErrorCode> {
        // SAFETY: client, queue and list are alive, and the list is copied. The opaque value is a number that is
        // never followed. The result is one of librdkafka's own codes, which the enum has.
        let begun = unsafe {
            sys::rd_kafka_commit_queue(
                client.native_ptr(),
                list.ptr(),
                self.queue.as_ptr(),
                None,
                ptr::without_provenance_mut(number),
            )
        };
        match begun {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(ErrorCode::new(code as i32)),
        }
    }
}

#[allow(unsafe_code)]
impl Event {
    /// The number of the commit that this is the answer to, and what it says.
    fn commit_answer(&self) -> Option<(usize, CommitAnswer)> {
        // SAFETY: the event is alive.
        let is_one =
            unsafe { sys::rd_kafka_event_type(self.0.as_ptr()) } == sys::RD_KAFKA_EVENT_OFFSET_COMMIT;
        if !is_one {
            return None;
        }
        // SAFETY: as above; the value is the number that was given, not an address.
        let number = unsafe { sys::rd_kafka_event_opaque(self.0.as_ptr()) }.addr();
        let code = self.code();
        let answer = CommitAnswer {
            error: (code.number() != 0).then_some(code),
            failed: self.failed_places(),
        };
        Some((number, answer))
    }

    fn failed_places(&self) -> Vec<(String, i32, ErrorCode)> {
        // SAFETY: the list belongs to the event and is copied; `elems` has `cnt` places, and the code of each is an
        // aligned C int, read as that because the enum may lack what a broker sends.
        unsafe {
            let list = sys::rd_kafka_event_topic_partition_list(self.0.as_ptr());
            if list.is_null() {
                return Vec::new();
            }
            let count = usize::try_from((*list).cnt).unwrap_or(0);
            (0..count)
                .map(|index| (*list).elems.add(index))
                .map(|place| (place, (&raw const (*place).err).cast::<i32>().read()))
                .filter(|(_, code)| *code != 0)
                .map(|(place, code)| (lossy((*place).topic), (*place).partition, ErrorCode::new(code)))
                .collect()
        }
    }
}
