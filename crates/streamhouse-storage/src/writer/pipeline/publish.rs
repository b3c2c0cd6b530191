//! Hands what a commit appended to the tail, which wakes the fetches that wait for it.
//!
//! A batch is a slice of the frame that brought it, and the tail counts its slice only. So what was
//! appended of a request stays a slice only where it is a good part of the request; otherwise it is
//! copied, lest a small batch beside a large refused one keep memory that no bound sees. (How much of a
//! frame its admitted batches are is seen to at admission.) Not here: the answers to producers.

use std::collections::HashMap;

use bytes::Bytes;
use streamhouse_metadata::model::commit::{BatchOutcome, CommitAnswer};

use super::super::append::{Reply, RequestKey};
use super::super::sealed::{Sealed, SealedBatch};
use super::commit::{outcome, outcomes_of};
use crate::reader::Tail;

/// A request may be this many times larger than what was appended of it; otherwise that is copied.
const PINNED_FACTOR_MAX: usize = 2;

pub(super) fn publish(tail: &Tail, committed: &[Sealed], answer: &CommitAnswer) {
    let mut kept: HashMap<RequestKey, usize> = HashMap::new();
    for (batch, _) in appended(committed, answer) {
        if let Some(reply) = part_of_a_request(batch) {
            *kept.entry(reply.request()).or_default() += batch.pending.batch.bytes.len();
        }
    }
    for (batch, outcome) in appended(committed, answer) {
        let BatchOutcome::Appended {
            base_offset,
            log_start_offset,
        } = outcome
        else {
            continue;
        };
        let pending = &batch.pending;
        let small_part = match (&pending.reply, part_of_a_request(batch)) {
            (_, Some(reply)) => kept[&reply.request()] * PINNED_FACTOR_MAX < reply.request_bytes(),
            // Answered at its deadline: what was appended of its request is not known any more.
            (None, _) => true,
            (Some(_), None) => false,
        };
        let mut admitted = pending.batch.clone();
        if small_part {
            admitted.bytes = Bytes::copy_from_slice(&admitted.bytes);
        }
        tail.append(pending.partition, *base_offset, *log_start_offset, &admitted);
    }
}

fn appended<'a>(
    committed: &'a [Sealed],
    answer: &'a CommitAnswer,
) -> impl Iterator<Item = (&'a SealedBatch, &'a BatchOutcome)> {
    committed.iter().flat_map(move |sealed| {
        let outcomes = outcomes_of(answer, sealed);
        let batches = sealed.batches.iter();
        batches.filter_map(move |batch| {
            outcome(outcomes, batch.index)
                .filter(|outcome| matches!(outcome, BatchOutcome::Appended { .. }))
                .map(|outcome| (batch, outcome))
        })
    })
}

/// `None` for the only batch of its request, and where the request has its answer already.
fn part_of_a_request(batch: &SealedBatch) -> Option<&Reply> {
    let reply = batch.pending.reply.as_ref()?;
    (batch.pending.batch.bytes.len() < reply.request_bytes()).then_some(reply)
}
