//! Transactions, as handlers ask for them.
//!
//! The rules and their locks lie in the metadata store, because ending a transaction is one transaction
//! there (TRACES 20–23): a coordinator holds no state and needs no fencing of its own. What it adds is what
//! follows from an end, which readers in this agent must not wait for: markers for the tail, upkeep of what
//! lies inline; and the clock that aborts what is left open. Not here: the Kafka protocol.

mod expiry;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use streamhouse_metadata::ids::{TopicId, TopicPartition};
use streamhouse_metadata::model::group::CommittedOffset;
use streamhouse_metadata::model::transaction::{ProducerIdentity, TransactionResult};
use streamhouse_metadata::store::transactions::{
    AbortOpen, EndTransaction, Ended, InitTransaction, PublishedOffset, TransactionError, TransactionOffsets,
};
use streamhouse_metadata::store::{LookupError, MetadataStore, StoreError};
use streamhouse_observability::logging;
use streamhouse_storage::object::encode_markers;
use streamhouse_storage::reader::Tail;
use streamhouse_storage::upkeep::scheduler::Nudge;
use tokio_util::sync::CancellationToken;

use crate::consumption::{Client, Consumption};
use crate::group::GroupFault;
use crate::group::coordinator::Groups;

/// What the operator decided.
#[derive(Clone, Copy, Debug)]
pub struct TransactionSettings {
    /// The longest timeout that a producer may ask for.
    pub timeout_max: Duration,
    pub transactional_ids_max: u32,
    /// How long a transactional id outlives its last transaction.
    pub id_retention: Duration,
}

/// Why a request about a transaction is refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionFault {
    #[error(transparent)]
    Refused(#[from] TransactionError),
    #[error(transparent)]
    Group(#[from] GroupFault),
    #[error("a transactional id has at least one character")]
    EmptyId,
    #[error("a transaction may be open for 1 to {max} ms, not {got}")]
    Timeout { got: i32, max: u128 },
    #[error("a producer names its id and its epoch, or neither")]
    HalfIdentity,
    #[error("there is no transactional id {0}")]
    UnknownId(String),
}

impl From<StoreError> for TransactionFault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

/// Who asks to end what.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub transactional_id: &'a str,
    pub producer: ProducerIdentity,
}

/// Who commits offsets in a transaction: member id, instance id and generation, as in a plain commit.
pub type Member<'a> = (&'a str, Option<&'a str>, i32);

/// See the module's head. Shared by all connections.
pub struct Transactions {
    metadata: Arc<dyn MetadataStore>,
    groups: Arc<Groups>,
    consumption: Arc<Consumption>,
    tail: Arc<Tail>,
    upkeep: Nudge,
    settings: TransactionSettings,
    stopping: CancellationToken,
}

impl Transactions {
    #[must_use]
    pub fn new(
        settings: TransactionSettings,
        metadata: Arc<dyn MetadataStore>,
        groups: Arc<Groups>,
        consumption: Arc<Consumption>,
        tail: Arc<Tail>,
        upkeep: Nudge,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            metadata,
            groups,
            consumption,
            tail,
            upkeep,
            settings,
            stopping,
        })
    }

    /// The producer's identity; a transaction that was open is aborted.
    #[tracing::instrument(
        name = "transaction",
        level = "debug",
        skip_all,
        fields(operation = "init", transactional_id)
    )]
    pub async fn init(
        &self,
        transactional_id: &str,
        timeout_ms: i32,
        recovering: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, TransactionFault> {
        if transactional_id.is_empty() {
            return Err(TransactionFault::EmptyId);
        }
        let max = self.settings.timeout_max.as_millis();
        if timeout_ms <= 0 || timeout_ms as u128 > max {
            return Err(TransactionFault::Timeout { got: timeout_ms, max });
        }
        let init = InitTransaction {
            transactional_id: transactional_id.to_owned(),
            timeout_ms,
            recovering,
            transactional_ids_max: self.settings.transactional_ids_max,
            encode: Arc::new(encode_markers),
        };
        let ended = self.metadata.init_transaction(init).await?;
        Ok(self.ended(&ended))
    }

    #[tracing::instrument(name = "transaction", level = "debug", skip_all, fields(operation = "add_partitions", transactional_id = asking.transactional_id))]
    pub async fn add_partitions(
        &self,
        asking: Asking<'_>,
        partitions: &[TopicPartition],
    ) -> Result<(), TransactionFault> {
        let added = self
            .metadata
            .add_partitions(asking.transactional_id, asking.producer, partitions);
        Ok(added.await?)
    }

    #[tracing::instrument(name = "transaction", level = "debug", skip_all, fields(operation = "add_group", transactional_id = asking.transactional_id))]
    pub async fn add_group(&self, asking: Asking<'_>, group: &str) -> Result<(), TransactionFault> {
        if group.is_empty() {
            return Err(GroupFault::GroupId.into());
        }
        let added = self
            .metadata
            .add_group(asking.transactional_id, asking.producer, group);
        Ok(added.await?)
    }

    /// Holds offsets for the transaction's end; one outcome each. `implicit` as in KIP-890 part 2.
    #[tracing::instrument(name = "transaction", level = "debug", skip_all, fields(operation = "add_offsets", transactional_id = asking.transactional_id))]
    pub async fn add_offsets(
        &self,
        asking: Asking<'_>,
        (group, member): (&str, Member<'_>),
        implicit: bool,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<Vec<Result<(), LookupError>>, TransactionFault> {
        if group.is_empty() {
            return Err(GroupFault::GroupId.into());
        }
        let adding = |coordinator_epoch, offsets| TransactionOffsets {
            transactional_id: asking.transactional_id.to_owned(),
            producer: asking.producer,
            group: group.to_owned(),
            coordinator_epoch,
            implicit,
            offsets,
        };
        let added = self
            .groups
            .commit_in_transaction(group, member, offsets, adding)
            .await?;
        Ok(added?)
    }

    /// Ends a transaction for `client`; who the producer is from then on.
    #[tracing::instrument(name = "transaction", level = "debug", skip_all, fields(operation = "end", transactional_id = asking.transactional_id))]
    pub async fn end(
        &self,
        asking: Asking<'_>,
        client: &Client,
        result: TransactionResult,
        bump_epoch: bool,
    ) -> Result<ProducerIdentity, TransactionFault> {
        let end = EndTransaction {
            transactional_id: asking.transactional_id.to_owned(),
            producer: asking.producer,
            result,
            bump_epoch,
            encode: Arc::new(encode_markers),
        };
        let ended = self.metadata.end_transaction(end).await?;
        self.count(&ended.offsets, client).await;
        Ok(self.ended(&ended))
    }

    /// Aborts what a producer has open in any of these partitions, for an administrator; each one's answer.
    pub async fn abort_open(
        &self,
        producer: ProducerIdentity,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Result<(), TransactionError>>, TransactionError> {
        let abort = AbortOpen {
            producer,
            partitions,
            encode: Arc::new(encode_markers),
        };
        let aborted = self.metadata.abort_open_transaction(abort).await?;
        if let Some((transactional_id, ended)) = &aborted.ended {
            let partitions = ended.markers.len();
            tracing::info!(
                %transactional_id,
                partitions,
                "transaction aborted: an administrator asked for it"
            );
            self.ended(ended);
        }
        Ok(aborted.outcomes)
    }

    /// Counts what committed offsets say was consumed. The end itself stands: a failure here costs a count.
    async fn count(&self, offsets: &[PublishedOffset], client: &Client) {
        if offsets.is_empty() {
            return;
        }
        let ids: BTreeSet<TopicId> = offsets.iter().map(|offset| offset.partition.topic).collect();
        let ids: Vec<TopicId> = ids.into_iter().collect();
        let topics = match self.metadata.topics_by_id(&ids).await {
            Ok(topics) => topics,
            Err(error) => {
                let error_type = error.error_type();
                if let Some(suppressed) = logging::admit("count a transaction", error_type, "") {
                    tracing::warn!(
                        error_type,
                        %error,
                        suppressed,
                        "what a transaction consumed is not counted: its topics could not be read"
                    );
                }
                return;
            }
        };
        let topics = topics.iter().flatten();
        let names: HashMap<TopicId, &str> = topics.map(|t| (t.id, t.name.as_str())).collect();
        for offset in offsets {
            if let Some(topic) = names.get(&offset.partition.topic) {
                let moved = (offset.previous, offset.offset);
                self.consumption
                    .committed((&offset.group, topic), client, &offset.partition, moved);
            }
        }
    }

    /// What follows from an end in this agent.
    fn ended(&self, ended: &Ended) -> ProducerIdentity {
        if !ended.markers.is_empty() {
            self.tail.append_markers(&ended.markers);
            self.upkeep.committed();
        }
        ended.producer
    }
}
