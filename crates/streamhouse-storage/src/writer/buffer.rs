//! Collects accepted batches in order until the pipeline seals them. Its size in bytes is bounded by
//! the in-flight budget whose permits the batches carry.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::append::Pending;

pub(super) struct Buffer {
    batches: VecDeque<Pending>,
    bytes: u64,
    closed: bool,
    /// No batch here has an earlier deadline. May be too early, which costs one look.
    earliest: Option<Instant>,
    /// Passing one of these sizes may make an object due.
    marks: [u64; 2],
}

impl Buffer {
    pub(super) fn new(flush_bytes: u64, inline_bytes_max: u64) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            closed: false,
            earliest: None,
            marks: [inline_bytes_max, flush_bytes],
        }
    }

    /// True when the pipeline has to look: something came into an empty buffer, a mark was passed, or a
    /// deadline is earlier than those it knows of. What comes after the end is given back.
    pub(super) fn push(&mut self, batches: Vec<Pending>) -> Result<bool, Vec<Pending>> {
        if self.closed {
            return Err(batches);
        }
        let before = self.bytes;
        self.bytes += batches
            .iter()
            .map(|pending| pending.batch.bytes.len() as u64)
            .sum::<u64>();
        let earliest = batches.iter().map(|pending| pending.deadline).min();
        let sooner = matches!((earliest, self.earliest), (Some(new), Some(known)) if new < known);
        self.earliest = self.earliest.into_iter().chain(earliest).min();
        self.batches.extend(batches);
        let passed = |mark: &u64| before < *mark && *mark <= self.bytes;
        Ok((before == 0 && self.bytes > 0) || sooner || self.marks.iter().any(passed))
    }

    /// The oldest batches of together at least `bytes`, or all there are.
    pub(super) fn take(&mut self, bytes: u64) -> Vec<Pending> {
        let mut taken = 0;
        let mut count = 0;
        for pending in &self.batches {
            if taken >= bytes {
                break;
            }
            taken += pending.batch.bytes.len() as u64;
            count += 1;
        }
        self.bytes -= taken;
        let batches = self.batches.drain(..count).collect();
        if self.batches.is_empty() {
            self.earliest = None;
        }
        batches
    }

    /// The oldest batches of together less than `bytes`, which may be none.
    pub(super) fn take_below(&mut self, bytes: u64) -> Vec<Pending> {
        let mut below = 0;
        for pending in &self.batches {
            let next = below + pending.batch.bytes.len() as u64;
            if next >= bytes {
                break;
            }
            below = next;
        }
        if below == 0 { Vec::new() } else { self.take(below) }
    }

    pub(super) fn front_bytes(&self) -> u64 {
        self.batches
            .front()
            .map_or(0, |pending| pending.batch.bytes.len() as u64)
    }

    /// Removes the batches whose deadline has come.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Pending> {
        if self.earliest.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let (expired, kept) = self
            .batches
            .drain(..)
            .partition(|pending| pending.deadline <= now);
        self.batches = VecDeque::from(kept as Vec<_>);
        self.bytes = self
            .batches
            .iter()
            .map(|pending| pending.batch.bytes.len() as u64)
            .sum();
        self.earliest = self.batches.iter().map(|pending| pending.deadline).min();
        expired
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.batches.front().map(|pending| pending.accepted_at)
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}
