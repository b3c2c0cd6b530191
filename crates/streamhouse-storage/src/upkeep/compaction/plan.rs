//! What a compaction writes and swaps: a pure function of the rows and bytes it read.
//!
//! Invariants: every replaced row is covered by new rows of the same offsets and the same records;
//! bytes are taken over unchanged; a row whose bytes are not whole batches with right CRCs is left
//! where it is, and so is everything that would have to be joined across it.

use std::collections::HashMap;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use streamhouse_metadata::ids::ObjectId;
use streamhouse_metadata::model::object::SwapPartition;
use streamhouse_metadata::model::segment::{NewSegment, Segment};

use crate::batch::BatchHeader;
use crate::object::Part;

/// Neighbours are joined up to this size, so that a reader of few records does not fetch many.
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024;

/// Where a batch's CRC begins to count.
const CRC_FROM: usize = 21;

/// Parts in object order, and the rows that change.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) parts: Vec<Part>,
    /// One entry a run of offsets without a gap; a partition may have several.
    pub(super) swaps: Vec<SwapPartition>,
    /// Rows left where they are because their bytes are not what the row says.
    pub(super) damaged: Vec<Segment>,
}

/// Rows whose object is not among `payloads` are left out: it was compacted or deleted meanwhile.
pub(super) fn plan(segments: &[Segment], payloads: &HashMap<ObjectId, Bytes>) -> Plan {
    let mut segments = segments.to_vec();
    segments.sort_unstable_by_key(|segment| (segment.partition, segment.base_offset));
    let mut plan = Plan::default();
    let mut position = 0;
    for segment in segments {
        let Some(payload) = payloads.get(&segment.object) else {
            continue;
        };
        match part_of(&segment, payload) {
            Some(part) => {
                plan.take(&segment, position);
                position += u64::from(segment.length_bytes);
                plan.parts.push(part);
            }
            None => plan.damaged.push(segment),
        }
    }
    plan
}

impl Plan {
    fn take(&mut self, segment: &Segment, position: u64) {
        let follows = |run: &SwapPartition| {
            run.replaced.last().is_some_and(|last| {
                last.partition == segment.partition && last.last_offset + 1 == segment.base_offset
            })
        };
        match self.swaps.last_mut() {
            Some(run) if follows(run) => run.replaced.push(*segment),
            _ => self.swaps.push(SwapPartition {
                replaced: vec![*segment],
                added: Vec::new(),
            }),
        }
        let Some(run) = self.swaps.last_mut() else {
            return;
        };
        let joined = |last: &NewSegment| u64::from(last.length_bytes) + u64::from(segment.length_bytes);
        match run.added.last_mut() {
            Some(last) if joined(last) <= SEGMENT_BYTES_MAX => join(last, segment),
            _ => run.added.push(NewSegment {
                partition: segment.partition,
                base_offset: segment.base_offset,
                last_offset: segment.last_offset,
                position,
                length_bytes: segment.length_bytes,
                record_count: segment.record_count,
                max_timestamp: segment.max_timestamp,
                running_max_timestamp: segment.running_max_timestamp,
                committed_at: segment.committed_at,
            }),
        }
    }
}

/// The joined row carries the later commit time: a consumer within it is shown as less late than it
/// is, by at most the time between two commits of one object's worth, never as later.
fn join(last: &mut NewSegment, next: &Segment) {
    last.last_offset = next.last_offset;
    last.length_bytes += next.length_bytes;
    last.record_count += next.record_count;
    last.max_timestamp = last.max_timestamp.max(next.max_timestamp);
    last.running_max_timestamp = last.running_max_timestamp.max(next.running_max_timestamp);
    last.committed_at = last.committed_at.max(next.committed_at);
}

/// The segment's bytes, when they are what its row says.
fn part_of(segment: &Segment, payload: &Bytes) -> Option<Part> {
    let start = usize::try_from(segment.position).ok()?;
    let end = start.checked_add(segment.length_bytes as usize)?;
    if end > payload.len() {
        return None;
    }
    let bytes = payload.slice(start..end);
    let (mut rest, mut batches, mut records) = (&bytes[..], 0u32, 0u64);
    while !rest.is_empty() {
        let header = BatchHeader::parse(rest).ok()?;
        let batch = rest.get(..header.length_bytes)?;
        if checksum(CrcAlgorithm::Crc32Iscsi, &batch[CRC_FROM..]) as u32 != header.crc {
            return None;
        }
        batches += 1;
        records += u64::try_from(header.record_count).ok()?;
        rest = &rest[header.length_bytes..];
    }
    (batches > 0 && records == u64::from(segment.record_count)).then_some(Part {
        partition: segment.partition,
        bytes,
        batch_count: batches,
        record_count: segment.record_count,
    })
}

#[cfg(test)]
mod tests;
