//! The markers of an ending transaction as one object, which lies inline in the metadata.

use streamhouse_metadata::model::transaction::{MarkerObject, Markers};

use super::build::{Part, build};
use crate::batch::marker;

/// Encodes one marker a partition, in the order asked. Pure: the store may ask again with others.
#[must_use]
pub fn encode_markers(markers: &Markers<'_>) -> MarkerObject {
    let batch = marker(
        markers.producer,
        markers.result,
        markers.coordinator_epoch,
        markers.now.0,
    );
    let parts: Vec<Part> = markers
        .partitions
        .iter()
        .map(|partition| Part {
            partition: *partition,
            bytes: batch.clone(),
            batch_count: 1,
            record_count: 1,
        })
        .collect();
    let built = build(&parts);
    MarkerObject {
        payload: built.payload.concat().into(),
        batches: built
            .index
            .iter()
            .map(|entry| (entry.position, entry.length_bytes))
            .collect(),
    }
}
