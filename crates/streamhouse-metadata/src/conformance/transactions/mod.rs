//! Cases of transactions: what joins one, what its end makes visible in one step, what a retry gets.

mod administrator;
mod ending;
mod identity;
mod joining;
mod offsets;

pub use self::administrator::*;
pub use self::ending::*;
pub use self::identity::*;
pub use self::joining::*;
pub use self::offsets::*;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bench::{Bench, stamped};
use crate::ids::TopicPartition;
use crate::model::commit::{AppendRefusal, BatchEntry, BatchOutcome, BatchTransaction};
use crate::model::partition::PartitionSnapshot;
use crate::model::segment::{Located, Lookup};
use crate::model::transaction::{MarkerObject, Markers, ProducerIdentity, TransactionResult};
use crate::store::transactions::{EncodeMarkers, EndTransaction, Ended, InitTransaction, TransactionError};

const MARKER_BYTES: u32 = 10;
const TIMEOUT: Duration = Duration::from_secs(60);
const ID: &str = "payments-1";

/// Ten bytes a marker: whom it names and how the transaction ended are for readers of batches.
fn encoder() -> EncodeMarkers {
    Arc::new(|markers: &Markers<'_>| {
        let places = (0_u64..).take(markers.partitions.len());
        MarkerObject {
            payload: Bytes::from(vec![7; markers.partitions.len() * MARKER_BYTES as usize]),
            batches: places
                .map(|at| (at * u64::from(MARKER_BYTES), MARKER_BYTES))
                .collect(),
        }
    })
}

async fn try_init(
    bench: &dyn Bench,
    recovering: Option<ProducerIdentity>,
) -> Result<Ended, TransactionError> {
    let init = InitTransaction {
        transactional_id: ID.to_owned(),
        timeout_ms: i32::try_from(TIMEOUT.as_millis()).expect("small"),
        recovering,
        transactional_ids_max: 2,
        encode: encoder(),
    };
    bench.store().init_transaction(init).await
}

async fn init(bench: &dyn Bench) -> ProducerIdentity {
    try_init(bench, None).await.expect("an identity").producer
}

async fn try_end(
    bench: &dyn Bench,
    producer: ProducerIdentity,
    result: TransactionResult,
    bump_epoch: bool,
) -> Result<Ended, TransactionError> {
    let end = EndTransaction {
        transactional_id: ID.to_owned(),
        producer,
        result,
        bump_epoch,
        encode: encoder(),
    };
    bench.store().end_transaction(end).await
}

async fn end(bench: &dyn Bench, producer: ProducerIdentity, result: TransactionResult) -> Ended {
    try_end(bench, producer, result, false).await.expect("ended")
}

/// One record of a transaction.
fn one(partition: TopicPartition, producer: ProducerIdentity, sequence: i32) -> BatchEntry {
    BatchEntry {
        transaction: Some(BatchTransaction { implicit: false }),
        ..stamped(partition, producer.producer_id, producer.epoch, sequence, 1)
    }
}

fn implicit(partition: TopicPartition, producer: ProducerIdentity, sequence: i32) -> BatchEntry {
    BatchEntry {
        transaction: Some(BatchTransaction { implicit: true }),
        ..one(partition, producer, sequence)
    }
}

async fn add(bench: &dyn Bench, producer: ProducerIdentity, partitions: &[TopicPartition]) {
    let added = bench.store().add_partitions(ID, producer, partitions).await;
    added.expect("added");
}

async fn snapshot(bench: &dyn Bench, partition: TopicPartition) -> PartitionSnapshot {
    let mut snapshots = bench.store().snapshots(&[partition]).await.expect("snapshots");
    snapshots.remove(0).expect("a known partition")
}

/// High watermark and last stable offset.
async fn ends(bench: &dyn Bench, partition: TopicPartition) -> (i64, i64) {
    let snapshot = snapshot(bench, partition).await;
    (snapshot.high_watermark, snapshot.last_stable_offset)
}

async fn committed_from(bench: &dyn Bench, partition: TopicPartition, offset: i64) -> Located {
    let lookup = Lookup {
        partition,
        offset,
        max_bytes: u64::MAX,
        read_committed: true,
    };
    let mut answers = bench.store().lookup(&[lookup]).await.expect("looked up");
    answers.remove(0).expect("a known partition")
}

fn refused(outcome: &BatchOutcome) -> &AppendRefusal {
    match outcome {
        BatchOutcome::Refused(refusal) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}
