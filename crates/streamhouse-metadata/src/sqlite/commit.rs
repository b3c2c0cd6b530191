//! The commit: loads what the rules need from memory, stores what they say in one transaction with one
//! fsync, then publishes it.
//!
//! A commit inserts a row per object and one commit row, however many partitions it holds; its segments
//! wait in that row's `delta` (and in memory) until `settle` merges them. The order of the questions is
//! TRACES 8–10: the stored answer first, then the incarnation, the number, the deadline.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::encoding::{Delta, decode};
use super::placed::{CommitRow, Placed, delta_segments};
use super::transactions::store_transaction;
use super::writer::Writer;
use crate::ids::{IdMap, StoreTime, TopicPartition};
use crate::model::commit::{CommitAnswer, CommitRequest};
use crate::rules::append::{AppendStates, Judged, Terms, judge};
use crate::store::{CommitError, StoreError};

impl Writer {
    pub(super) fn commit(&mut self, request: &CommitRequest) -> Result<CommitAnswer, CommitError> {
        let shared = Arc::clone(&self.shared);
        let fenced = || CommitError::Fenced(request.incarnation);
        let known = *shared
            .hot
            .read()
            .incarnations
            .get(&request.incarnation)
            .ok_or_else(fenced)?;
        if request.number <= known.last_number {
            return self.answered(request);
        }
        if known.fenced_at.is_some() {
            return Err(fenced());
        }
        if request.number != known.last_number + 1 {
            return Err(CommitError::NumberGap {
                last: known.last_number,
                got: request.number,
            });
        }
        let now = shared.now();
        if now > request.valid_until {
            return Err(CommitError::Expired);
        }
        let payloads = request.objects.iter().filter_map(|o| o.payload.as_ref());
        let inline_bytes: u64 = payloads.map(|payload| payload.len() as u64).sum();
        if inline_bytes > 0 && shared.hot.read().inline.bytes + inline_bytes > shared.options.inline_total_max
        {
            return Err(CommitError::InlineFull);
        }

        let (mut states, rows) = self.load_states(request)?;
        let terms = Terms {
            now,
            gap_timeout: shared.options.gap_timeout,
            may_begin: self.may_begin(),
        };
        let judged = judge(&mut states, &request.objects, terms);
        self.take(request, judged, &states, &rows, now)
    }

    /// Stores what was judged, then shows it.
    fn take(
        &mut self,
        request: &CommitRequest,
        judged: Judged,
        states: &AppendStates,
        rows: &IdMap<TopicPartition, i64>,
        now: StoreTime,
    ) -> Result<CommitAnswer, CommitError> {
        let shared = Arc::clone(&self.shared);
        let placed = self.place(request, &judged);
        let mut delta = Delta {
            segments: delta_segments(&placed, rows),
            producers: Vec::new(),
        };
        for key in &judged.changed_producers {
            let state = states.producers[key].clone();
            delta.producers.push((rows[&key.0], key.1, state));
        }
        let transactions: Vec<_> = judged
            .changed_transactions
            .iter()
            .map(|producer_id| Arc::clone(&states.transactions[producer_id]))
            .collect();

        let row = CommitRow {
            incarnation: request.incarnation,
            number: request.number,
            lowest_undecided: request.lowest_undecided,
            outcomes: &judged.outcomes,
            delta: &delta,
            now,
        };
        let tx = self.conn.unchecked_transaction()?;
        let written = self.insert_commit(&tx, &row, &placed, rows)?;
        for row in &transactions {
            store_transaction(&tx, row)?;
        }
        tx.commit()?;
        self.wrote(written);

        let mut hot = shared.hot.write();
        if let Some(incarnation) = hot.incarnations.get_mut(&request.incarnation) {
            self.trim.superseded(incarnation.last_commit);
            incarnation.last_number = request.number;
            incarnation.last_commit = self.next_commit;
            incarnation.lowest_undecided = request.lowest_undecided;
        }
        self.publish_commit(&mut hot, request.incarnation, &placed, now);
        for row in transactions {
            hot.put_transaction(row);
        }
        drop(hot);
        for (row, producer_id, state) in delta.producers {
            self.producers.put_dirty(row, producer_id, state);
        }
        self.dirty
            .extend(judged.changed_producers.iter().map(|(partition, _)| *partition));
        Ok(CommitAnswer {
            number: request.number,
            committed_at: now,
            objects: judged.outcomes,
        })
    }

    /// The stored answer of a commit that took effect before.
    fn answered(&self, request: &CommitRequest) -> Result<CommitAnswer, CommitError> {
        let mut select = self.conn.prepare_cached(
            "SELECT committed_at, outcomes FROM commits WHERE incarnation = ?1 AND number = ?2",
        )?;
        let number = i64::try_from(request.number).unwrap_or(i64::MAX);
        let row = select
            .query_row(params![request.incarnation.0.as_bytes(), number], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
            })
            .optional()?;
        let (committed_at, outcomes) = row.ok_or(CommitError::Forgotten(request.number))?;
        Ok(CommitAnswer {
            number: request.number,
            committed_at: StoreTime(committed_at),
            objects: decode("commit outcomes", &outcomes)?,
        })
    }

    fn load_states(
        &self,
        request: &CommitRequest,
    ) -> Result<(AppendStates, IdMap<TopicPartition, i64>), StoreError> {
        let hot = self.shared.hot.read();
        let mut states = AppendStates::default();
        let mut rows = IdMap::default();
        for batch in request.objects.iter().flat_map(|o| &o.batches) {
            let Some(partition) = hot.live(&batch.partition) else {
                continue;
            };
            states
                .partitions
                .entry(batch.partition)
                .or_insert(partition.state);
            rows.insert(batch.partition, partition.row);
            let Some(stamp) = &batch.producer else { continue };
            if let Some(row) = hot.transactions.of_producer(stamp.producer_id) {
                let known = states.transactions.entry(stamp.producer_id);
                known.or_insert_with(|| Arc::clone(row));
            }
            let key = (batch.partition, stamp.producer_id);
            if !states.producers.contains_key(&key)
                && let Some(state) = self
                    .producers
                    .load(&self.conn, partition.row, stamp.producer_id)?
            {
                states.producers.insert(key, state);
            }
        }
        Ok((states, rows))
    }

    /// Gives row numbers. An inline object of which nothing was accepted leaves no trace at all: it has
    /// no key that would have to be deleted.
    fn place<'a>(&self, request: &'a CommitRequest, judged: &'a Judged) -> Vec<Placed<'a>> {
        let with_rows = request.objects.iter().zip(&judged.segments);
        let kept = with_rows.filter(|(object, segments)| object.payload.is_none() || !segments.is_empty());
        let numbered = (self.next_object..).zip(kept);
        numbered
            .map(|(id, (object, segments))| Placed { id, object, segments })
            .collect()
    }
}

/// SQLite's integers are signed; no counter or length comes near 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
