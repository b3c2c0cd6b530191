//! The measured store as coordinators of transactions ask it.

use async_trait::async_trait;

use super::{Fault, Metered, timed};
use crate::ids::{StoreTime, TopicPartition};
use crate::model::producer::ActiveProducer;
use crate::model::transaction::{ProducerIdentity, Transaction};
use crate::store::transactions::{
    AbortOpen, AbortedOpen, EncodeMarkers, EndTransaction, Ended, InitTransaction, TransactionError,
    TransactionOffsets, TransactionStore,
};
use crate::store::{LookupError, MetadataStore, StoreError};

impl Fault for TransactionError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::UnknownProducer(_)
            | Self::Fenced { .. }
            | Self::InvalidState(_)
            | Self::UnknownPartition
            | Self::MarkersFull
            | Self::GroupFenced(_)
            | Self::TooMany { .. } => None,
        }
    }
}

#[async_trait]
impl<S: MetadataStore> TransactionStore for Metered<S> {
    async fn init_transaction(&self, init: InitTransaction) -> Result<Ended, TransactionError> {
        timed(
            &self.operations.init_transaction,
            self.inner.init_transaction(init),
        )
        .await
    }

    async fn add_partitions(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: &[TopicPartition],
    ) -> Result<(), TransactionError> {
        timed(
            &self.operations.add_partitions,
            self.inner.add_partitions(transactional_id, producer, partitions),
        )
        .await
    }

    async fn add_group(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        group: &str,
    ) -> Result<(), TransactionError> {
        timed(
            &self.operations.add_group,
            self.inner.add_group(transactional_id, producer, group),
        )
        .await
    }

    async fn add_transaction_offsets(
        &self,
        offsets: TransactionOffsets,
    ) -> Result<Vec<Result<(), LookupError>>, TransactionError> {
        timed(
            &self.operations.add_transaction_offsets,
            self.inner.add_transaction_offsets(offsets),
        )
        .await
    }

    async fn end_transaction(&self, end: EndTransaction) -> Result<Ended, TransactionError> {
        timed(&self.operations.end_transaction, self.inner.end_transaction(end)).await
    }

    async fn abort_expired_transactions(
        &self,
        limit: u32,
        encode: EncodeMarkers,
    ) -> Result<Vec<(String, Ended)>, StoreError> {
        timed(
            &self.operations.abort_expired_transactions,
            self.inner.abort_expired_transactions(limit, encode),
        )
        .await
    }

    async fn abort_open_transaction(&self, abort: AbortOpen) -> Result<AbortedOpen, TransactionError> {
        timed(
            &self.operations.abort_open_transaction,
            self.inner.abort_open_transaction(abort),
        )
        .await
    }

    async fn expire_transactional_ids(&self, before: StoreTime) -> Result<u64, StoreError> {
        timed(
            &self.operations.expire_transactional_ids,
            self.inner.expire_transactional_ids(before),
        )
        .await
    }

    async fn transactions(&self) -> Result<Vec<Transaction>, StoreError> {
        timed(&self.operations.transactions, self.inner.transactions()).await
    }

    async fn transaction(&self, transactional_id: &str) -> Result<Option<Transaction>, StoreError> {
        timed(
            &self.operations.transaction,
            self.inner.transaction(transactional_id),
        )
        .await
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Result<Vec<ActiveProducer>, LookupError>, StoreError> {
        timed(&self.operations.producers, self.inner.producers(partition)).await
    }
}
