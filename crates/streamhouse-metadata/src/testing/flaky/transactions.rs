//! The faulty store as coordinators of transactions ask it: down, or as the one behind it.

use async_trait::async_trait;

use super::FlakyStore;
use crate::ids::{StoreTime, TopicPartition};
use crate::model::producer::ActiveProducer;
use crate::model::transaction::{ProducerIdentity, Transaction};
use crate::store::transactions::{
    AbortOpen, AbortedOpen, EncodeMarkers, EndTransaction, Ended, InitTransaction, TransactionError,
    TransactionOffsets, TransactionStore,
};
use crate::store::{LookupError, StoreError};

#[async_trait]
impl TransactionStore for FlakyStore {
    async fn init_transaction(&self, init: InitTransaction) -> Result<Ended, TransactionError> {
        self.up()?;
        self.inner.init_transaction(init).await
    }

    async fn add_partitions(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: &[TopicPartition],
    ) -> Result<(), TransactionError> {
        self.up()?;
        self.inner
            .add_partitions(transactional_id, producer, partitions)
            .await
    }

    async fn add_group(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        group: &str,
    ) -> Result<(), TransactionError> {
        self.up()?;
        self.inner.add_group(transactional_id, producer, group).await
    }

    async fn add_transaction_offsets(
        &self,
        offsets: TransactionOffsets,
    ) -> Result<Vec<Result<(), LookupError>>, TransactionError> {
        self.up()?;
        self.inner.add_transaction_offsets(offsets).await
    }

    async fn end_transaction(&self, end: EndTransaction) -> Result<Ended, TransactionError> {
        self.up()?;
        self.inner.end_transaction(end).await
    }

    async fn abort_expired_transactions(
        &self,
        limit: u32,
        encode: EncodeMarkers,
    ) -> Result<Vec<(String, Ended)>, StoreError> {
        self.up()?;
        self.inner.abort_expired_transactions(limit, encode).await
    }

    async fn abort_open_transaction(&self, abort: AbortOpen) -> Result<AbortedOpen, TransactionError> {
        self.up()?;
        self.inner.abort_open_transaction(abort).await
    }

    async fn expire_transactional_ids(&self, before: StoreTime) -> Result<u64, StoreError> {
        self.up()?;
        self.inner.expire_transactional_ids(before).await
    }

    async fn transactions(&self) -> Result<Vec<Transaction>, StoreError> {
        self.up()?;
        self.inner.transactions().await
    }

    async fn transaction(&self, transactional_id: &str) -> Result<Option<Transaction>, StoreError> {
        self.up()?;
        self.inner.transaction(transactional_id).await
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Result<Vec<ActiveProducer>, LookupError>, StoreError> {
        self.up()?;
        self.inner.producers(partition).await
    }
}
