//! Fetch v4–v18: reading, with long poll (KIP-74 limits, KIP-227 sessions, KIP-516 topic ids from v13).
//!
//! The answer is framed by hand around slices of the stored bytes ([`encode`]). Sessions are never
//! opened: every answer carries session id 0, which tells the client to go on with full requests, as a
//! broker does whose session cache is full. There are no followers.

mod encode;

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest as WireRequest;
use kafka_protocol::messages::fetch_request::FetchPartition as WirePartition;
use streamhouse_metadata::model::quota::QuotaKey;
use streamhouse_observability::families::ApiOutcome;
use streamhouse_storage::reader::{FetchPartition, FetchRequest, Fetched, ReadError};

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::list_offsets::check_epoch;
use super::response::{EncodeError, Response};
use super::topics::{KnownTopic, TopicKey};
use crate::listener::responses::{FLOOR_BYTES, Held};
use encode::{Partition, Topic};

/// First version that names topics by id, and first with sessions.
const TOPIC_IDS: i16 = 13;
const SESSIONS: i16 = 7;
/// The label of topics that do not exist.
const UNKNOWN: &str = streamhouse_observability::registry::Topic::UNKNOWN;
const READ_COMMITTED: i8 = 1;
/// The epoch with which a client closes its session.
const FINAL_EPOCH: i32 = -1;
/// No honest client waits longer; a hostile one would hold its request's memory for ever.
const WAIT_MAX: Duration = Duration::from_secs(300);

pub async fn handle(context: &RequestContext, request: WireRequest) -> Result<Response, EncodeError> {
    if context.head.version >= SESSIONS && request.session_id != 0 && request.session_epoch != FINAL_EPOCH {
        let fault = RequestFault::FetchSession(request.session_id);
        let code = error_code::request_fault(&fault).code();
        let (topics, quiet) = (Vec::new(), Duration::ZERO);
        return Ok(encode::response(
            &context.head,
            code,
            topics,
            ApiOutcome::Ok,
            quiet,
        ));
    }
    let agent = &context.agent;
    let keys: Vec<TopicKey> = request
        .topics
        .iter()
        .map(|topic| {
            if context.head.version >= TOPIC_IDS {
                TopicKey::Id(topic.topic_id)
            } else {
                TopicKey::Name(topic.topic.to_string())
            }
        })
        .collect();
    let resolved = match resolve(context, &keys, &request).await {
        Ok(resolved) => resolved,
        Err(code) => vec![Err(code); keys.len()],
    };

    let current_epoch = agent.metadata.cluster().epoch;
    let mut partitions = Vec::new();
    let mut topics = Vec::with_capacity(keys.len());
    for ((topic, key), known) in request.topics.iter().zip(keys).zip(&resolved) {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let planned = match known {
                Err(code) => Err(*code),
                Ok(known) => plan(known, wanted, current_epoch),
            };
            answers.push(match planned {
                Ok(partition) => {
                    partitions.push(partition);
                    Partition::waiting(wanted.partition)
                }
                Err(code) => Partition::failed(wanted.partition, code),
            });
        }
        topics.push(Topic {
            key,
            partitions: answers,
        });
    }

    let failed = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .any(|partition| partition.error_code != NONE);
    let max_bytes = usize::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(agent.settings.fetch_bytes_max as usize);
    let fetch = FetchRequest {
        partitions,
        max_bytes,
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        read_committed: request.isolation_level == READ_COMMITTED,
        max_wait: if failed {
            Duration::ZERO
        } else {
            Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX)
        },
    };
    let places = fetch.partitions.iter();
    context.agent.consumption.fetching(
        || context.client(),
        &context.fetching,
        places.map(|wanted| (wanted.partition, wanted.offset)),
    );
    let (results, held) = read_within_memory(context, fetch).await;
    let throttle = context
        .charge_quota(QuotaKey::ConsumerByteRate, length(&results))
        .await;
    let mut results = results.into_iter();
    let read_committed = request.isolation_level == READ_COMMITTED;
    for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if partition.error_code == NONE
            && let Some(result) = results.next()
        {
            answer(context, partition, result, read_committed);
        }
    }
    count_refused(context, &topics, &resolved);
    let codes = topics.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    let mut response = encode::response(&context.head, NONE, topics, outcome, throttle);
    response.memory = held;
    Ok(response)
}

fn count_refused(context: &RequestContext, topics: &[Topic], resolved: &[Resolved]) {
    for (topic, known) in topics.iter().zip(resolved) {
        let failed = topic
            .partitions
            .iter()
            .filter(|partition| partition.error_code != NONE);
        for partition in failed {
            let name = known.as_ref().map_or(UNKNOWN, |known| known.topic.name.as_str());
            context.count_refused(Some(name), None, partition.error_code);
        }
    }
}

/// Reads no more than there is room for in a response that its client may not take (see
/// [`crate::listener::responses`]).
async fn read_within_memory(
    context: &RequestContext,
    mut fetch: FetchRequest,
) -> (Vec<Result<Fetched, ReadError>>, Held) {
    let memory = &context.agent.responses;
    fetch.max_bytes = memory.allowance(fetch.max_bytes);
    fetch.min_bytes = fetch.min_bytes.min(fetch.max_bytes);
    // What a fetch has found may be kept while it waits for more.
    let waiting = memory.hold(fetch.min_bytes);
    if waiting.is_none() {
        fetch.min_bytes = fetch.min_bytes.min(FLOOR_BYTES);
    }
    let results = read(context, &fetch).await;
    drop(waiting);
    let bytes = length(&results);
    if let Some(held) = memory.hold(bytes) {
        return (results, held);
    }
    if bytes.min(fetch.max_bytes) <= FLOOR_BYTES {
        return (results, Held::default());
    }
    // Others took the room while this read went on.
    drop(results);
    fetch.max_bytes = FLOOR_BYTES;
    fetch.min_bytes = 0;
    fetch.max_wait = Duration::ZERO;
    let results = read(context, &fetch).await;
    let held = memory.hold(length(&results)).unwrap_or_default();
    (results, held)
}

fn length(results: &[Result<Fetched, ReadError>]) -> usize {
    let read = results.iter().flatten();
    read.map(|fetched| fetched.records.length_bytes).sum()
}

/// Waits for data as asked, but answers at once when the process stops.
async fn read(context: &RequestContext, fetch: &FetchRequest) -> Vec<Result<Fetched, ReadError>> {
    let reader = &context.agent.reader;
    tokio::select! {
        biased;
        results = reader.fetch(fetch) => return results,
        () = context.agent.stopping.cancelled(), if !fetch.max_wait.is_zero() => {}
    }
    let at_once = FetchRequest {
        max_wait: Duration::ZERO,
        ..fetch.clone()
    };
    reader.fetch(&at_once).await
}

type Resolved = Result<Arc<KnownTopic>, i16>;

/// The topics of a request, read anew where one is unknown or seems to lack a partition (TRACES 2).
async fn resolve(
    context: &RequestContext,
    keys: &[TopicKey],
    request: &WireRequest,
) -> Result<Vec<Resolved>, i16> {
    let topics = &context.agent.topics;
    let store_failed = |error| {
        context.report(&error);
        error_code::store(&error).code()
    };
    let mut found = topics.resolve(keys).await.map_err(store_failed)?;
    let lacking: Vec<usize> = (0..keys.len())
        .filter(|at| {
            found[*at].as_ref().is_some_and(|known| {
                let wanted = &request.topics[*at].partitions;
                wanted.iter().any(|w| known.partition(w.partition).is_none())
            })
        })
        .collect();
    if !lacking.is_empty() {
        let again: Vec<TopicKey> = lacking.iter().map(|at| keys[*at].clone()).collect();
        let read = topics.read(&again).await.map_err(store_failed)?;
        for (at, known) in lacking.into_iter().zip(read) {
            found[at] = known;
        }
    }
    let unknown = |key: &TopicKey| match key {
        TopicKey::Name(_) => error_code::request_fault(&RequestFault::UnknownTopic).code(),
        TopicKey::Id(_) => error_code::request_fault(&RequestFault::UnknownTopicId).code(),
    };
    Ok(found
        .into_iter()
        .zip(keys)
        .map(|(known, key)| known.ok_or_else(|| unknown(key)))
        .collect())
}

fn plan(known: &KnownTopic, wanted: &WirePartition, current_epoch: i32) -> Result<FetchPartition, i16> {
    let fault = |fault: RequestFault| error_code::request_fault(&fault).code();
    let partition = known
        .partition(wanted.partition)
        .ok_or_else(|| fault(RequestFault::UnknownTopic))?;
    check_epoch(wanted.current_leader_epoch, current_epoch).map_err(fault)?;
    Ok(FetchPartition {
        partition,
        offset: wanted.fetch_offset,
        max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
        topic: known.metrics.clone(),
    })
}

fn answer(
    context: &RequestContext,
    partition: &mut Partition,
    result: Result<Fetched, ReadError>,
    read_committed: bool,
) {
    match result {
        Ok(fetched) => {
            partition.snapshot = Some(fetched.snapshot);
            partition.records = fetched.records;
            partition.aborted = read_committed.then_some(fetched.aborted);
        }
        Err(error) => {
            partition.error_code = error_code::read(&error).code();
            if let ReadError::OutOfRange { snapshot, .. } = &error {
                partition.snapshot = Some(*snapshot);
            } else if error_code::outcome(partition.error_code) == ApiOutcome::ServerError {
                context.report(&error);
            }
        }
    }
}
