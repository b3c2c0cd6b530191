//! Produce v3–v13: writing (KIP-516: topic ids from v13; acks −1, 1 and 0).
//!
//! Two steps, because batches of one connection must enter the writer in the order of arrival but need
//! not wait for each other: [`admit`] decodes, checks and hands over, [`Pending::answer`] waits for the
//! commit. acks=1 means the same as acks=−1: acknowledged is stored. acks=0 takes the same path and gets
//! no answer; a failure closes the connection, as in Kafka.
//!
//! Compressed batches are stored without being decompressed, where Kafka reads every record first: what its
//! codec cannot read, and LZ4 blocks that depend on earlier ones, which Java cannot read, are found out by
//! consumers and by look-ups of a time inside of them (KAFKA_STORAGE_ERROR).
//!
//! Batches refused here are counted here, all others by the writer. `record_errors` stays empty: a batch
//! is refused as a whole.

mod decode;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::produce_response::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::commit::BatchTransaction;
use streamhouse_metadata::model::quota::QuotaKey;
use streamhouse_observability::families::{ApiOutcome, BatchCount, ProducerErrorType, Stage, TopicMetrics};
use streamhouse_storage::batch::{self, Admission, Codec};
use streamhouse_storage::writer::{Append, AppendError, Appended, PartitionHandles, PendingAppend};
use tokio::time::Instant;
use tracing::Instrument as _;

pub use decode::{PARTITION_COST_BYTES, ProduceRequest, count_partitions, decode};
use decode::{PartitionData, TopicData};

use super::HandleError;
use super::context::{Agent, RequestContext};
use super::error_code::{self, NONE, RequestFault};
use super::request_log;
use super::response::Response;
use super::topics::{KnownTopic, TopicKey};
use crate::listener::budget::Charge;

/// First version that knows TRANSACTION_ABORTABLE, and first in which a batch joins its transaction by
/// itself (KIP-890).
const ABORTABLE: i16 = 11;
const IMPLICIT: i16 = 12;

/// First version with which zstd may be sent (KIP-110).
const ZSTD: i16 = 7;

/// Longest time a batch may take from arrival to commit, and what is left of a client's patience for
/// the way back.
const TIME_MAX: Duration = Duration::from_secs(30);
const WAY_BACK: Duration = Duration::from_secs(1);

/// A frame may be this many times larger than its batches that are admitted; otherwise these are copied.
/// The writer does the like with those of them that are appended.
const PINNED_FACTOR_MAX: usize = 2;

/// A request whose batches are in the writer, or refused.
pub struct Pending {
    context: RequestContext,
    acks: i16,
    topics: Vec<PendingTopic>,
    append: PendingAppend,
    /// How long the client is to be quiet: it went over its quota.
    pub throttle: Duration,
}

struct PendingTopic {
    key: TopicKey,
    /// `None` where the topic does not exist.
    known: Option<Arc<KnownTopic>>,
    partitions: Vec<(i32, Slot)>,
}

/// What is known of one batch before the writer answers.
enum Slot {
    /// Its answer is the next one of the writer's.
    Appended,
    Refused {
        code: i16,
        outcome: ApiOutcome,
        message: StrBytes,
    },
}

/// Decodes a request, checks its batches and hands them to the writer. When this returns, their place
/// in the order is fixed.
pub async fn admit(
    context: RequestContext,
    request: ProduceRequest,
    charge: Charge,
    frame_bytes: usize,
) -> Pending {
    let agent = context.agent.clone();
    let permit: Arc<dyn std::any::Any + Send + Sync> = Arc::new(charge);
    let resolved = resolve(&context, &request.topics).await;
    let deadline = context.read_at + patience(request.timeout_ms);
    let terms = Terms {
        acks: request.acks,
        transactional: request.transactional,
    };
    let mut appends = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for (topic, known) in request.topics.into_iter().zip(resolved) {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for data in topic.partitions {
            let index = data.index;
            let checked = match &known {
                Ok(known) => check(&context, known, &terms, &data),
                Err(refusal) => Err(refusal.clone()),
            };
            let slot = match checked {
                Ok(append) => {
                    appends.push(Append {
                        deadline,
                        permit: Some(permit.clone()),
                        ..append
                    });
                    Slot::Appended
                }
                Err(refusal) => {
                    if refusal.counted != ProducerErrorType::AgentError {
                        request_log::mistake(&context, &refusal.message);
                    }
                    let counted = known.as_ref().ok().map(|known| &known.metrics);
                    refused(&agent, counted, &refusal);
                    Slot::Refused {
                        code: refusal.code,
                        outcome: outcome_of(refusal.counted.outcome()),
                        message: context.explain(&refusal.message),
                    }
                }
            };
            partitions.push((index, slot));
        }
        topics.push(PendingTopic {
            key: topic.key,
            known: known.ok(),
            partitions,
        });
    }
    release_frame(&mut appends, frame_bytes);
    let append = agent.writer.append(appends);
    let throttle = context
        .charge_quota(QuotaKey::ProducerByteRate, frame_bytes)
        .await;
    Pending {
        context,
        acks: request.acks,
        topics,
        append,
        throttle,
    }
}

/// What is kept of a batch keeps its whole frame in memory: not for a small part of it.
fn release_frame(appends: &mut [Append], frame_bytes: usize) {
    let taken: usize = appends.iter().map(|append| append.batch.bytes.len()).sum();
    if taken * PINNED_FACTOR_MAX < frame_bytes {
        for append in appends {
            append.batch.bytes = Bytes::copy_from_slice(&append.batch.bytes);
        }
    }
}

/// A batch that does not reach the writer.
#[derive(Clone)]
struct Refusal {
    code: i16,
    counted: ProducerErrorType,
    message: String,
}

/// The code that tells of an error, and whose fault it was: not by the code, which may stand for both sides'.
fn fate(error: &AppendError, generic: bool) -> (i16, ApiOutcome) {
    let code = error_code::transactional_append(error, generic).code();
    (code, outcome_of(error.classes().0))
}

/// A batch's fate as the request's.
fn outcome_of(batch: BatchCount) -> ApiOutcome {
    match batch {
        BatchCount::Ok | BatchCount::Duplicate => ApiOutcome::Ok,
        BatchCount::ClientError => ApiOutcome::ClientError,
        BatchCount::ServerError => ApiOutcome::ServerError,
    }
}

fn refused(agent: &Agent, topic: Option<&Arc<TopicMetrics>>, refusal: &Refusal) {
    agent.metrics.produce.batches(refusal.counted.outcome()).inc();
    match topic {
        Some(metrics) => metrics.errors(refusal.counted).inc(),
        None => agent.metrics.unknown_topic().errors(refusal.counted).inc(),
    }
}

/// The topics of a request, one answer each. One that is unknown, or that lacks a partition which is
/// asked for, is read from the store before it is refused.
async fn resolve(context: &RequestContext, wanted: &[TopicData]) -> Vec<Result<Arc<KnownTopic>, Refusal>> {
    let topics = &context.agent.topics;
    let complete = |known: &KnownTopic, data: &TopicData| {
        data.partitions.iter().all(|p| known.partition(p.index).is_some())
    };
    let mut found: Vec<_> = wanted
        .iter()
        .map(|data| topics.remembered(&data.key).filter(|known| complete(known, data)))
        .collect();
    let missing: Vec<usize> = (0..wanted.len()).filter(|at| found[*at].is_none()).collect();
    if !missing.is_empty() {
        let keys: Vec<TopicKey> = missing.iter().map(|at| wanted[*at].key.clone()).collect();
        match topics.read(&keys).await {
            Ok(read) => {
                for (at, known) in missing.into_iter().zip(read) {
                    found[at] = known;
                }
            }
            Err(error) => {
                context.report(&error);
                let refusal = Refusal {
                    code: error_code::store(&error).code(),
                    counted: ProducerErrorType::AgentError,
                    message: error.to_string(),
                };
                return found
                    .into_iter()
                    .map(|known| known.ok_or_else(|| refusal.clone()))
                    .collect();
            }
        }
    }
    let unknown = |key: &TopicKey| {
        let fault = match key {
            TopicKey::Name(_) => RequestFault::UnknownTopic,
            TopicKey::Id(_) => RequestFault::UnknownTopicId,
        };
        fault_refusal(&fault, ProducerErrorType::UnknownTopic)
    };
    found
        .into_iter()
        .zip(wanted)
        .map(|(known, data)| known.ok_or_else(|| unknown(&data.key)))
        .collect()
}

fn fault_refusal(fault: &RequestFault, counted: ProducerErrorType) -> Refusal {
    Refusal {
        code: error_code::request_fault(fault).code(),
        counted,
        message: fault.to_string(),
    }
}

/// What a request says about all its batches.
struct Terms {
    acks: i16,
    /// It names a transactional id.
    transactional: bool,
}

/// Checks one batch. Deadline and permit are the caller's.
fn check(
    context: &RequestContext,
    known: &KnownTopic,
    terms: &Terms,
    data: &PartitionData,
) -> Result<Append, Refusal> {
    let agent = &context.agent;
    if !(-1..=1).contains(&terms.acks) {
        return Err(fault_refusal(
            &RequestFault::Acks(terms.acks),
            ProducerErrorType::Invalid,
        ));
    }
    let partition = known
        .partition(data.index)
        .ok_or_else(|| fault_refusal(&RequestFault::UnknownTopic, ProducerErrorType::UnknownTopic))?;
    let admission = Admission {
        max_message_bytes: known.message_bytes_max,
        timestamp_type: known.timestamp_type,
        timestamp_before_max_ms: known.timestamp_before_after_max_ms.0,
        timestamp_after_max_ms: known.timestamp_before_after_max_ms.1,
        now_ms: now_ms(),
    };
    let batch = batch::admit(&data.records, &admission).map_err(|error| Refusal {
        code: error_code::batch(&error).code(),
        counted: error_code::batch_type(&error),
        message: error.to_string(),
    })?;
    if context.head.version < ZSTD && batch.header.codec() == Some(Codec::Zstd) {
        return Err(fault_refusal(
            &RequestFault::ZstdTooOld(context.head.version),
            ProducerErrorType::Invalid,
        ));
    }
    let transactional = batch.header.is_transactional();
    if transactional && !terms.transactional {
        return Err(fault_refusal(
            &RequestFault::NoTransactionalId,
            ProducerErrorType::Transaction,
        ));
    }
    Ok(Append {
        partition,
        transaction: transactional.then_some(BatchTransaction {
            implicit: context.head.version >= IMPLICIT,
        }),
        batch,
        deadline: Instant::now(),
        handles: PartitionHandles {
            topic: known.metrics.clone(),
            writes: known.write_metrics(&agent.metrics, data.index),
        },
        permit: None,
    })
}

/// The wall clock, for topics whose timestamps are the time of appending.
fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// How long a batch may take. A client with little patience still gets half of it.
fn patience(timeout_ms: i32) -> Duration {
    let asked = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).min(TIME_MAX);
    asked.saturating_sub(WAY_BACK).max(asked / 2)
}

impl Pending {
    /// [`Self::answer`], inside the request's span.
    pub async fn answer_in_span(self) -> Result<Option<Response>, HandleError> {
        let span = self.context.span.clone();
        self.answer().instrument(span).await
    }

    /// Waits until every batch has its answer. `None`: the client wants none.
    pub async fn answer(self) -> Result<Option<Response>, HandleError> {
        let Pending {
            context,
            acks,
            topics,
            append,
            throttle,
        } = self;
        let generic = context.head.version >= ABORTABLE;
        let (results, journey) = append.with_journey().await;
        let mut results = results.into_iter();
        let answered_at = Instant::now();
        let mut successful = Vec::new();
        // Requests of several topics are no one topic's.
        let only_topic = match topics.as_slice() {
            [topic] => topic.known.clone(),
            _ => None,
        };
        let mut outcome = ApiOutcome::Ok;
        let mut failure = None;
        let mut responses = Vec::with_capacity(topics.len());
        for topic in topics {
            let name = topic.known.as_ref().map(|known| known.topic.name.as_str());
            let mut all_well = !topic.partitions.is_empty();
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for (index, slot) in topic.partitions {
                let (response, of_batch) = match slot {
                    Slot::Refused {
                        code,
                        outcome,
                        message,
                    } => (refused_response(index, code, message), outcome),
                    Slot::Appended => match results.next().unwrap_or(Err(AppendError::Stopping)) {
                        Ok(appended) => (appended_response(index, &appended), ApiOutcome::Ok),
                        Err(error) => {
                            let (code, of_batch) = fate(&error, generic);
                            match of_batch {
                                ApiOutcome::ServerError => request_log::failure(&context, name, &error),
                                _ => request_log::mistake(&context, &error),
                            }
                            (refused_response(index, code, context.explain(&error)), of_batch)
                        }
                    },
                };
                outcome = super::response::worse(outcome, of_batch);
                if response.error_code != NONE {
                    all_well = false;
                    failure.get_or_insert_with(|| response.error_message.clone());
                }
                partitions.push(response);
            }
            if all_well && let Some(known) = &topic.known {
                successful.push(known.metrics.clone());
            }
            responses.push(topic_response(topic.key, partitions));
        }
        let read_at = context.read_at;
        let metrics = context.agent.metrics.clone();
        let after = move |context: &RequestContext, written: Instant| {
            metrics.produce.stage(Stage::Ack).observe(written - answered_at);
            for topic in successful {
                topic.latency.observe(written - read_at);
            }
            let topic = only_topic.as_ref().map(|known| known.topic.name.as_str());
            request_log::produced(context, topic, outcome, &journey, (answered_at, written));
        };
        if acks == 0 {
            return match failure {
                None => {
                    after(&context, answered_at);
                    Ok(None)
                }
                Some(message) => Err(HandleError::Unacknowledged {
                    message: message.map(|message| message.to_string()).unwrap_or_default(),
                    outcome,
                }),
            };
        }
        let message = ProduceResponse::default()
            .with_responses(responses)
            .with_throttle_time_ms(i32::try_from(throttle.as_millis()).unwrap_or(i32::MAX));
        let message = trim(message, context.head.version);
        let mut response = Response::encode(&context.head, &message, outcome)?;
        response.after = Some(Box::new(move |written| after(&context, written)));
        Ok(Some(response))
    }
}

fn appended_response(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(appended.base_offset)
        .with_log_append_time_ms(appended.log_append_time.unwrap_or(-1))
        .with_log_start_offset(appended.log_start_offset)
}

fn refused_response(index: i32, code: i16, message: StrBytes) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(code)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
        .with_error_message(Some(message))
}

fn topic_response(key: TopicKey, partitions: Vec<PartitionProduceResponse>) -> TopicProduceResponse {
    let response = TopicProduceResponse::default().with_partition_responses(partitions);
    match key {
        TopicKey::Name(name) => response.with_name(TopicName(StrBytes::from_string(name))),
        TopicKey::Id(id) => response.with_topic_id(id),
    }
}

/// Takes out what a version has no field for: the encoder leaves it out or refuses it, field by field.
fn trim(mut message: ProduceResponse, version: i16) -> ProduceResponse {
    if version < 8 {
        for topic in &mut message.responses {
            for partition in &mut topic.partition_responses {
                partition.error_message = None;
            }
        }
    }
    message
}

/// Checks what a frame's partitions would cost before anything is allocated for them.
pub fn decoded_cost(body: &Bytes, version: i16) -> Result<usize, crate::listener::wire::WireError> {
    Ok(count_partitions(body, version)? * PARTITION_COST_BYTES)
}

#[cfg(test)]
mod tests {
    use streamhouse_metadata::ids::{TopicId, TopicPartition};
    use streamhouse_metadata::model::topic::TimestampType;
    use streamhouse_observability::Metrics;
    use streamhouse_observability::families::MetricsOptions;
    use streamhouse_storage::batch::testing::TestBatch;

    use super::*;

    /// One accepted batch in a frame of `frame_bytes`: does it still lie in the frame?
    fn stays_in_frame(frame_bytes: impl Fn(usize) -> usize) -> bool {
        let metrics = Metrics::new(MetricsOptions::default());
        let bytes = TestBatch::of(10, "a").bytes();
        let admission = Admission {
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            max_message_bytes: u32::MAX,
            timestamp_type: TimestampType::CreateTime,
            now_ms: 0,
        };
        let mut appends = [Append {
            partition: TopicPartition {
                topic: TopicId(uuid::Uuid::nil()),
                partition: 0,
            },
            batch: batch::admit(&bytes, &admission).unwrap(),
            transaction: None,
            deadline: Instant::now(),
            handles: PartitionHandles {
                topic: metrics.topic("orders"),
                writes: metrics.partition("orders", 0),
            },
            permit: None,
        }];
        release_frame(&mut appends, frame_bytes(bytes.len()));
        assert_eq!(appends[0].batch.bytes, bytes);
        appends[0].batch.bytes.as_ptr() == bytes.as_ptr()
    }

    #[test]
    fn no_room_for_markers_is_our_fault_although_its_code_is_told_to_clients_who_were_too_fast_too() {
        use kafka_protocol::ResponseError;
        use streamhouse_metadata::model::commit::AppendRefusal;
        let ours = AppendError::Refused(AppendRefusal::MarkersFull);
        let waiting = AppendError::Refused(AppendRefusal::GapPending { expected: 1, got: 2 });
        let told = ResponseError::NotEnoughReplicas.code();
        assert_eq!(fate(&ours, false), (told, ApiOutcome::ServerError));
        assert_eq!(fate(&waiting, false), (told, ApiOutcome::ClientError));
        for error in [
            AppendError::TimedOut,
            AppendError::Storage,
            AppendError::Fenced,
            AppendError::Stopping,
        ] {
            let (code, outcome) = fate(&error, false);
            assert_eq!(outcome, error_code::outcome(code), "{error}");
        }
    }

    #[test]
    fn a_small_accepted_part_does_not_keep_its_frame_and_a_large_one_is_not_copied() {
        assert!(stays_in_frame(|batch| batch + 60));
        assert!(stays_in_frame(|batch| batch * PINNED_FACTOR_MAX));
        assert!(!stays_in_frame(|batch| batch * PINNED_FACTOR_MAX + 1));
    }
}
