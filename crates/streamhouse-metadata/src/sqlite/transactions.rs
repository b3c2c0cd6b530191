//! Transactions in SQLite: the row of each transactional id, which is also held in memory, and the offsets
//! that wait for its end. Every change is one transaction of the database, judged by `rules::transaction`.
//!
//! Not here: ending one (`ending`), and batches that join one (`commit`).

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::encoding::encode;
use super::groups::require_coordinator;
use super::open::SqliteStore;
use super::writer::Writer;
use crate::ids::{StoreTime, TopicPartition};
use crate::model::producer::ActiveProducer;
use crate::model::transaction::{ProducerIdentity, Transaction, TransactionPhase};
use crate::rules::transaction::{Initialized, NextIdentity, begin, initialize, owned, repeatable};
use crate::store::transactions::{
    AbortOpen, AbortedOpen, EncodeMarkers, EndTransaction, Ended, InitTransaction, TransactionError,
    TransactionOffsets, TransactionStore,
};
use crate::store::{LookupError, StoreError};

#[async_trait]
impl TransactionStore for SqliteStore {
    async fn init_transaction(&self, init: InitTransaction) -> Result<Ended, TransactionError> {
        self.write(move |writer| writer.init_transaction(init)).await
    }

    async fn add_partitions(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: &[TopicPartition],
    ) -> Result<(), TransactionError> {
        let (id, partitions) = (transactional_id.to_owned(), partitions.to_vec());
        self.write(move |writer| writer.add_partitions(&id, producer, &partitions))
            .await
    }

    async fn add_group(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        group: &str,
    ) -> Result<(), TransactionError> {
        let (id, group) = (transactional_id.to_owned(), group.to_owned());
        self.write(move |writer| writer.add_group(&id, producer, group))
            .await
    }

    async fn add_transaction_offsets(
        &self,
        offsets: TransactionOffsets,
    ) -> Result<Vec<Result<(), LookupError>>, TransactionError> {
        self.write(move |writer| writer.add_transaction_offsets(&offsets))
            .await
    }

    async fn end_transaction(&self, end: EndTransaction) -> Result<Ended, TransactionError> {
        self.write(move |writer| writer.end_transaction(&end)).await
    }

    async fn abort_expired_transactions(
        &self,
        limit: u32,
        encode: EncodeMarkers,
    ) -> Result<Vec<(String, Ended)>, StoreError> {
        // Nothing to do is the rule; it costs no turn of the writer.
        let open = |row: &&Arc<Transaction>| row.phase == TransactionPhase::Ongoing;
        if self.shared.hot.read().transactions.all().find(open).is_none() {
            return Ok(Vec::new());
        }
        self.write(move |writer| writer.abort_expired(limit, &encode))
            .await
    }

    async fn abort_open_transaction(&self, abort: AbortOpen) -> Result<AbortedOpen, TransactionError> {
        self.write(move |writer| writer.abort_open(&abort)).await
    }

    async fn expire_transactional_ids(&self, before: StoreTime) -> Result<u64, StoreError> {
        let idle = {
            let hot = self.shared.hot.read();
            let idle = hot.transactions.all().filter(|row| is_idle(row, before));
            idle.map(|row| row.transactional_id.clone()).collect::<Vec<_>>()
        };
        if idle.is_empty() {
            return Ok(0);
        }
        self.write(move |writer| writer.expire_transactional_ids(&idle, before))
            .await
    }

    async fn transactions(&self) -> Result<Vec<Transaction>, StoreError> {
        let hot = self.shared.hot.read();
        let rows = hot.transactions.all();
        Ok(rows.map(|row| Transaction::clone(row)).collect())
    }

    async fn transaction(&self, transactional_id: &str) -> Result<Option<Transaction>, StoreError> {
        let hot = self.shared.hot.read();
        let row = hot.transactions.get(transactional_id);
        Ok(row.map(|row| Transaction::clone(row)))
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Result<Vec<ActiveProducer>, LookupError>, StoreError> {
        self.write(move |writer| writer.active_producers(partition)).await
    }
}

fn is_idle(row: &Transaction, before: StoreTime) -> bool {
    row.phase != TransactionPhase::Ongoing && row.last_used < before
}

/// Writes the row of a transactional id.
pub(super) fn store_transaction(conn: &Connection, row: &Transaction) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO transactions (transactional_id, state) VALUES (?1, ?2)")?
        .execute(params![row.transactional_id, encode(row)?])?;
    Ok(())
}

impl Writer {
    pub(super) fn row(&self, transactional_id: &str) -> Option<Arc<Transaction>> {
        let hot = self.shared.hot.read();
        hot.transactions.get(transactional_id).cloned()
    }

    pub(super) fn identity(&mut self, next: NextIdentity) -> Result<ProducerIdentity, StoreError> {
        Ok(match next {
            NextIdentity::Known(identity) => identity,
            NextIdentity::Fresh => ProducerIdentity {
                producer_id: self.allocate_producer_ids(1)?,
                epoch: 0,
            },
        })
    }

    fn init_transaction(&mut self, init: InitTransaction) -> Result<Ended, TransactionError> {
        let now = self.shared.now();
        let row = self.row(&init.transactional_id);
        let (next, aborting) = match initialize(row.as_deref(), init.recovering)? {
            Initialized::Repeat(producer) => return Ok(nothing_ended(producer)),
            Initialized::Next(next) => (next, None),
            Initialized::Aborting(completion) => (completion.next, Some(completion)),
        };
        let known = self.shared.hot.read().transactions.len();
        if row.is_none() && known >= init.transactional_ids_max as usize {
            return Err(TransactionError::TooMany {
                what: "transactional ids",
                limit: init.transactional_ids_max,
            });
        }
        let producer = self.identity(next)?;
        let after = Transaction {
            transactional_id: init.transactional_id,
            current: producer,
            previous: repeatable(row.as_deref(), init.recovering),
            phase: TransactionPhase::Empty,
            timeout_ms: init.timeout_ms,
            started_at: None,
            partitions: Default::default(),
            groups: Default::default(),
            last_used: now,
        };
        match row.zip(aborting) {
            Some((row, completion)) => self.finish(&row, after, completion, &init.encode, now),
            None => {
                self.put(after)?;
                Ok(nothing_ended(producer))
            }
        }
    }

    /// Stores a row that changed by itself, then shows it.
    fn put(&mut self, row: Transaction) -> Result<(), StoreError> {
        store_transaction(&self.conn, &row)?;
        self.shared.hot.write().put_transaction(Arc::new(row));
        Ok(())
    }

    fn add_partitions(
        &mut self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: &[TopicPartition],
    ) -> Result<(), TransactionError> {
        let found = self.row(transactional_id);
        let row = owned(found.as_ref(), producer)?;
        {
            let hot = self.shared.hot.read();
            if partitions.iter().any(|partition| hot.live(partition).is_none()) {
                return Err(TransactionError::UnknownPartition);
            }
        }
        let open = row.phase == TransactionPhase::Ongoing;
        if open && partitions.iter().all(|p| row.partitions.contains_key(p)) {
            return Ok(());
        }
        let mut row = Transaction::clone(row);
        begin(&mut row, self.shared.now(), self.may_begin())?;
        for partition in partitions {
            row.partitions.entry(*partition).or_insert(None);
        }
        Ok(self.put(row)?)
    }

    fn add_group(
        &mut self,
        transactional_id: &str,
        producer: ProducerIdentity,
        group: String,
    ) -> Result<(), TransactionError> {
        let found = self.row(transactional_id);
        let row = owned(found.as_ref(), producer)?;
        if row.phase == TransactionPhase::Ongoing && row.groups.contains(&group) {
            return Ok(());
        }
        let mut row = Transaction::clone(row);
        begin(&mut row, self.shared.now(), self.may_begin())?;
        row.groups.insert(group);
        Ok(self.put(row)?)
    }

    fn add_transaction_offsets(
        &mut self,
        adding: &TransactionOffsets,
    ) -> Result<Vec<Result<(), LookupError>>, TransactionError> {
        let found = self.row(&adding.transactional_id);
        let row = owned(found.as_ref(), adding.producer)?;
        let joined = row.phase == TransactionPhase::Ongoing && row.groups.contains(&adding.group);
        if !joined && !adding.implicit {
            return Err(TransactionError::InvalidState(row.phase));
        }
        let mut after = Transaction::clone(row);
        if !joined {
            begin(&mut after, self.shared.now(), self.may_begin())?;
            after.groups.insert(adding.group.clone());
        }
        let shared = Arc::clone(&self.shared);
        let tx = self.conn.unchecked_transaction()?;
        require_coordinator(&tx, &adding.group, adding.coordinator_epoch)
            .map_err(|error| group_fault(error, &adding.group))?;
        let mut outcomes = Vec::with_capacity(adding.offsets.len());
        {
            let hot = shared.hot.read();
            let mut insert = tx.prepare_cached(
                "INSERT OR REPLACE INTO pending_offsets (group_name, partition_id, transactional_id, offset, \
                 leader_epoch, metadata, superseded) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
            )?;
            for (partition, committed) in &adding.offsets {
                let Some(live) = hot.live(partition) else {
                    outcomes.push(Err(LookupError::UnknownPartition));
                    continue;
                };
                insert.execute(params![
                    adding.group,
                    live.row,
                    adding.transactional_id,
                    committed.offset,
                    committed.leader_epoch,
                    committed.metadata,
                ])?;
                outcomes.push(Ok(()));
            }
        }
        if !joined {
            store_transaction(&tx, &after)?;
        }
        tx.commit()?;
        if !joined {
            shared.hot.write().put_transaction(Arc::new(after));
        }
        Ok(outcomes)
    }

    fn expire_transactional_ids(&mut self, ids: &[String], before: StoreTime) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.shared);
        let still_idle = |id: &&String| {
            let hot = shared.hot.read();
            hot.transactions.get(id).is_some_and(|row| is_idle(row, before))
        };
        let ids: Vec<&String> = ids.iter().filter(still_idle).collect();
        let tx = self.conn.unchecked_transaction()?;
        for id in &ids {
            tx.prepare_cached("DELETE FROM transactions WHERE transactional_id = ?1")?
                .execute([id])?;
        }
        tx.commit()?;
        let mut hot = shared.hot.write();
        for id in &ids {
            hot.transactions.remove(id);
        }
        Ok(ids.len() as u64)
    }
}

/// The answer where no transaction was open.
pub(super) fn nothing_ended(producer: ProducerIdentity) -> Ended {
    Ended {
        producer,
        markers: Vec::new(),
        offsets: Vec::new(),
    }
}

fn group_fault(error: crate::store::groups::GroupError, group: &str) -> TransactionError {
    match error {
        crate::store::groups::GroupError::Store(error) => TransactionError::Store(error),
        _ => TransactionError::GroupFenced(group.to_owned()),
    }
}
