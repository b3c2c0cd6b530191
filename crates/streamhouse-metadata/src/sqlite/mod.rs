//! The embedded store: SQLite on a thread of its own, alone with its file.
//!
//! Being alone it keeps the newest state in memory (`hot`), appends each commit as one row with one
//! fsync (`commit`), and merges into the ordered tables in bulk (`settle`). Reads are answered from memory
//! where they can be (`lookup`, `search`), else by a second connection on a second thread. This file
//! opens the store and hands every question to its room; it decides nothing.

mod admin;
mod commit;
mod encoding;
mod ending;
mod fault;
mod groups;
mod hot;
mod incarnations;
mod load;
mod lock;
mod lookup;
mod objects;
mod open;
mod options;
mod placed;
mod presence;
mod producers;
mod retention;
mod schema;
mod search;
mod settings;
mod settle;
mod swap;
mod threads;
mod topics;
mod transactions;
mod watched;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;
use streamhouse_observability::health::Access;

pub use self::open::SqliteStore;
pub use self::options::{Location, OpenError, SqliteOptions, Watched};
use self::search::Found;
use self::swap::SWAP_ROWS_MAX;
use self::watched::Watch;
use self::writer::Writer;
use crate::ids::{IncarnationId, ObjectId, StoreTime, TopicId, TopicPartition};
use crate::model::commit::{CommitAnswer, CommitRequest};
use crate::model::object::{
    DeletingObject, InlineBacklog, InlineBatch, StorageUsage, StoredObject, Swap, SwapResult,
};
use crate::model::partition::PartitionSnapshot;
use crate::model::segment::{Located, LocatedSegment, Lookup, TimestampQuery};
use crate::model::topic::{NewTopic, Topic, TopicLimits};
use crate::store::{
    Cluster, CommitError, LookupError, MetadataStore, Registered, StoreError, SwapError, TopicError,
};

/// Reads that met a change are repeated; each time newer memory is asked, so more than a few cannot be.
const READ_TRIES_MAX: usize = 16;
/// Producer rows looked at in one piece of an expiry.
const EXPIRE_ROWS: usize = 2_048;

impl SqliteStore {
    async fn write<T, E>(
        &self,
        job: impl FnOnce(&mut Writer) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: fault::Fault + From<StoreError> + Send + 'static,
    {
        let mut watch = Watch::begin(&self.shared, Access::Write);
        let run = move |writer: &mut Writer| {
            let before = writer.conn.total_changes();
            let answer = writer.guard(job);
            let wrote = writer.conn.total_changes() != before;
            watch.ended(wrote, answer.as_ref().err().and_then(fault::Fault::fault));
            answer
        };
        self.writer.run(run).await?
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match &self.reader {
            Some(reader) => {
                let mut watch = Watch::begin(&self.shared, Access::Read);
                let run = move |reader: &mut open::Reader| {
                    let answer = job(&reader.0);
                    watch.ended(false, answer.as_ref().err());
                    answer
                };
                reader.run(run).await?
            }
            None => self.write(|writer| job(&writer.conn)).await,
        }
    }

    /// The largest timestamp of a log that has lost what raised its running maximum. Looks at every row:
    /// it is rare that a log loses that, and rarer that somebody then asks.
    async fn largest_timestamp(&self, id: TopicPartition) -> Result<Option<i64>, StoreError> {
        let (row, start, recent) = {
            let hot = self.shared.hot.read();
            let Some(partition) = hot.live(&id) else {
                return Ok(None);
            };
            let start = partition.state.log_start_offset;
            let kept = partition.recent.iter().filter(|s| s.last_offset >= start);
            (partition.row, start, kept.map(|s| s.max_timestamp).max())
        };
        let merged = self
            .read(move |conn| search::largest_timestamp(conn, row, start))
            .await?;
        Ok(merged.max(recent))
    }

    /// Merges everything that was committed before the call.
    async fn settle_all(&self) -> Result<(), StoreError> {
        let target = self
            .write(|writer| Ok::<_, StoreError>(writer.next_commit - 1))
            .await?;
        let slice = move |writer: &mut Writer| {
            if writer.merged_commit < target {
                writer.merge_some()?;
            }
            Ok::<_, StoreError>(writer.merged_commit >= target)
        };
        while !self.write(slice).await? {}
        Ok(())
    }
}

#[async_trait]
impl MetadataStore for SqliteStore {
    fn cluster(&self) -> Cluster {
        Cluster {
            id: self.shared.cluster,
            epoch: self.shared.hot.read().epoch,
        }
    }

    async fn now(&self) -> Result<StoreTime, StoreError> {
        Ok(self.shared.now())
    }

    async fn probe(&self, write: bool) -> Result<(), StoreError> {
        if write {
            return self.write(|writer| watched::write_something(&writer.conn)).await;
        }
        self.read(watched::read_something).await
    }

    async fn register(&self, advertised: &str) -> Result<Registered, StoreError> {
        let advertised = advertised.to_owned();
        self.write(move |writer| writer.register(&advertised)).await
    }

    async fn fence(&self, incarnation: IncarnationId) -> Result<(), StoreError> {
        self.write(move |writer| writer.fence(incarnation)).await
    }

    async fn tombstones(&self, before: StoreTime) -> Result<Vec<(IncarnationId, u64)>, StoreError> {
        Ok(incarnations::tombstones(&self.shared, before))
    }

    async fn next_sweep(&self, put_deadline: Duration) -> Result<Option<StoreTime>, StoreError> {
        Ok(incarnations::next_sweep(&self.shared, put_deadline))
    }

    async fn unnamed(&self, incarnation: IncarnationId, counters: &[u64]) -> Result<Vec<u64>, StoreError> {
        let counters = counters.to_vec();
        self.read(move |conn| objects::unnamed(conn, incarnation, &counters))
            .await
    }

    async fn swept(&self, incarnation: IncarnationId, at: StoreTime) -> Result<(), StoreError> {
        self.write(move |writer| writer.swept(incarnation, at)).await
    }

    async fn create_topic(&self, topic: NewTopic, limits: TopicLimits) -> Result<Topic, TopicError> {
        self.write(move |writer| writer.create_topic(topic, limits)).await
    }

    async fn delete_topic(&self, id: TopicId) -> Result<(), TopicError> {
        self.write(move |writer| writer.delete_topic(id)).await
    }

    async fn create_partitions(
        &self,
        id: TopicId,
        total: i32,
        limits: TopicLimits,
    ) -> Result<Topic, TopicError> {
        self.write(move |writer| writer.create_partitions(id, total, limits))
            .await
    }

    async fn topics(&self) -> Result<Vec<Topic>, StoreError> {
        Ok(self.shared.hot.read().topics.values().cloned().collect())
    }

    async fn topics_by_name(&self, names: &[String]) -> Result<Vec<Option<Topic>>, StoreError> {
        let hot = self.shared.hot.read();
        Ok(names.iter().map(|name| hot.topic_named(name).cloned()).collect())
    }

    async fn topics_by_id(&self, ids: &[TopicId]) -> Result<Vec<Option<Topic>>, StoreError> {
        let hot = self.shared.hot.read();
        Ok(ids.iter().map(|id| hot.topics.get(id).cloned()).collect())
    }

    async fn commit(&self, request: CommitRequest) -> Result<CommitAnswer, CommitError> {
        self.write(move |writer| writer.commit(&request)).await
    }

    async fn allocate_producer_ids(&self, count: u32) -> Result<i64, StoreError> {
        self.write(move |writer| writer.allocate_producer_ids(count))
            .await
    }

    async fn lookup(&self, lookups: &[Lookup]) -> Result<Vec<Result<Located, LookupError>>, StoreError> {
        let mut answers: lookup::Answers = vec![None; lookups.len()];
        let mut open: Vec<_> = lookups.iter().copied().enumerate().collect();
        for _ in 0..READ_TRIES_MAX {
            let older = lookup::recall_all(&self.shared, &open, &mut answers);
            if !older.is_empty() {
                let shared = Arc::clone(&self.shared);
                let complete = move |conn: &Connection| {
                    let parts = older.into_iter();
                    parts
                        .map(|(place, part)| Ok((place, lookup::complete(conn, &shared, part)?)))
                        .collect::<Result<Vec<_>, StoreError>>()
                };
                for (place, located) in self.read(complete).await? {
                    answers[place] = located.map(Ok);
                }
            }
            open.retain(|(place, _)| answers[*place].is_none());
            if open.is_empty() {
                return Ok(answers.into_iter().flatten().collect());
            }
        }
        let hole = open
            .first()
            .map(|(_, lookup)| format!("{} at {}", lookup.partition, lookup.offset));
        Err(StoreError::Damaged(format!(
            "no segment holds {}",
            hole.unwrap_or_default()
        )))
    }

    async fn snapshots(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<PartitionSnapshot, LookupError>>, StoreError> {
        let hot = self.shared.hot.read();
        let snapshot = |id| {
            hot.live(id)
                .map(|p| hot.snapshot(p))
                .ok_or(LookupError::UnknownPartition)
        };
        Ok(partitions.iter().map(snapshot).collect())
    }

    async fn search_timestamp(
        &self,
        partition: TopicPartition,
        query: TimestampQuery,
    ) -> Result<Result<Option<LocatedSegment>, LookupError>, StoreError> {
        let mut past_table = None;
        for _ in 0..READ_TRIES_MAX {
            let found = search::recall(&self.shared.hot.read(), partition, query, past_table);
            let table = match found {
                Found::Answer(Ok(None)) if query == TimestampQuery::Max => {
                    // Who raised the running maximum is gone: the largest of what is left counts.
                    return match self.largest_timestamp(partition).await? {
                        Some(left) => {
                            let query = TimestampQuery::AtLeast(left);
                            self.search_timestamp(partition, query).await
                        }
                        None => Ok(Ok(None)),
                    };
                }
                Found::Answer(answer) => return Ok(answer),
                Found::Older(table) => table,
            };
            if let Some(found) = self.read(move |conn| table.run(conn)).await? {
                return Ok(Ok(Some(found)));
            }
            past_table = Some(table.end());
        }
        Err(StoreError::Unavailable(
            "the log moved on during a search".to_owned(),
        ))
    }

    async fn inline_payload(&self, object: ObjectId) -> Result<Option<Bytes>, StoreError> {
        self.read(move |conn| objects::payload(conn, object)).await
    }

    async fn inline_backlog(&self) -> Result<InlineBacklog, StoreError> {
        Ok(self.shared.hot.read().inline)
    }

    async fn storage_usage(&self) -> Result<StorageUsage, StoreError> {
        Ok(self.shared.hot.read().usage())
    }

    async fn stored_objects(&self, after: ObjectId, limit: u32) -> Result<Vec<StoredObject>, StoreError> {
        self.read(move |conn| objects::stored(conn, after, limit)).await
    }

    async fn inline_batch(&self, max_bytes: u64) -> Result<InlineBatch, StoreError> {
        if self.shared.hot.read().inline.objects == 0 {
            return Ok(InlineBatch::default());
        }
        self.settle_all().await?;
        let shared = Arc::clone(&self.shared);
        self.read(move |conn| objects::inline_batch(conn, &shared, max_bytes))
            .await
    }

    async fn swap(&self, swap: Swap) -> Result<SwapResult, SwapError> {
        let Swap {
            name,
            length_bytes,
            partitions,
        } = swap;
        let mut partitions = partitions.into_iter().peekable();
        let mut result = SwapResult::default();
        loop {
            let (mut chunk, mut rows) = (Vec::new(), 0);
            while let Some(next) = partitions.peek() {
                rows += next.replaced.len() + next.added.len();
                if !chunk.is_empty() && rows > SWAP_ROWS_MAX {
                    break;
                }
                chunk.extend(partitions.next());
            }
            let last = partitions.peek().is_none();
            let done = result.swapped;
            let job = move |w: &mut Writer| w.swap_chunk(name, length_bytes, &chunk, done, last);
            let chunk_result = self.write(job).await?;
            result.swapped = chunk_result.swapped;
            result.skipped += chunk_result.skipped;
            if last {
                return Ok(result);
            }
        }
    }

    async fn deleting_objects(
        &self,
        before: StoreTime,
        limit: u32,
    ) -> Result<Vec<DeletingObject>, StoreError> {
        self.read(move |conn| objects::deleting(conn, before, limit))
            .await
    }

    async fn forget_objects(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let objects = objects.to_vec();
        self.write(move |writer| writer.forget_objects(&objects)).await
    }

    async fn purge_deleted(&self, limit: u32) -> Result<bool, StoreError> {
        if self.shared.hot.read().deleted_topics.is_empty() {
            return Ok(true);
        }
        self.settle_all().await?;
        self.write(move |writer| writer.purge_chunk(limit)).await
    }

    async fn expire_producers(&self, before: StoreTime) -> Result<u64, StoreError> {
        self.settle_all().await?;
        let mut after = Some((i64::MIN, i64::MIN));
        let mut total = 0;
        while let Some(from) = after {
            let find = move |conn: &Connection| producers::expired_after(conn, from, before, EXPIRE_ROWS);
            let (keys, next) = self.read(find).await?;
            if !keys.is_empty() {
                total += self
                    .write(move |writer| writer.expire_chunk(&keys, before))
                    .await?;
            }
            after = next;
        }
        Ok(total)
    }

    async fn settle(&self) -> Result<bool, StoreError> {
        self.write(Writer::settle_slice).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.settle_all().await?;
        self.close_threads();
        Ok(())
    }
}
