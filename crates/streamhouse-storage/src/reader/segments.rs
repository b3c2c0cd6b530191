//! Older segments: loaded whole by one range GET (or from their inline row), kept in a bounded cache;
//! look-ups that come while a segment is being loaded join that load.
//!
//! What is loaded carries a permit of the memory it takes, until the last slice of it is gone: cache and
//! responses under way together stay within `cache_bytes` + `fetch_bytes`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foyer::{Cache, CacheBuilder, Event, EventListener, Source};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use streamhouse_metadata::ids::ObjectId;
use streamhouse_metadata::model::object::ObjectLocation;
use streamhouse_metadata::model::segment::LocatedSegment;
use streamhouse_metadata::store::MetadataStore;
use streamhouse_observability::families::{CacheResult, FetchSource};
use streamhouse_observability::{Counter, Metrics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::{ReadError, ReaderOptions};
use crate::batch::BatchHeader;
use crate::object::key_of;
use crate::stores::identity::IDENTITY_KEY;

/// What a loaded segment costs beyond its bytes: its index, its owner, its place in the cache. Cache and
/// budget count it alike: a cached segment that held more of the budget than it weighs would be kept,
/// and many small ones would use the budget up for good.
const OVERHEAD_BYTES: u32 = 256;
/// How long a load waits for memory that responses under way still hold.
const MEMORY_WAIT: Duration = Duration::from_secs(10);
/// An index entry is kept for about this many bytes.
const INDEX_STRIDE_BYTES: usize = 64 << 10;
/// One shard of the cache holds at least this, so that large segments fit into it.
const SHARD_BYTES: u64 = 256 << 20;

type Key = (ObjectId, u64);

/// A loaded segment: its bytes and the places of some of its batches.
#[derive(Debug)]
pub(super) struct Loaded {
    bytes: Bytes,
    weight_bytes: u32,
    /// Base offset relative to the segment's, and position; ascending, the first is (0, 0).
    index: Vec<(i64, usize)>,
}

/// Bytes that return their memory permit when the last slice of them is dropped.
struct Charged {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a load failed; `Gone` means the segment has moved or was deleted: look it up again.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("the object {} is gone", .0.name)]
    Gone(ObjectLocation),
    #[error(transparent)]
    Read(#[from] ReadError),
}

pub(super) struct Segments {
    cache: Cache<Key, Arc<Loaded>>,
    loader: Arc<Loader>,
    metrics: Arc<Metrics>,
}

/// Counts what made room; what was replaced or removed did not.
struct Evictions(Counter);

impl EventListener for Evictions {
    type Key = Key;
    type Value = Arc<Loaded>;

    fn on_leave(&self, reason: Event, _: &Key, _: &Arc<Loaded>) {
        if reason == Event::Evict {
            self.0.inc();
        }
    }
}

struct Loader {
    metadata: Arc<dyn MetadataStore>,
    objects: Arc<dyn ObjectStore>,
    memory: Arc<Semaphore>,
    /// No load asks for more, so that what a full cache leaves of the budget is enough for any.
    charge_max: u32,
}

impl Segments {
    /// What it means that the metadata still names an object of which the store has none. A store without its own mark
    /// has lost all or is another one, which is no damage of this object.
    pub(super) async fn missing(&self, object: ObjectLocation) -> ReadError {
        let mark = Path::from(IDENTITY_KEY);
        let name = object.name.to_string();
        if object.inline || self.loader.objects.head(&mark).await.is_ok() {
            ReadError::Missing { object: name }
        } else {
            ReadError::ObjectStore {
                object: name,
                error: "neither the object nor the store's own mark is found".to_owned(),
            }
        }
    }

    pub(super) fn new(
        options: &ReaderOptions,
        metadata: Arc<dyn MetadataStore>,
        objects: Arc<dyn ObjectStore>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let cache = CacheBuilder::new(options.cache_bytes as usize)
            .with_shards(options.cache_bytes.div_ceil(SHARD_BYTES).clamp(1, 16) as usize)
            .with_weighter(|_: &Key, loaded: &Arc<Loaded>| loaded.weight_bytes as usize)
            .with_event_listener(Arc::new(Evictions(metrics.cache.evictions.clone())))
            .build();
        let held = cache.clone();
        metrics.register_cache_size(move || held.usage() as u64);
        metrics.cache.limit_bytes.set(options.cache_bytes as i64);
        let budget_bytes =
            (options.cache_bytes + options.fetch_bytes).clamp(2, Semaphore::MAX_PERMITS as u64);
        let memory = Arc::new(Semaphore::new(budget_bytes as usize));
        let charge_max = options.fetch_bytes.clamp(1, budget_bytes / 2);
        let loader = Arc::new(Loader {
            metadata,
            objects,
            memory,
            charge_max: u32::try_from(charge_max).unwrap_or(u32::MAX),
        });
        Self {
            cache,
            loader,
            metrics,
        }
    }

    /// The segment's bytes, and where they came from.
    pub(super) async fn get(
        &self,
        located: &LocatedSegment,
    ) -> Result<(Arc<Loaded>, FetchSource), LoadError> {
        let key = (located.object.id, located.segment.position);
        let (loader, wanted) = (self.loader.clone(), *located);
        let fetched = self.cache.get_or_fetch(
            &key,
            // The cache runs it in a task of its own.
            move || async move { loader.load(&wanted).await.map(Arc::new) }.in_current_span(),
        );
        let immediate = !fetched.need_await();
        let entry = fetched
            .await
            .map_err(|error| match error.downcast_ref::<LoadError>() {
                Some(load) => load.clone(),
                None => ReadError::ObjectStore {
                    object: located.object.name.to_string(),
                    error: error.to_string(),
                }
                .into(),
            });
        let hit = immediate && entry.as_ref().is_ok_and(|entry| entry.source() == Source::Memory);
        let (counter, result, source) = if hit {
            (&self.metrics.cache.hits, CacheResult::Hit, FetchSource::Memory)
        } else {
            (
                &self.metrics.cache.misses,
                CacheResult::Miss,
                FetchSource::ObjectStore,
            )
        };
        counter.inc();
        let loaded = entry?.value().clone();
        self.metrics
            .cache
            .bytes_total(result)
            .add(loaded.bytes.len() as u64);
        Ok((loaded, source))
    }

    /// Loads a segment that will probably be asked for next, if there is memory to spare. It takes that memory at
    /// once or not at all: it never stands before what somebody waits for.
    pub(super) fn prefetch(self: &Arc<Self>, located: LocatedSegment) {
        let key = (located.object.id, located.segment.position);
        let charge = self.loader.charge(located.segment.length_bytes);
        let memory = &self.loader.memory;
        if self.cache.contains(&key) || memory.available_permits() / 2 < charge as usize {
            return;
        }
        let Ok(permit) = memory.clone().try_acquire_many_owned(charge) else {
            return;
        };
        let segments = self.clone();
        tokio::spawn(async move {
            let loader = segments.loader.clone();
            // A failure shows again, and is told, when the segment is really read.
            let _ = segments
                .cache
                .get_or_fetch(&key, move || async move {
                    loader.load_into(permit, &located).await.map(Arc::new)
                })
                .await;
        });
    }
}

impl Loader {
    fn charge(&self, length_bytes: u32) -> u32 {
        weight(length_bytes).min(self.charge_max)
    }

    async fn load(&self, located: &LocatedSegment) -> Result<Loaded, LoadError> {
        let charge = self.charge(located.segment.length_bytes);
        let granted = timeout(MEMORY_WAIT, self.memory.clone().acquire_many_owned(charge)).await;
        let Ok(Ok(permit)) = granted else {
            return Err(ReadError::Busy.into());
        };
        self.load_into(permit, located).await
    }

    /// Loads into memory that is granted.
    async fn load_into(
        &self,
        permit: OwnedSemaphorePermit,
        located: &LocatedSegment,
    ) -> Result<Loaded, LoadError> {
        let bytes = self.read(located).await?;
        let damaged = |at: i64| ReadError::Damaged {
            partition: located.segment.partition,
            offset: located.segment.base_offset + at,
        };
        if bytes.len() != located.segment.length_bytes as usize {
            return Err(damaged(0).into());
        }
        let index = index(&bytes, located).map_err(damaged)?;
        Ok(Loaded {
            bytes: Bytes::from_owner(Charged {
                bytes,
                _permit: permit,
            }),
            weight_bytes: weight(located.segment.length_bytes),
            index,
        })
    }

    async fn read(&self, located: &LocatedSegment) -> Result<Bytes, LoadError> {
        let start = located.segment.position;
        let range = start..start + u64::from(located.segment.length_bytes);
        if located.object.inline {
            let payload = self
                .metadata
                .inline_payload(located.object.id)
                .await
                .map_err(ReadError::from)?;
            let payload = payload.ok_or(LoadError::Gone(located.object))?;
            let segment = payload.get(range.start as usize..range.end as usize);
            return Ok(match segment.unwrap_or_default() {
                // A small part would keep the whole in memory, of which nobody has been charged.
                small if small.len() < payload.len() / 2 => Bytes::copy_from_slice(small),
                large => payload.slice_ref(large),
            });
        }
        let name = located.object.name;
        match self.objects.get_range(&key_of(&name), range).await {
            Ok(bytes) => Ok(bytes),
            Err(object_store::Error::NotFound { .. }) => Err(LoadError::Gone(located.object)),
            Err(error) => Err(ReadError::ObjectStore {
                object: name.to_string(),
                error: error.to_string(),
            }
            .into()),
        }
    }
}

fn weight(length_bytes: u32) -> u32 {
    length_bytes.saturating_add(OVERHEAD_BYTES)
}

/// Walks the batches once: they have to fill the segment and carry the offsets its row says.
/// The error is the relative offset at which that ends.
fn index(bytes: &[u8], located: &LocatedSegment) -> Result<Vec<(i64, usize)>, i64> {
    let mut index = vec![(0, 0)];
    let (mut offset, mut position) = (0i64, 0usize);
    while position < bytes.len() {
        let header = BatchHeader::parse(&bytes[position..]).map_err(|_| offset)?;
        let last = index.last().map_or(0, |(_, position)| *position);
        if position - last >= INDEX_STRIDE_BYTES {
            index.push((offset, position));
        }
        position += header.length_bytes;
        offset += i64::from(header.last_offset_delta) + 1;
    }
    let records = located.segment.last_offset - located.segment.base_offset + 1;
    if position == bytes.len() && offset == records {
        Ok(index)
    } else {
        Err(offset)
    }
}

impl Loaded {
    /// Batches of the segment from the one that holds `offset` on, within `budget` bytes — the first one
    /// in any case where `at_least_one` says so — with the base offset of each; and whether the segment's
    /// last batch is among them.
    pub(super) fn batches(
        &self,
        base_offset: i64,
        offset: i64,
        budget: usize,
        at_least_one: bool,
    ) -> (Vec<(i64, Bytes)>, bool) {
        let mut bytes = 0;
        let mut batches = Vec::new();
        for (base, header, position) in self.walk(base_offset, offset) {
            let wanted_anyway = at_least_one && batches.is_empty();
            if bytes + header.length_bytes > budget && !wanted_anyway {
                return (batches, false);
            }
            bytes += header.length_bytes;
            batches.push((base, self.slice(position, header.length_bytes)));
        }
        (batches, true)
    }

    /// Base offset, header and position of each batch from the one that holds `offset` on.
    pub(super) fn walk(
        &self,
        base_offset: i64,
        offset: i64,
    ) -> impl Iterator<Item = (i64, BatchHeader, usize)> {
        let wanted = offset - base_offset;
        let entry = self
            .index
            .partition_point(|(relative, _)| *relative <= wanted)
            .saturating_sub(1);
        let (mut relative, mut position) = self.index[entry];
        std::iter::from_fn(move || {
            loop {
                // The index was built by the same walk over the whole segment.
                let header = BatchHeader::parse(self.bytes.get(position..)?).ok()?;
                let (base, at) = (relative, position);
                relative += i64::from(header.last_offset_delta) + 1;
                position += header.length_bytes;
                if relative > wanted {
                    return Some((base_offset + base, header, at));
                }
            }
        })
    }

    pub(super) fn slice(&self, position: usize, length_bytes: usize) -> Bytes {
        self.bytes.slice(position..position + length_bytes)
    }
}
