//! Receiving records as a member of a group: what a program calls.
//!
//! At least once, by construction: nothing is committed before the program has said that a record is processed
//! ([`Consumer::processed`]), and what it says of a partition that was taken away is refused. Records come from
//! one thread (`poller`), which looks for more only when the program asks; so partitions move only between
//! two records, as Kafka's own client has it, and no call here blocks a thread of the runtime.

mod assignment;
mod builder;
mod error;
mod poller;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use futures::Stream;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};
use tokio::sync::oneshot;

pub(crate) use assignment::{Position, Slot};
pub use builder::{ConsumerBuilder, Rebalance, RebalanceHook, RebalanceKind, TopicPartition};
pub use error::{ConsumeError, ProcessedError, RefusedOffset};
use poller::{Batch, Order, Shared};

use crate::config::Commits;
use crate::metrics::ClientMetrics;
use crate::record::Received;
use crate::transaction::TransactionError;

/// A member of a consumer group.
pub struct Consumer {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    batches: tokio::sync::mpsc::Receiver<Batch>,
    /// Received and not yet handed out.
    buffer: VecDeque<Result<Received, ConsumeError>>,
    /// The poller was asked for more and has not answered.
    is_asked: bool,
    metrics: ClientMetrics,
}

impl Consumer {
    /// At least once, from the earliest record, committed ones only.
    pub fn builder() -> ConsumerBuilder {
        ConsumerBuilder::default()
    }

    /// The next record; waits for one. Dropped before it is ready, this future has taken nothing.
    ///
    /// # Errors
    /// What one partition or the membership suffers from; a consumer that can go on does so at the next call
    /// ([`ConsumeError::is_fatal`]).
    pub async fn next(&mut self) -> Result<Received, ConsumeError> {
        loop {
            if let Some(entry) = self.take_buffered() {
                return entry;
            }
            self.refill().await?;
        }
    }

    /// The same without end, as a stream.
    pub fn stream(&mut self) -> impl Stream<Item = Result<Received, ConsumeError>> + '_ {
        futures::stream::unfold(
            self,
            |consumer| async move { Some((consumer.next().await, consumer)) },
        )
    }

    /// What is at hand and still ours to hand out, in order.
    fn take_buffered(&mut self) -> Option<Result<Received, ConsumeError>> {
        let mut index = 0;
        loop {
            match self.buffer.get(index)? {
                // Its partition was taken away, or was sought in, since it came.
                Ok(record) if !record.slot.is_live() => drop(self.buffer.remove(index)),
                Ok(record) if record.slot.is_paused() => index += 1,
                Ok(record) => {
                    record.slot.handed_out();
                    return self.buffer.remove(index);
                }
                Err(_) => return self.buffer.remove(index),
            }
        }
    }

    async fn refill(&mut self) -> Result<(), ConsumeError> {
        if !self.is_asked {
            self.orders.send(Order::Fill).map_err(|_| ConsumeError::Closed)?;
            self.is_asked = true;
        }
        let span = tracing::debug_span!("poll", consumer_group = %self.shared.group);
        let batch = tracing::Instrument::instrument(self.batches.recv(), span).await;
        self.is_asked = false;
        self.buffer.extend(batch.ok_or(ConsumeError::Closed)?);
        Ok(())
    }

    /// This record and all before it in its partition are processed: they may be committed, which happens from
    /// time to time, when the partition moves, and when the consumer is closed.
    ///
    /// # Errors
    /// The partition was taken away (or was sought in) since the record came: another member may be processing
    /// it again.
    pub fn processed(&self, record: &Received) -> Result<(), ProcessedError> {
        if record.slot.processed(record.offset) {
            return Ok(());
        }
        Err(ProcessedError {
            topic: record.slot.topic.clone(),
            partition: record.slot.partition,
            offset: record.offset,
        })
    }

    /// Commits what is processed, now.
    ///
    /// # Errors
    /// Refused, for some partitions or for all, or unanswered. That is tried again with the next commit.
    pub async fn commit(&self) -> Result<(), ConsumeError> {
        let span = tracing::debug_span!("commit", consumer_group = %self.shared.group);
        tracing::Instrument::instrument(self.ask(Order::Commit), span).await
    }

    /// Marks this record as processed, and commits.
    ///
    /// # Errors
    /// As those of [`processed`](Self::processed) and [`commit`](Self::commit).
    pub async fn commit_through(&self, record: &Received) -> Result<(), ConsumeError> {
        self.processed(record)?;
        self.commit().await
    }

    /// Hands out nothing of this partition until it is resumed; the membership goes on.
    ///
    /// # Errors
    /// It is not ours.
    pub async fn pause(&self, topic: &str, partition: i32) -> Result<(), ConsumeError> {
        let place = TopicPartition::new(topic, partition);
        self.ask(|reply| Order::Pause { place, reply }).await
    }

    /// Goes on where it was paused.
    ///
    /// # Errors
    /// It is not ours.
    pub async fn resume(&self, topic: &str, partition: i32) -> Result<(), ConsumeError> {
        let place = TopicPartition::new(topic, partition);
        self.ask(|reply| Order::Resume { place, reply }).await
    }

    /// Goes on at this offset. Records before it that were received stay unprocessed: a mark that comes late
    /// is refused.
    ///
    /// # Errors
    /// It is not ours.
    pub async fn seek(&self, topic: &str, partition: i32, offset: i64) -> Result<(), ConsumeError> {
        let place = TopicPartition::new(topic, partition);
        self.ask(|reply| Order::Seek { place, offset, reply }).await
    }

    /// Goes back to what the group has committed, in every partition: after a transaction that was aborted. The
    /// group is asked, so this is also right after [`CommitError::Unknown`](crate::CommitError::Unknown), once
    /// [`begin`](crate::TransactionalProducer::begin) has found out.
    ///
    /// # Errors
    /// The group does not answer; then only a new consumer is sure where it is.
    pub async fn rewind(&self) -> Result<(), ConsumeError> {
        self.ask(Order::Rewind).await
    }

    /// The partitions that are ours now.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.assignment.places()
    }

    /// Commits what is processed (unless transactions do), leaves the group and stops. Dropping a consumer does
    /// the same, without anybody hearing how it went.
    ///
    /// # Errors
    /// The commit was refused, for some partitions or for all, or nobody answered it within the limit: what was not
    /// committed is consumed again, by whoever gets the partition. Or the time was over before the group was left.
    pub async fn close(self, limit: Duration) -> Result<(), ConsumeError> {
        let answer = self.order(|reply| Order::Close { limit, reply })?;
        // The thread is the last to hold it, so that nobody else waits for connections to close.
        drop(self);
        answer.await.map_err(|_| ConsumeError::Closed)?
    }

    #[must_use]
    pub fn metrics(&self) -> &ClientMetrics {
        &self.metrics
    }

    async fn ask(&self, order: impl FnOnce(poller::Reply) -> Order) -> Result<(), ConsumeError> {
        let answer = self.order(order)?;
        answer.await.map_err(|_| ConsumeError::Closed)?
    }

    fn order(
        &self,
        order: impl FnOnce(poller::Reply) -> Order,
    ) -> Result<oneshot::Receiver<Result<(), ConsumeError>>, ConsumeError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).map_err(|_| ConsumeError::Closed)?;
        self.shared.wake();
        Ok(answer)
    }

    /// What a transaction is to commit for us, and in whose name; `None` when nothing moved.
    pub(crate) fn offsets_for_transaction(
        &self,
    ) -> Result<Option<(Vec<Position>, TopicPartitionList, ConsumerGroupMetadata)>, TransactionError> {
        if self.shared.commits != Commits::InTransactions {
            return Err(TransactionError::ConsumerCommits {
                group: self.shared.group.to_string(),
            });
        }
        let positions = self.shared.assignment.uncommitted();
        let Some(member) = self.shared.base.group_metadata() else {
            return Ok(None);
        };
        if positions.is_empty() {
            return Ok(None);
        }
        let offsets = assignment::list(&positions);
        Ok(Some((positions, offsets, member)))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // The thread sees that nobody orders any more, and closes.
        let (nobody, _) = mpsc::channel();
        self.orders = nobody;
        self.shared.wake();
    }
}
