//! The thread that takes delivery reports: it answers whoever waits, gives room back, and counts.
//!
//! librdkafka hands over one event for each batch: the records of one partition that were sent together and
//! have one fate. So a batch is counted as what it was, once, and not record by record.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};
use streamhouse_observability::registry::claim_lane;

use super::delivery::{Delivered, Pending, SendError};
use crate::error::ErrorCode;
use crate::log;
use crate::metrics::{ProducerErrorType, Topics};
use crate::native::{Event, EventQueue, Kind, Persisted, Report};

/// A thread that nobody wakes looks after this time whether it shall stop.
const LOOK: Duration = Duration::from_secs(1);

/// What reports need to know. librdkafka's crate calls it for those that it takes itself, when a producer is
/// destroyed with records in it.
pub(crate) struct Reports {
    topics: Arc<Topics>,
}

impl Reports {
    pub(super) fn new(topics: Arc<Topics>) -> Self {
        Self { topics }
    }

    /// One batch's fate.
    fn batch(&self, event: &Event) {
        let (mut records, mut bytes) = (0, 0);
        let mut first = None;
        event.reports(|mut report| {
            let Some(pending) = report.take_pending() else {
                return;
            };
            if first.is_none() {
                first = Some((self.topics.get(pending.topic()), report.latency()));
            }
            if report.error().is_none() {
                records += 1;
                bytes += report.bytes();
            }
            self.settle(&report, *pending);
        });
        if let Some((topic, latency)) = first
            && records > 0
        {
            topic.acknowledged(records, bytes, latency);
        }
    }

    /// Answers one record's sender, and counts what failed.
    fn settle(&self, report: &Report<'_>, pending: Pending) {
        let Some(code) = report.error() else {
            pending.answer(Ok(Delivered {
                partition: report.partition().unwrap_or(-1),
                offset: report.offset(),
                timestamp_ms: report.timestamp_ms(),
            }));
            return;
        };
        let topic = pending.topic().clone();
        let (error_type, error) = match report.persisted() {
            Persisted::No => fate_of_a_refusal(topic, report.partition(), code),
            Persisted::Maybe | Persisted::Yes => (
                ProducerErrorType::of(code),
                SendError::Unknown {
                    topic,
                    partition: report.partition(),
                    code,
                },
            ),
        };
        self.topics.get(pending.topic()).failed(error_type);
        pending.answer(Err(error));
    }
}

/// What it means that a record was certainly not stored.
pub(super) fn fate_of_a_refusal(
    topic: Arc<str>,
    partition: Option<i32>,
    code: ErrorCode,
) -> (ProducerErrorType, SendError) {
    let error_type = ProducerErrorType::of(code);
    let error = match code.known() {
        Some(Code::MessageTimedOut | Code::TimedOutQueue) => SendError::TimedOut { topic, partition },
        Some(Code::PurgeQueue | Code::PurgeInflight) => SendError::Aborted { topic },
        Some(Code::Fatal) => SendError::Fatal { topic, code },
        _ if error_type == ProducerErrorType::Fenced => SendError::Fenced { topic, code },
        _ => SendError::Refused {
            topic,
            partition,
            code,
        },
    };
    (error_type, error)
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log::line(level as i32, facility, text);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Pending>) {
        let message = match result {
            Ok(message) | Err((_, message)) => message,
        };
        if let Some(report) = Report::borrowed(message) {
            if report.error().is_none() {
                let topic = self.topics.get(pending.topic());
                topic.acknowledged(1, report.bytes(), report.latency());
            }
            self.settle(&report, *pending);
        }
    }
}

/// Starts the thread. It keeps the producer alive until it is told to stop, and is what destroys it: that may
/// block, and so is nothing for a thread of the runtime.
pub(super) fn spawn(base: Arc<BaseProducer<Reports>>, stop: Arc<AtomicBool>) -> io::Result<()> {
    let thread = thread::Builder::new().name("kafka-reports".to_owned());
    thread
        .spawn(move || {
            // It counts every batch: in words of its own, where there are some left.
            claim_lane();
            serve(&base, &stop);
            // Others let go of it any moment now; the last one out closes connections and waits for threads.
            while Arc::strong_count(&base) > 1 {
                thread::sleep(Duration::from_millis(1));
            }
        })
        .map(drop)
}

fn serve(base: &BaseProducer<Reports>, stop: &AtomicBool) {
    let Some(queue) = EventQueue::main(base.client()) else {
        return;
    };
    while !stop.load(Ordering::Acquire) {
        let Some(event) = queue.poll(LOOK) else { continue };
        match event.kind() {
            Kind::Delivery => base.context().batch(&event),
            Kind::Log => {
                let line = event.log_line();
                log::line(line.level, &line.facility, &line.text);
            }
            Kind::Error => log::error(&event),
            Kind::Fetch | Kind::Assigned | Kind::Revoked | Kind::Other => {}
        }
    }
}

/// Lets the thread look whether it shall stop.
pub(super) fn wake(base: &BaseProducer<Reports>) {
    if let Some(queue) = EventQueue::main(base.client()) {
        queue.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(code: Code) -> (ProducerErrorType, SendError) {
        fate_of_a_refusal(Arc::from("t"), Some(3), code.into())
    }

    #[test]
    fn a_refusal_says_what_happened_and_is_counted_as_that() {
        let topic: Arc<str> = Arc::from("t");
        let timed_out = SendError::TimedOut {
            topic: topic.clone(),
            partition: Some(3),
        };
        assert_eq!(
            fate(Code::MessageTimedOut),
            (ProducerErrorType::TimedOut, timed_out)
        );
        let aborted = SendError::Aborted { topic: topic.clone() };
        assert_eq!(fate(Code::PurgeQueue), (ProducerErrorType::Local, aborted));
        for code in [Code::ProducerFenced, Code::InvalidProducerEpoch, Code::Fenced] {
            let fenced = SendError::Fenced {
                topic: topic.clone(),
                code: code.into(),
            };
            assert_eq!(fate(code), (ProducerErrorType::Fenced, fenced));
        }
        let fatal = SendError::Fatal {
            topic: topic.clone(),
            code: Code::Fatal.into(),
        };
        assert_eq!(fate(Code::Fatal), (ProducerErrorType::Local, fatal));
        for (code, error_type) in [
            (Code::KafkaStorageError, ProducerErrorType::AgentError),
            (Code::NotEnoughReplicas, ProducerErrorType::AgentError),
            (Code::Unknown, ProducerErrorType::AgentError),
            (Code::MessageSizeTooLarge, ProducerErrorType::TooLarge),
            (Code::InvalidMessage, ProducerErrorType::Corrupt),
            (Code::UnknownTopicOrPartition, ProducerErrorType::UnknownTopic),
            (Code::OutOfOrderSequenceNumber, ProducerErrorType::Sequence),
            (Code::TopicAuthorizationFailed, ProducerErrorType::Unauthorized),
            (Code::InvalidTransactionalState, ProducerErrorType::Transaction),
            (Code::ThrottlingQuotaExceeded, ProducerErrorType::Throttled),
            (Code::InvalidTopic, ProducerErrorType::Invalid),
            (Code::Resolve, ProducerErrorType::Local),
        ] {
            let refused = SendError::Refused {
                topic: topic.clone(),
                partition: Some(3),
                code: code.into(),
            };
            assert_eq!(fate(code), (error_type, refused));
        }
    }

    #[test]
    fn a_code_that_no_table_has_is_the_agents_if_it_came_from_one() {
        let ours = ProducerErrorType::of(ErrorCode::new(-99));
        let theirs = ErrorCode::new(9_999);
        assert_eq!(ours, ProducerErrorType::Local);
        assert_eq!(ProducerErrorType::of(theirs), ProducerErrorType::AgentError);
        assert_eq!(theirs.to_string(), "error code 9999");
    }
}
