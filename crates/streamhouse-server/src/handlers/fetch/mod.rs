//! Fetch v4–v18: reading, with long poll (KIP-74 limits, KIP-227 sessions, KIP-516 topic ids from v13).
//!
//! The answer is framed by hand around slices of the stored bytes. Sessions are made and evicted by Kafka's
//! rules; 1,000 sessions and 100,000 partitions in them are remembered. There are no followers. A request that takes
//! more than 32 KiB of memory waits for data half a second at most, which is what clients ask for by default.

mod encode;

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest as WireRequest;
use streamhouse_metadata::model::quota::QuotaKey;
use streamhouse_observability::families::ApiOutcome;
use streamhouse_storage::reader::{FetchPartition, FetchRequest, Fetched, ReadError};
use tokio::time::Instant;

use super::context::RequestContext;
use super::error_code::{self, NONE, RequestFault};
use super::list_offsets::check_epoch;
use super::request_log;
use super::response::{EncodeError, Response};
use super::topics::{KnownTopic, TopicKey};
use crate::fetch_session::{FetchSessions, Mode, NO_SESSION, Places, Told, Wanted};
use crate::listener::responses::{FLOOR_BYTES, Held};
use encode::{Partition, Topic};

/// First version that names topics by id, and first with sessions.
const TOPIC_IDS: i16 = 13;
const SESSIONS: i16 = 7;
/// The label of topics that do not exist.
const UNKNOWN: &str = streamhouse_observability::registry::Topic::UNKNOWN;
const READ_COMMITTED: i8 = 1;
/// What a client without sessions would say.
const SESSIONLESS_EPOCH: i32 = -1;
/// No honest client waits longer; a hostile one would hold its request's memory for ever.
const WAIT_MAX: Duration = Duration::from_secs(300);

pub async fn handle(context: &RequestContext, request: WireRequest) -> Result<Response, EncodeError> {
    let agent = &context.agent;
    let terms = Terms::of(&request);
    let version = context.head.version;
    let session = match version >= SESSIONS {
        true => (request.session_id, request.session_epoch),
        false => (NO_SESSION, SESSIONLESS_EPOCH),
    };
    let (named, forgotten) = asked(request, version);
    let by_id = version >= TOPIC_IDS;
    let (mode, places) = match agent.fetch_sessions.begin(session, by_id, named, &forgotten) {
        Ok(begun) => begun,
        Err(fault) => {
            let code = error_code::request_fault(&fault.into()).code();
            let (topics, quiet) = (Vec::new(), Duration::ZERO);
            let codes = (code, NO_SESSION);
            return encode::response(&context.head, codes, topics, ApiOutcome::Ok, quiet);
        }
    };
    let (resolved, mut topics, partitions) = plan_all(context, &places).await;
    let failed = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .any(|partition| partition.error_code != NONE);
    let max_bytes = terms.max_bytes.min(agent.settings.fetch_bytes_max as usize);
    let mut fetch = FetchRequest {
        partitions,
        max_bytes,
        min_bytes: terms.min_bytes.min(max_bytes),
        read_committed: terms.read_committed,
        max_wait: if failed { Duration::ZERO } else { terms.max_wait },
    };
    let (results, woken_at, held) = read_within_memory(context, &mut fetch).await;
    // Where it was refused its client has begun nowhere. Nothing can be committed of an answer that is still to come.
    let read = fetch.partitions.iter().zip(&results);
    let read = read.filter(|(_, result)| result.is_ok());
    context.agent.consumption.fetching(
        || context.client(),
        &context.fetching,
        read.map(|(wanted, _)| (wanted.partition, wanted.offset)),
    );
    let throttle = context
        .charge_quota(QuotaKey::ConsumerByteRate, length(&results))
        .await;
    let mut results = results.into_iter();
    for (topic, known) in topics.iter_mut().zip(&resolved) {
        // What was planned to be read is of a topic that exists.
        let Ok(known) = known else { continue };
        for partition in &mut topic.partitions {
            if partition.error_code == NONE
                && let Some(result) = results.next()
            {
                answer((context, known.as_ref()), partition, result, terms.read_committed);
            }
        }
    }
    count_refused(context, &topics, &resolved);
    let codes = topics.iter().flat_map(|topic| &topic.partitions);
    let outcome = error_code::worst(codes.map(|partition| partition.error_code));
    let session_id = match mode {
        Mode::Sessionless => NO_SESSION,
        Mode::Full => agent
            .fetch_sessions
            .make(&places, by_id, |at, nth| told(&topics[at].partitions[nth])),
        Mode::Incremental { id } => {
            leave_out_unchanged(&agent.fetch_sessions, id, &mut topics);
            id
        }
    };
    let codes = (NONE, session_id);
    let mut response = encode::response(&context.head, codes, topics, outcome, throttle)?;
    response.memory = held;
    if let Some(woken_at) = woken_at {
        let metrics = agent.metrics.clone();
        response.after = Some(Box::new(move |written: Instant| {
            let took = written.saturating_duration_since(woken_at);
            metrics.fetch.wakeup_seconds.observe(took);
        }));
    }
    response.may_wait = terms.max_wait;
    Ok(response)
}

/// Finds the topics of a fetch: what becomes of each partition, and those that are to be read, in order.
async fn plan_all(
    context: &RequestContext,
    places: &Places,
) -> (Vec<Resolved>, Vec<Topic>, Vec<FetchPartition>) {
    let agent = &context.agent;
    let keys: Vec<TopicKey> = places.iter().map(|(key, _)| key.clone()).collect();
    let resolved = match resolve(context, &keys, places).await {
        Ok(resolved) => resolved,
        Err(code) => vec![Err(code); keys.len()],
    };

    let current_epoch = agent.metadata.cluster().epoch;
    let mut partitions = Vec::new();
    let mut topics = Vec::with_capacity(keys.len());
    for (((_, wanted), key), known) in places.iter().zip(keys).zip(&resolved) {
        let mut answers = Vec::with_capacity(wanted.len());
        for (index, wanted) in wanted {
            let planned = match known {
                Err(code) => Err(*code),
                Ok(known) => plan(known, *index, wanted, current_epoch),
            };
            answers.push(match planned {
                Ok(partition) => {
                    partitions.push(partition);
                    Partition::waiting(*index)
                }
                Err(code) => Partition::failed(*index, code),
            });
        }
        topics.push(Topic {
            key,
            partitions: answers,
        });
    }
    (resolved, topics, partitions)
}

/// What a request says about all its partitions.
struct Terms {
    max_bytes: usize,
    min_bytes: usize,
    max_wait: Duration,
    read_committed: bool,
}

impl Terms {
    fn of(request: &WireRequest) -> Self {
        let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        Self {
            max_bytes: usize::try_from(request.max_bytes).unwrap_or(0),
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
            max_wait: max_wait.min(WAIT_MAX),
            read_committed: request.isolation_level == READ_COMMITTED,
        }
    }
}

/// The partitions that a request names, and those that its session is to forget.
fn asked(request: WireRequest, version: i16) -> (Places, Vec<(TopicKey, Vec<i32>)>) {
    let key = |name: &str, id| match version >= TOPIC_IDS {
        true => TopicKey::Id(id),
        false => TopicKey::Name(name.to_owned()),
    };
    let named = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let place = Wanted {
                offset: wanted.fetch_offset,
                max_bytes: wanted.partition_max_bytes,
                leader_epoch: wanted.current_leader_epoch,
            };
            (wanted.partition, place)
        });
        (key(&topic.topic, topic.topic_id), partitions.collect())
    });
    let named = named.collect();
    let forgotten = request.forgotten_topics_data.into_iter();
    let forgotten = forgotten.map(|topic| (key(&topic.topic, topic.topic_id), topic.partitions));
    (named, forgotten.collect())
}

fn told(partition: &Partition) -> Told {
    let snapshot = partition.snapshot.as_ref();
    Told {
        high_watermark: snapshot.map_or(-1, |snapshot| snapshot.high_watermark),
        log_start_offset: snapshot.map_or(-1, |snapshot| snapshot.log_start_offset),
        has_records: !partition.records.is_empty(),
        failed: partition.error_code != NONE,
    }
}

/// The client of a session knows what it was told before.
fn leave_out_unchanged(sessions: &FetchSessions, id: i32, topics: &mut Vec<Topic>) {
    let all = topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| (&topic.key, partition.index, told(partition)))
    });
    let all: Vec<_> = all.collect();
    let mut changed = sessions.changed(id, &all).into_iter();
    for topic in topics.iter_mut() {
        topic.partitions.retain(|_| changed.next().unwrap_or(true));
    }
    topics.retain(|topic| !topic.partitions.is_empty());
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
/// [`crate::listener::responses`]). Also says when the commit was made that was waited for.
async fn read_within_memory(
    context: &RequestContext,
    fetch: &mut FetchRequest,
) -> (Vec<Result<Fetched, ReadError>>, Option<Instant>, Held) {
    let memory = &context.agent.responses;
    fetch.max_bytes = memory.allowance(fetch.max_bytes);
    fetch.min_bytes = fetch.min_bytes.min(fetch.max_bytes);
    // What a fetch has found may be kept while it waits for more.
    let waiting = memory.hold(fetch.min_bytes);
    if waiting.is_none() {
        fetch.min_bytes = fetch.min_bytes.min(FLOOR_BYTES);
    }
    let (results, woken_at) = read(context, fetch).await;
    drop(waiting);
    let bytes = length(&results);
    if let Some(held) = memory.hold(bytes) {
        return (results, woken_at, held);
    }
    if bytes.min(fetch.max_bytes) <= FLOOR_BYTES {
        return (results, woken_at, Held::default());
    }
    // Others took the room while this read went on.
    drop(results);
    fetch.max_bytes = FLOOR_BYTES;
    fetch.min_bytes = 0;
    fetch.max_wait = Duration::ZERO;
    let (results, _) = read(context, fetch).await;
    let held = memory.hold(length(&results)).unwrap_or_default();
    (results, woken_at, held)
}

fn length(results: &[Result<Fetched, ReadError>]) -> usize {
    let read = results.iter().flatten();
    read.map(|fetched| fetched.records.length_bytes).sum()
}

/// Waits for data as asked, but answers at once when the process stops.
async fn read(
    context: &RequestContext,
    fetch: &FetchRequest,
) -> (Vec<Result<Fetched, ReadError>>, Option<Instant>) {
    let reader = &context.agent.reader;
    tokio::select! {
        biased;
        woken = reader.fetch_woken(fetch) => return woken,
        () = context.agent.stopping.cancelled(), if !fetch.max_wait.is_zero() => {}
    }
    let at_once = FetchRequest {
        max_wait: Duration::ZERO,
        ..fetch.clone()
    };
    (reader.fetch(&at_once).await, None)
}

type Resolved = Result<Arc<KnownTopic>, i16>;

/// The topics of a request, read anew where one is unknown or seems to lack a partition (TRACES 2).
async fn resolve(context: &RequestContext, keys: &[TopicKey], places: &Places) -> Result<Vec<Resolved>, i16> {
    let topics = &context.agent.topics;
    let store_failed = |error| {
        context.report(&error);
        error_code::store(&error).code()
    };
    let mut found = topics.resolve(keys).await.map_err(store_failed)?;
    let lacking: Vec<usize> = (0..keys.len())
        .filter(|at| {
            found[*at].as_ref().is_some_and(|known| {
                let wanted = &places[*at].1;
                wanted.iter().any(|(index, _)| known.partition(*index).is_none())
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

fn plan(known: &KnownTopic, index: i32, wanted: &Wanted, current_epoch: i32) -> Result<FetchPartition, i16> {
    let fault = |fault: RequestFault| error_code::request_fault(&fault).code();
    let partition = known
        .partition(index)
        .ok_or_else(|| fault(RequestFault::UnknownTopic))?;
    check_epoch(wanted.leader_epoch, current_epoch).map_err(fault)?;
    Ok(FetchPartition {
        partition,
        offset: wanted.offset,
        max_bytes: usize::try_from(wanted.max_bytes).unwrap_or(0),
    })
}

fn answer(
    (context, topic): (&RequestContext, &KnownTopic),
    partition: &mut Partition,
    result: Result<Fetched, ReadError>,
    read_committed: bool,
) {
    match result {
        Ok(fetched) => {
            let bytes = topic.metrics.fetch_bytes(fetched.source);
            bytes.add(fetched.records.length_bytes as u64);
            partition.snapshot = Some(fetched.snapshot);
            partition.records = fetched.records;
            partition.aborted = read_committed.then_some(fetched.aborted);
        }
        Err(error) => {
            partition.error_code = error_code::read(&error).code();
            if let ReadError::OutOfRange { snapshot, .. } = &error {
                partition.snapshot = Some(*snapshot);
            } else if error_code::outcome(partition.error_code) == ApiOutcome::ServerError {
                request_log::read_failed(context, &topic.topic.name, partition.index, &error);
            }
        }
    }
}
