//! An object on its way from the buffer to its commit.

use bytes::Bytes;
use streamhouse_metadata::ids::ObjectName;
use streamhouse_metadata::model::commit::{BatchEntry, CommitObject};
use tokio::time::Instant;
use tracing::Span;

use super::append::{AppendError, PartitionHandles, Pending};
use super::journey::Moments;
use crate::object::{BuiltObject, Part, build};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Uploading,
    Stored,
    Inline,
}

/// One batch of a sealed object. `index` names it in every version of the object's commit.
pub(super) struct SealedBatch {
    pub(super) index: u32,
    pub(super) position: u64,
    pub(super) pending: Pending,
}

pub(super) struct Sealed {
    pub(super) counter: u64,
    pub(super) place: Place,
    pub(super) payload: Vec<Bytes>,
    pub(super) length_bytes: u64,
    /// In object order. Withdrawn batches are gone from here; their bytes in the object are dead.
    pub(super) batches: Vec<SealedBatch>,
    /// One entry a segment: counted as flushed when its fate is committed.
    pub(super) segments: Vec<PartitionHandles>,
    pub(super) sealed_at: Instant,
    pub(super) durable_at: Instant,
    /// Around all that is done for the object.
    pub(super) span: Span,
}

impl Sealed {
    /// Groups the batches by partition, keeping each partition's order, and lays the object out.
    pub(super) fn new(counter: u64, inline: bool, mut batches: Vec<Pending>, now: Instant) -> Self {
        batches.sort_by_key(|pending| pending.partition); // stable
        let parts: Vec<_> = batches
            .iter()
            .map(|pending| Part {
                partition: pending.partition,
                bytes: pending.batch.bytes.clone(),
                batch_count: 1,
                record_count: pending.batch.header.record_count as u32,
            })
            .collect();
        let BuiltObject {
            payload,
            length_bytes,
            ..
        } = build(&parts);
        let segments = batches
            .chunk_by(|a, b| a.partition == b.partition)
            .map(|run| run[0].handles.clone())
            .collect();
        let mut position = 0;
        let batches = batches
            .into_iter()
            .zip(0u32..)
            .map(|(pending, index)| {
                let at = position;
                position += pending.batch.bytes.len() as u64;
                SealedBatch {
                    index,
                    position: at,
                    pending,
                }
            })
            .collect();
        let place = if inline { Place::Inline } else { Place::Uploading };
        Self {
            counter,
            place,
            payload,
            length_bytes,
            batches,
            segments,
            sealed_at: now,
            durable_at: now,
            span: Span::none(),
        }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.place != Place::Uploading
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.batches
            .iter()
            .filter(|b| b.pending.reply.is_some())
            .map(|b| b.pending.deadline)
            .min()
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.batches.iter().map(|batch| batch.pending.accepted_at).min()
    }

    /// What the object's batches share of their journeys.
    pub(super) fn moments(&self, object: ObjectName, commit_began_at: Option<Instant>) -> Moments {
        Moments {
            object,
            sealed_at: self.sealed_at,
            durable_at: self.is_durable().then_some(self.durable_at),
            commit_began_at,
        }
    }

    /// Answers every batch that still waits.
    pub(super) fn refuse(
        &mut self,
        moments: Moments,
        error: &AppendError,
        mut count: impl FnMut(&Pending, &AppendError),
    ) {
        let now = Instant::now();
        for batch in &mut self.batches {
            if let Some(reply) = batch.pending.reply.take() {
                count(&batch.pending, error);
                let journey = moments.journey(batch.pending.accepted_at, now);
                reply.send(Err(error.clone()), journey);
            }
        }
    }

    /// The object as the commit names it: without batches whose time is over.
    pub(super) fn to_commit(&self) -> CommitObject {
        CommitObject {
            counter: self.counter,
            length_bytes: self.length_bytes,
            payload: (self.place == Place::Inline).then(|| concatenate(&self.payload)),
            batches: self
                .batches
                .iter()
                .filter(|batch| batch.pending.reply.is_some())
                .map(|batch| BatchEntry {
                    index: batch.index,
                    partition: batch.pending.partition,
                    position: batch.position,
                    length_bytes: batch.pending.batch.bytes.len() as u32,
                    record_count: batch.pending.batch.header.record_count as u32,
                    max_timestamp: batch.pending.batch.header.max_timestamp,
                    producer: batch.pending.batch.producer(),
                    transaction: batch.pending.transaction,
                })
                .collect(),
        }
    }
}

fn concatenate(payload: &[Bytes]) -> Bytes {
    let mut bytes = Vec::with_capacity(payload.iter().map(Bytes::len).sum());
    for part in payload {
        bytes.extend_from_slice(part);
    }
    Bytes::from(bytes)
}
