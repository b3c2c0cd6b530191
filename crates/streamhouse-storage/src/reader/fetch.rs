//! Fetch: tail first, then one metadata look-up for all other partitions, then their segments in
//! parallel; too little data, and it waits for a commit to any of its partitions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::partition::PartitionSnapshot;
use streamhouse_metadata::model::segment::{Located, Lookup};
use streamhouse_metadata::model::transaction::AbortedRange;
use streamhouse_observability::families::FetchSource;
use tokio::time::{Instant, timeout_at};

use super::records::Records;
use super::segments::LoadError;
use super::tail::Waiter;
use super::{ReadError, Reader};

/// Partitions of one fetch that are loaded at once.
const LOADS_AT_ONCE: usize = 8;

/// Look-ups of one segment, which may be compacted away between look-up and read.
const LOOKUPS_MAX: usize = 3;

/// Whole batches, each with its base offset.
type Batches = Vec<(i64, Bytes)>;
/// What was read of a partition, before it is framed.
struct Found {
    snapshot: PartitionSnapshot,
    aborted: Vec<AbortedRange>,
    batches: Batches,
    source: FetchSource,
}
type Read = Result<Found, ReadError>;

/// One partition of a fetch.
#[derive(Clone)]
pub struct FetchPartition {
    pub partition: TopicPartition,
    pub offset: i64,
    pub max_bytes: usize,
}

/// A fetch over some partitions.
#[derive(Clone)]
pub struct FetchRequest {
    pub partitions: Vec<FetchPartition>,
    /// Of all records in the response; the first batch is returned in any case.
    pub max_bytes: usize,
    /// Wait until this much can be returned …
    pub min_bytes: usize,
    /// … but no longer than this.
    pub max_wait: Duration,
    /// Nothing at or beyond the last stable offset, and with the ranges to be left out.
    pub read_committed: bool,
}

/// What was read of one partition; all of it belongs to one moment (TRACES 3).
#[derive(Clone, Debug)]
pub struct Fetched {
    pub snapshot: PartitionSnapshot,
    pub records: Records,
    /// Where the records were read. They are counted by whoever sends them.
    pub source: FetchSource,
    /// Where committed records were asked for: those of aborted transactions among them.
    pub aborted: Vec<AbortedRange>,
}

/// What is planned for one partition.
enum Plan {
    Done(Read),
    Load { located: Located, budget: usize },
}

impl Reader {
    /// One result a partition, in the order asked. Returns early with any error.
    pub async fn fetch(&self, request: &FetchRequest) -> Vec<Result<Fetched, ReadError>> {
        self.fetch_woken(request).await.0
    }

    /// The same, and the commit's moment where it waited for one: how fresh the answer is, whoever writes it
    /// can tell.
    #[tracing::instrument(name = "fetch", level = "debug", skip_all, fields(partitions = request.partitions.len() as i64))]
    pub async fn fetch_woken(
        &self,
        request: &FetchRequest,
    ) -> (Vec<Result<Fetched, ReadError>>, Option<Instant>) {
        let deadline = Instant::now() + request.max_wait;
        let mut rung_at = None;
        let mut waiter: Option<Arc<Waiter>> = None;
        loop {
            let results = self.read_all(request).await;
            let bytes: usize = results
                .iter()
                .flatten()
                .map(|fetched| fetched.records.length_bytes)
                .sum();
            if bytes >= request.min_bytes || results.iter().any(Result::is_err) {
                return (results, rung_at);
            }
            if Instant::now() >= deadline {
                return (results, None);
            }
            if let Some(waiter) = &waiter
                && timeout_at(deadline, waiter.rung()).await.is_ok()
            {
                // Earlier ones were not enough: what more was waited for is the client's or a transaction's time.
                rung_at = waiter.rung_at().or(rung_at);
            }
            // Before the next read: a commit that it does not see will ring.
            let next = Arc::new(Waiter::default());
            let partitions = request.partitions.iter().map(|p| p.partition);
            self.tail.wait_on(partitions, &next);
            waiter = Some(next);
        }
    }

    async fn read_all(&self, request: &FetchRequest) -> Vec<Result<Fetched, ReadError>> {
        let count = request.partitions.len();
        if count == 0 {
            return Vec::new();
        }
        let began = Instant::now();
        let start = self.rotation.fetch_add(1, Ordering::Relaxed) % count;
        let order: Vec<usize> = (start..count).chain(0..start).collect();
        let plans = match self.plan(request, &order).await {
            Ok(plans) => plans,
            Err(error) => return (0..count).map(|_| Err(error.clone())).collect(),
        };
        let mut results: Vec<Option<Result<Fetched, ReadError>>> = Vec::new();
        results.resize_with(count, || None);
        let planned = began.elapsed();
        let loads = plans.into_iter().map(|(at, plan)| async move {
            match plan {
                Plan::Done(done) => (at, done, planned),
                Plan::Load { located, budget } => {
                    let read_committed = request.read_committed;
                    let wanted = &request.partitions[at];
                    let result = self.load(wanted, located, budget, read_committed).await;
                    (at, result, began.elapsed())
                }
            }
        });
        let mut loads = stream::iter(loads).buffer_unordered(LOADS_AT_ONCE);
        while let Some((at, result, elapsed)) = loads.next().await {
            let result = result.inspect_err(|error| self.count_damage(error));
            results[at] = Some(result.map(|found| {
                // Finding nothing is no read; what it costs to wait is not asked here.
                if !found.batches.is_empty() {
                    self.metrics.fetch.seconds(found.source).observe(elapsed);
                }
                Fetched {
                    snapshot: found.snapshot,
                    records: Records::frame(&found.batches, found.snapshot.leader_epoch),
                    source: found.source,
                    aborted: found.aborted,
                }
            }));
        }
        results
            .into_iter()
            .map(|result| result.unwrap_or(Err(ReadError::UnknownPartition)))
            .collect()
    }

    /// Shares the response's bytes out among the partitions, in the order given.
    async fn plan(&self, request: &FetchRequest, order: &[usize]) -> Result<Vec<(usize, Plan)>, ReadError> {
        let mut tails = Vec::with_capacity(order.len());
        let mut lookups = Vec::new();
        for &at in order {
            let wanted = &request.partitions[at];
            let most = wanted.max_bytes.min(request.max_bytes);
            let tail = if request.read_committed {
                None
            } else {
                self.tail.read(wanted.partition, wanted.offset, most)
            };
            if tail.is_none() {
                lookups.push(Lookup {
                    partition: wanted.partition,
                    offset: wanted.offset,
                    max_bytes: most as u64 + self.options.read_ahead_bytes,
                    read_committed: request.read_committed,
                });
            }
            tails.push((at, tail));
        }
        let mut located = if lookups.is_empty() {
            Vec::new()
        } else {
            self.metadata.lookup(&lookups).await?
        }
        .into_iter();
        let mut remaining = request.max_bytes;
        // Segments are loaded whole: what one fetch holds of them must leave room for others.
        let mut loading = self.options.fetch_bytes / 2;
        let mut first = true;
        let mut plans = Vec::with_capacity(order.len());
        for (at, tail) in tails {
            let wanted = &request.partitions[at];
            let budget = wanted.max_bytes.min(remaining);
            let plan = match tail {
                Some((snapshot, mut batches)) => {
                    keep_within(&mut batches, budget, first);
                    let taken: usize = batches.iter().map(|(_, batch)| batch.len()).sum();
                    remaining = remaining.saturating_sub(taken);
                    first &= batches.is_empty();
                    Plan::Done(Ok(Found {
                        snapshot,
                        aborted: Vec::new(),
                        batches,
                        source: FetchSource::Tail,
                    }))
                }
                None => match located.next() {
                    Some(Ok(located)) if let Some(mut batches) = self.stable_tail(request, at, &located) => {
                        keep_within(&mut batches, budget, first);
                        let taken: usize = batches.iter().map(|(_, batch)| batch.len()).sum();
                        remaining = remaining.saturating_sub(taken);
                        first &= batches.is_empty();
                        Plan::Done(Ok(Found {
                            snapshot: located.snapshot,
                            aborted: located.aborted,
                            batches,
                            source: FetchSource::Tail,
                        }))
                    }
                    Some(Ok(located)) => {
                        let available: usize = located
                            .segments
                            .iter()
                            .map(|s| s.segment.length_bytes as usize)
                            .sum();
                        let load_bytes = load_bytes(&located, budget);
                        let budget = if load_bytes <= loading { budget } else { 0 };
                        let plan = self.plan_load(wanted, located, budget, first);
                        if let Plan::Load { .. } = plan {
                            loading = loading.saturating_sub(load_bytes);
                            remaining = remaining.saturating_sub(available.min(budget).max(1));
                            first = false;
                        }
                        plan
                    }
                    Some(Err(error)) => Plan::Done(Err(error.into())),
                    None => Plan::Done(Err(ReadError::UnknownPartition)),
                },
            };
            plans.push((at, plan));
        }
        Ok(plans)
    }

    /// What the tail holds of a partition of which the store has just told what is stable.
    fn stable_tail(&self, request: &FetchRequest, at: usize, located: &Located) -> Option<Batches> {
        let wanted = &request.partitions[at];
        let mut end = readable_end(&located.snapshot, request.read_committed);
        let most = wanted.max_bytes.min(request.max_bytes);
        if wanted.offset < located.snapshot.log_start_offset {
            return None;
        }
        if request.read_committed {
            // Of what lies behind the segments that were looked up, nobody has said what was aborted.
            end = end.min(located.segments.last()?.segment.last_offset + 1);
        }
        self.tail.batches(wanted.partition, wanted.offset, end, most)
    }

    fn plan_load(&self, wanted: &FetchPartition, located: Located, budget: usize, first: bool) -> Plan {
        let snapshot = located.snapshot;
        if wanted.offset < snapshot.log_start_offset || wanted.offset > snapshot.high_watermark {
            return Plan::Done(Err(ReadError::OutOfRange {
                offset: wanted.offset,
                snapshot,
            }));
        }
        if located.segments.is_empty() || (budget == 0 && !first) {
            return Plan::Done(Ok(Found {
                snapshot,
                aborted: Vec::new(),
                batches: Vec::new(),
                source: FetchSource::Tail,
            }));
        }
        Plan::Load { located, budget }
    }

    async fn load(
        &self,
        wanted: &FetchPartition,
        mut located: Located,
        budget: usize,
        read_committed: bool,
    ) -> Read {
        for _ in 0..LOOKUPS_MAX {
            let end = readable_end(&located.snapshot, read_committed);
            let gone = match self.load_located(wanted, &located, budget, end).await {
                Ok(loaded) => return Ok(found(located, loaded)),
                Err(LoadError::Read(error)) => return Err(error),
                Err(LoadError::Gone(object)) => object,
            };
            // Compacted or deleted between look-up and read (TRACES 17), unless it is named still.
            let lookup = Lookup {
                partition: wanted.partition,
                offset: wanted.offset,
                max_bytes: budget as u64,
                read_committed,
            };
            located = self
                .metadata
                .lookup(&[lookup])
                .await?
                .pop()
                .ok_or(ReadError::UnknownPartition)??;
            let snapshot = located.snapshot;
            if wanted.offset < snapshot.log_start_offset || wanted.offset > snapshot.high_watermark {
                return Err(ReadError::OutOfRange {
                    offset: wanted.offset,
                    snapshot,
                });
            }
            if located
                .segments
                .iter()
                .any(|segment| segment.object.id == gone.id)
            {
                return Err(self.segments.missing(gone).await);
            }
        }
        Err(ReadError::Moving)
    }

    async fn load_located(
        &self,
        wanted: &FetchPartition,
        located: &Located,
        budget: usize,
        end: i64,
    ) -> Result<(Batches, FetchSource), LoadError> {
        let mut batches: Batches = Vec::new();
        let mut bytes = 0;
        let mut from = FetchSource::Memory;
        // Begun before the first one is waited for: what this read needs of them comes meanwhile, too.
        if self.options.read_ahead_bytes > 0 {
            for ahead in located.segments.iter().skip(1) {
                self.segments.prefetch(*ahead);
            }
        }
        for next in &located.segments {
            let (loaded, source) = match self.segments.get(next).await {
                Ok(loaded) => loaded,
                // What was read is good. Who comes for the next records is told what is wrong with them.
                Err(LoadError::Read(_)) if !batches.is_empty() => break,
                Err(error) => return Err(error),
            };
            if source != FetchSource::Memory {
                from = source;
            }
            let base = next.segment.base_offset;
            let left = budget.saturating_sub(bytes);
            let (mut more, complete) =
                loaded.batches(base, wanted.offset.max(base), left, batches.is_empty());
            // A segment may go on behind the last stable offset, which is where some batch begins.
            more.truncate(more.partition_point(|(base, _)| *base < end));
            bytes += more.iter().map(|(_, batch)| batch.len()).sum::<usize>();
            batches.extend(more);
            if bytes >= budget || !complete {
                break;
            }
        }
        Ok((batches, from))
    }
}

fn found(located: Located, (batches, source): (Batches, FetchSource)) -> Found {
    Found {
        snapshot: located.snapshot,
        aborted: located.aborted,
        batches,
        source,
    }
}

/// One past the last offset that may be returned.
fn readable_end(snapshot: &PartitionSnapshot, read_committed: bool) -> i64 {
    if read_committed {
        snapshot.last_stable_offset
    } else {
        snapshot.high_watermark
    }
}

/// What has to be loaded to read `budget` bytes, the first segment in any case.
fn load_bytes(located: &Located, budget: usize) -> u64 {
    let mut bytes = 0;
    for segment in &located.segments {
        if bytes > 0 && bytes >= budget as u64 {
            break;
        }
        bytes += u64::from(segment.segment.length_bytes);
    }
    bytes
}

/// Cuts the batches to `budget` bytes; the first one stays where `at_least_one` asks for it.
fn keep_within(batches: &mut Batches, budget: usize, at_least_one: bool) {
    let mut bytes = 0;
    let mut kept = 0;
    for (_, batch) in batches.iter() {
        if bytes + batch.len() > budget && !(kept == 0 && at_least_one) {
            break;
        }
        bytes += batch.len();
        kept += 1;
    }
    batches.truncate(kept);
}
