//! Judges what happens to a transaction: who may begin, add to and end it (TRACES 20–22).
//!
//! States in, decisions out. The epoch of the row fences: a producer that was replaced, timed out or ended
//! under the newer protocol (KIP-890 part 2) is met by an epoch it does not have. A retry that lost its
//! answer names the identity before the last change and gets the same answer again (KIP-360). Unlike
//! Kafka's, a transaction has no state between the decision and its markers: both are one step.

use std::sync::Arc;

use crate::ids::{StoreTime, TopicPartition};
use crate::model::commit::{AppendRefusal, BatchTransaction};
use crate::model::producer::ProducerStamp;
use crate::model::transaction::{ProducerIdentity, Transaction, TransactionPhase, TransactionResult};
use crate::store::transactions::TransactionError;

/// The last epoch that a producer gets: the one above is left for the marker that fences it.
const EPOCH_LAST: i16 = i16::MAX - 1;

/// Who a producer is from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextIdentity {
    Known(ProducerIdentity),
    /// Epoch 0 of a producer id that was never given before: the old one's epochs have run out.
    Fresh,
}

/// What an ending transaction writes, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub result: TransactionResult,
    /// Whom the markers name.
    pub marker: ProducerIdentity,
    pub next: NextIdentity,
}

/// What asking for an identity leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialized {
    /// A retry: nothing changes.
    Repeat(ProducerIdentity),
    /// The transactional id has no transaction open.
    Next(NextIdentity),
    /// It has one, which is aborted.
    Aborting(Completion),
}

/// What ending a transaction leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A retry: nothing changes.
    Repeat(ProducerIdentity),
    Complete(Completion),
}

fn bumped(identity: ProducerIdentity) -> ProducerIdentity {
    ProducerIdentity {
        epoch: identity.epoch.saturating_add(1),
        ..identity
    }
}

fn next(current: ProducerIdentity) -> NextIdentity {
    if current.epoch >= EPOCH_LAST {
        NextIdentity::Fresh
    } else {
        NextIdentity::Known(bumped(current))
    }
}

/// A producer asks for its identity; `recovering` is the one it had (KIP-360).
///
/// # Errors
/// [`TransactionError::Fenced`] when it had been replaced.
pub fn initialize(
    row: Option<&Transaction>,
    recovering: Option<ProducerIdentity>,
) -> Result<Initialized, TransactionError> {
    let Some(row) = row else {
        return Ok(Initialized::Next(NextIdentity::Fresh));
    };
    let open = row.phase == TransactionPhase::Ongoing;
    if let Some(recovering) = recovering
        && recovering != row.current
    {
        return if !open && row.previous == Some(recovering) {
            Ok(Initialized::Repeat(row.current))
        } else {
            Err(fenced(row, recovering))
        };
    }
    Ok(if open {
        Initialized::Aborting(Completion {
            result: TransactionResult::Abort,
            marker: bumped(row.current),
            next: next(row.current),
        })
    } else {
        Initialized::Next(next(row.current))
    })
}

/// Who may ask again, after [`initialize`], and get the same identity: the one that recovered. A producer that
/// named none replaced the one before, which must not be taken for it.
#[must_use]
pub fn repeatable(
    before: Option<&Transaction>,
    recovering: Option<ProducerIdentity>,
) -> Option<ProducerIdentity> {
    recovering.and(before).map(|row| row.current)
}

fn fenced(row: &Transaction, got: ProducerIdentity) -> TransactionError {
    TransactionError::Fenced {
        current: row.current.epoch,
        got: got.epoch,
    }
}

/// The row, if this producer owns it.
///
/// # Errors
/// [`TransactionError::UnknownProducer`], [`TransactionError::Fenced`].
pub fn owned(
    row: Option<&Arc<Transaction>>,
    producer: ProducerIdentity,
) -> Result<&Arc<Transaction>, TransactionError> {
    let row = row
        .filter(|row| row.current.producer_id == producer.producer_id)
        .ok_or(TransactionError::UnknownProducer(producer.producer_id))?;
    if row.current.epoch == producer.epoch {
        Ok(row)
    } else {
        Err(fenced(row, producer))
    }
}

/// Begins a transaction unless one is open. `may_begin`: there is room for its markers.
///
/// # Errors
/// [`TransactionError::MarkersFull`].
pub fn begin(row: &mut Transaction, now: StoreTime, may_begin: bool) -> Result<(), TransactionError> {
    if row.phase == TransactionPhase::Ongoing {
        return Ok(());
    }
    if !may_begin {
        return Err(TransactionError::MarkersFull);
    }
    open(row, now);
    Ok(())
}

/// A producer ends its transaction; `bump_epoch` under the newer protocol.
///
/// # Errors
/// As [`owned`], and [`TransactionError::InvalidState`] where there is nothing to end that way.
pub fn end(
    row: Option<&Transaction>,
    producer: ProducerIdentity,
    result: TransactionResult,
    bump_epoch: bool,
) -> Result<Ending, TransactionError> {
    let unknown = TransactionError::UnknownProducer(producer.producer_id);
    let row = row.ok_or(unknown.clone())?;
    let ended_as = match row.phase {
        TransactionPhase::CompleteCommit => Some(TransactionResult::Commit),
        TransactionPhase::CompleteAbort => Some(TransactionResult::Abort),
        TransactionPhase::Empty | TransactionPhase::Ongoing => None,
    };
    let invalid = Err(TransactionError::InvalidState(row.phase));
    // A bump that is answered again; without bumps the same epoch asks again.
    if let Some(ended_as) = ended_as
        && bump_epoch
        && row.previous == Some(producer)
    {
        return if ended_as == result {
            Ok(Ending::Repeat(row.current))
        } else {
            invalid
        };
    }
    if row.current.producer_id != producer.producer_id {
        return Err(unknown);
    }
    if row.current.epoch != producer.epoch {
        return Err(fenced(row, producer));
    }
    let complete = Ok(Ending::Complete(Completion {
        result,
        marker: if bump_epoch {
            bumped(row.current)
        } else {
            row.current
        },
        next: if bump_epoch {
            next(row.current)
        } else {
            NextIdentity::Known(row.current)
        },
    }));
    match (row.phase, ended_as) {
        (TransactionPhase::Ongoing, _) => complete,
        (_, Some(ended_as)) if !bump_epoch && ended_as == result => Ok(Ending::Repeat(row.current)),
        // The newer protocol's client does not know whether anything of its transaction arrived.
        _ if bump_epoch && result == TransactionResult::Abort => complete,
        _ => invalid,
    }
}

/// The abort of a transaction that is older than its timeout; `None` while it is not.
#[must_use]
pub fn expire(row: &Transaction, now: StoreTime) -> Option<Completion> {
    let started_at = row
        .started_at
        .filter(|_| row.phase == TransactionPhase::Ongoing)?;
    let age_ms = now.0.saturating_sub(started_at.0);
    (age_ms > i64::from(row.timeout_ms)).then(|| fence(row))
}

/// An administrator aborts what a producer has open in a partition (KIP-664): the whole transaction, and its
/// producer is fenced, because a producer that committed the rest would be told that all of it is there.
/// `None` where nothing of this producer is open there, which a repeat finds too. `known_epoch` is the
/// newest with which the producer wrote there; a newer one than that is as good, as in Kafka.
///
/// # Errors
/// [`TransactionError::Fenced`] where the partition has seen a newer epoch.
pub fn abort(
    row: Option<&Transaction>,
    producer: ProducerIdentity,
    partition: TopicPartition,
    known_epoch: Option<i16>,
) -> Result<Option<Completion>, TransactionError> {
    let written = |row: &&Transaction| matches!(row.partitions.get(&partition), Some(Some(_)));
    let open = row
        .filter(|row| row.phase == TransactionPhase::Ongoing)
        .filter(|row| row.current.producer_id == producer.producer_id)
        .filter(written);
    let newest = known_epoch.max(open.map(|row| row.current.epoch));
    match newest.filter(|newest| *newest > producer.epoch) {
        Some(current) => Err(TransactionError::Fenced {
            current,
            got: producer.epoch,
        }),
        None => Ok(open.map(fence)),
    }
}

/// The abort of an open transaction that its producer did not ask for.
fn fence(row: &Transaction) -> Completion {
    Completion {
        result: TransactionResult::Abort,
        marker: bumped(row.current),
        next: NextIdentity::Known(bumped(row.current)),
    }
}

/// The row after its transaction ended and its producer became `next`.
#[must_use]
pub fn completed(
    row: &Transaction,
    result: TransactionResult,
    next: ProducerIdentity,
    now: StoreTime,
) -> Transaction {
    Transaction {
        transactional_id: row.transactional_id.clone(),
        current: next,
        previous: (next != row.current).then_some(row.current),
        phase: match result {
            TransactionResult::Commit => TransactionPhase::CompleteCommit,
            TransactionResult::Abort => TransactionPhase::CompleteAbort,
        },
        timeout_ms: row.timeout_ms,
        started_at: None,
        partitions: std::collections::BTreeMap::new(),
        groups: std::collections::BTreeSet::new(),
        last_used: now,
    }
}

/// Judges a batch that is no duplicate, by the transaction of its producer if that has a transactional id
/// (TRACES 20). True when appending it changes the row, by [`join`].
///
/// # Errors
/// A batch outside its transaction, of an older epoch, or a plain one while a transaction is open.
pub fn allows(
    row: Option<&Transaction>,
    batch: Option<BatchTransaction>,
    stamp: &ProducerStamp,
    partition: TopicPartition,
    may_begin: bool,
) -> Result<bool, AppendRefusal> {
    let open = row.is_some_and(|row| row.phase == TransactionPhase::Ongoing);
    let Some(batch) = batch else {
        return if open {
            Err(AppendRefusal::InvalidTransactionState)
        } else {
            Ok(false)
        };
    };
    let row = row.ok_or(AppendRefusal::NotTransactional(stamp.producer_id))?;
    if row.current.epoch != stamp.epoch {
        return Err(AppendRefusal::StaleEpoch {
            current: row.current.epoch,
            got: stamp.epoch,
        });
    }
    match row.partitions.get(&partition) {
        Some(Some(_)) if open => Ok(false),
        Some(None) if open => Ok(true),
        _ if batch.implicit && (open || may_begin) => Ok(true),
        _ if batch.implicit => Err(AppendRefusal::MarkersFull),
        _ => Err(AppendRefusal::InvalidTransactionState),
    }
}

/// The first batch of a partition was appended at `offset`; it begins the transaction if none is open.
pub fn join(row: &mut Transaction, partition: TopicPartition, offset: i64, now: StoreTime) {
    if row.phase != TransactionPhase::Ongoing {
        open(row, now);
    }
    row.partitions.insert(partition, Some(offset));
}

fn open(row: &mut Transaction, now: StoreTime) {
    row.phase = TransactionPhase::Ongoing;
    row.started_at = Some(now);
    row.last_used = now;
}

#[cfg(test)]
mod tests;
