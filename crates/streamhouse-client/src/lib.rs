//! `Producer` and `Consumer` for Rust programs, for StreamHouse and any other Kafka broker.
//!
//! On librdkafka (crate `rdkafka`), and smaller and safer to use than it: settings that lose or reorder nothing
//! are the defaults, contradictory ones are refused by name, a queue that is full lets sends wait, nothing is
//! committed before it is processed, a transaction that is dropped is aborted, and no call blocks a thread of
//! the tokio runtime.
//!
//! ```no_run
//! use std::time::Duration;
//! use streamhouse_client::{Consumer, Producer, Record};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::builder().bootstrap("127.0.0.1:9092").build()?;
//! let stored = producer.send(Record::to("orders").key("7").value("2 apples")).await?;
//! println!("partition {}, offset {:?}", stored.partition, stored.offset);
//! producer.close(Duration::from_secs(10)).await?;
//!
//! let mut consumer = Consumer::builder()
//!     .bootstrap("127.0.0.1:9092")
//!     .group("billing")
//!     .topics(["orders"])
//!     .build()?;
//! let record = consumer.next().await?;
//! // … what has to be done with it …
//! consumer.processed(&record)?;
//! consumer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Producer`], [`Record`]: sending; [`SendError`] tells whether a record that failed may be stored.
//! - [`Consumer`], [`Received`]: receiving in a group, at least once.
//! - [`TransactionalProducer`], [`Transaction`]: exactly once, from topic to topic.
//! - [`ClientMetrics`]: the nine producer and consumer metrics of StreamHouse, as this program sees them.
//! - [`TraceContext`]: W3C trace context in record headers.
//!
//! Deliberately absent: administration, consuming without a group, and everything else that a program can ask
//! of the crate `rdkafka` itself.

#[doc(hidden)]
pub mod bench;
mod config;
mod consumer;
mod error;
mod log;
mod metrics;
mod native;
mod producer;
mod record;
mod trace;
mod transaction;

pub use config::{Acks, Assignor, Commits, Compression, ConfigError, GroupProtocol, Isolation, Start};
pub use consumer::{
    ConsumeError, Consumer, ConsumerBuilder, ProcessedError, Rebalance, RebalanceHook, RebalanceKind,
    RefusedOffset, TopicPartition,
};
pub use error::ErrorCode;
#[cfg(feature = "prometheus")]
pub use metrics::PrometheusCollector;
pub use metrics::{ClientMetrics, ConsumerErrorType, ProducerErrorType};
pub use producer::{Delivered, Delivery, FlushError, Producer, ProducerBuilder, SendError, TraceHook};
pub use record::{Header, Received, Record};
pub use streamhouse_observability::registry::Registry;
pub use trace::{TraceContext, TraceparentError};
pub use transaction::{CommitError, Transaction, TransactionError, TransactionalProducer};
