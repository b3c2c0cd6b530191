//! The bench a case works on: a store that can be restarted, a clock it owns, and short words for what
//! agents do. Panics are how a case fails.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::ids::{IncarnationId, StoreTime, TopicPartition};
use crate::model::commit::{BatchEntry, BatchOutcome, CommitAnswer, CommitObject, CommitRequest};
use crate::model::producer::ProducerStamp;
use crate::model::segment::{LocatedSegment, Lookup};
use crate::model::topic::{NewTopic, Topic, TopicConfig, TopicLimits};
use crate::store::{CommitError, MetadataStore};

/// Limits that no case meets unless it means to.
pub const LIMITS: TopicLimits = TopicLimits {
    topics_max: 1_000,
    partitions_max: 10_000,
};
/// Bytes of one batch in these cases.
pub const BATCH_BYTES: u32 = 100;

/// What a store brings so that its conformance can be tested.
#[async_trait]
pub trait Bench: Send + Sync {
    fn store(&self) -> Arc<dyn MetadataStore>;
    /// Moves the store's clock.
    fn advance(&self, by: Duration);
    /// Stops the store and starts it again; a store that keeps nothing does nothing.
    async fn restart(&mut self);
    /// As the store was opened.
    fn gap_timeout(&self) -> Duration;
    /// As the store was opened.
    fn inline_total_max(&self) -> u64;
}

/// A batch of `count` records whose timestamps end at `max_timestamp`.
#[must_use]
pub fn batch(partition: TopicPartition, count: u32, max_timestamp: i64) -> BatchEntry {
    BatchEntry {
        index: 0,
        partition,
        position: 0,
        length_bytes: BATCH_BYTES,
        record_count: count,
        max_timestamp,
        producer: None,
        transaction: None,
    }
}

/// A batch of an idempotent producer.
#[must_use]
pub fn stamped(partition: TopicPartition, id: i64, epoch: i16, sequence: i32, count: u32) -> BatchEntry {
    let stamp = ProducerStamp {
        producer_id: id,
        epoch,
        base_sequence: sequence,
    };
    BatchEntry {
        producer: Some(stamp),
        ..batch(partition, count, 0)
    }
}

/// A stored object of batches side by side.
#[must_use]
pub fn object(counter: u64, batches: &[BatchEntry]) -> CommitObject {
    let mut batches = batches.to_vec();
    let mut position = 0;
    for (index, batch) in (0..).zip(&mut batches) {
        batch.index = index;
        batch.position = position;
        position += u64::from(batch.length_bytes);
    }
    CommitObject {
        counter,
        length_bytes: position,
        payload: None,
        batches,
    }
}

/// The same, inline; the payload holds the counter in every byte.
#[must_use]
pub fn inline(counter: u64, batches: &[BatchEntry]) -> CommitObject {
    let mut object = object(counter, batches);
    let length = usize::try_from(object.length_bytes).expect("small");
    object.payload = Some(Bytes::from(vec![counter.to_le_bytes()[0]; length]));
    object
}

/// An agent: it numbers its commits and objects.
#[derive(Debug)]
pub struct Agent {
    pub incarnation: IncarnationId,
    pub number: u64,
    pub counter: u64,
}

impl Agent {
    pub async fn start(bench: &dyn Bench) -> Self {
        let registered = bench
            .store()
            .register("localhost:9092")
            .await
            .expect("registered");
        Self {
            incarnation: registered.incarnation,
            number: 0,
            counter: 0,
        }
    }

    /// The next commit of these objects, valid for a minute.
    pub async fn request(&self, bench: &dyn Bench, objects: Vec<CommitObject>) -> CommitRequest {
        let now = bench.store().now().await.expect("the time");
        CommitRequest {
            incarnation: self.incarnation,
            number: self.number + 1,
            valid_until: StoreTime(now.0 + 60_000),
            objects,
            lowest_undecided: self.counter,
        }
    }

    pub async fn commit(
        &mut self,
        bench: &dyn Bench,
        objects: Vec<CommitObject>,
    ) -> Result<CommitAnswer, CommitError> {
        let request = self.request(bench, objects).await;
        let answer = bench.store().commit(request).await?;
        self.number += 1;
        Ok(answer)
    }

    /// Commits one stored object and returns the outcomes of its batches.
    pub async fn put(&mut self, bench: &dyn Bench, batches: &[BatchEntry]) -> Vec<BatchOutcome> {
        self.counter += 1;
        let answer = self
            .commit(bench, vec![object(self.counter, batches)])
            .await
            .expect("committed");
        outcomes(&answer)
    }

    /// Commits one inline object and returns the outcomes of its batches.
    pub async fn put_inline(&mut self, bench: &dyn Bench, batches: &[BatchEntry]) -> Vec<BatchOutcome> {
        self.counter += 1;
        let answer = self
            .commit(bench, vec![inline(self.counter, batches)])
            .await
            .expect("committed");
        outcomes(&answer)
    }
}

/// All outcomes of an answer, in order.
#[must_use]
pub fn outcomes(answer: &CommitAnswer) -> Vec<BatchOutcome> {
    answer
        .objects
        .iter()
        .flat_map(|o| o.batches.iter().map(|(_, outcome)| outcome.clone()))
        .collect()
}

#[must_use]
pub fn appended(base_offset: i64) -> BatchOutcome {
    BatchOutcome::Appended {
        base_offset,
        log_start_offset: 0,
    }
}

#[must_use]
pub fn duplicate(base_offset: i64) -> BatchOutcome {
    BatchOutcome::Duplicate {
        base_offset,
        log_start_offset: 0,
    }
}

pub async fn topic(bench: &dyn Bench, name: &str, partitions: i32) -> Topic {
    let new = NewTopic {
        name: name.to_owned(),
        partitions,
        config: TopicConfig::default(),
    };
    bench.store().create_topic(new, LIMITS).await.expect("created")
}

#[must_use]
pub fn partition_of(topic: &Topic, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: topic.id,
        partition,
    }
}

pub async fn settle(bench: &dyn Bench) {
    while !bench.store().settle().await.expect("settled") {}
}

pub async fn purge(bench: &dyn Bench) {
    while !bench.store().purge_deleted(3).await.expect("purged") {}
}

/// Looks up from `offset` and checks that what comes tiles the log.
pub async fn look_up(
    bench: &dyn Bench,
    partition: TopicPartition,
    offset: i64,
    max_bytes: u64,
) -> Vec<LocatedSegment> {
    let lookup = Lookup {
        partition,
        offset,
        max_bytes,
        read_committed: false,
    };
    let mut answers = bench.store().lookup(&[lookup]).await.expect("looked up");
    let located = answers.pop().expect("one answer").expect("a known partition");
    let snapshot = located.snapshot;
    let inside = (snapshot.log_start_offset..snapshot.high_watermark).contains(&offset);
    assert_eq!(
        inside,
        !located.segments.is_empty(),
        "an answer if and only if the offset is inside"
    );
    if let Some(first) = located.segments.first() {
        let (base, last) = (first.segment.base_offset, first.segment.last_offset);
        assert!(
            (base..=last).contains(&offset),
            "{offset} is not in {base}..={last}"
        );
    }
    for pair in located.segments.windows(2) {
        assert_eq!(
            pair[0].segment.last_offset + 1,
            pair[1].segment.base_offset,
            "segments tile"
        );
    }
    for found in &located.segments {
        assert_eq!(
            found.segment.object, found.object.id,
            "a segment comes with its own object"
        );
        assert_eq!(found.segment.partition, partition);
    }
    located.segments
}

/// Reads the whole log of a partition and checks that it ends at the high watermark.
pub async fn whole_log(bench: &dyn Bench, partition: TopicPartition) -> Vec<LocatedSegment> {
    let snapshots = bench.store().snapshots(&[partition]).await.expect("snapshots");
    let snapshot = snapshots
        .into_iter()
        .next()
        .expect("one")
        .expect("a known partition");
    let mut log: Vec<LocatedSegment> = Vec::new();
    let mut offset = snapshot.log_start_offset;
    while offset < snapshot.high_watermark {
        let found = look_up(bench, partition, offset, 350).await;
        offset = found.last().expect("segments").segment.last_offset + 1;
        log.extend(found);
    }
    // More only where a case commits meanwhile.
    assert!(offset >= snapshot.high_watermark);
    log
}
