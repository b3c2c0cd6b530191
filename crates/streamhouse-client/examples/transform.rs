//! Consumes one topic, and produces its records in upper case to another: exactly once.
//!
//! ```sh
//! cargo run -p streamhouse-client --example transform -- --from numbers --to copies --id copier
//! ```
//!
//! What was consumed and what came of it are committed in one transaction. However often the program is killed
//! and started again, readers of committed records see each result once. A second program with the same `--id`
//! takes over, and the first one ends.

mod shared;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use streamhouse_client::{
    CommitError, Commits, ConsumeError, Consumer, ProcessedError, Producer, Received, Record,
    TransactionError, TransactionalProducer,
};

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    #[arg(long)]
    from: String,
    #[arg(long)]
    to: String,
    /// The transactional id, and this member's name in its group
    #[arg(long)]
    id: String,
    /// Records of a transaction at most
    #[arg(long, default_value = "100")]
    batch: usize,
    #[arg(long, default_value = "45")]
    session_seconds: u64,
    /// Where to serve this program's metrics
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// Write the metrics to standard output at the end
    #[arg(long)]
    print_metrics: bool,
}

const LIMIT: Duration = Duration::from_secs(30);
/// A transaction waits no longer for its next record.
const PATIENCE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::log();
    let arguments = Arguments::parse();
    // First the producer: it ends what an earlier one left open, so that its offsets are settled.
    let mut producer = Producer::builder()
        .bootstrap(arguments.bootstrap.as_str())
        .client_id("example-transform")
        .build_transactional(&arguments.id, LIMIT)
        .await?;
    let mut consumer = Consumer::builder()
        .bootstrap(arguments.bootstrap)
        .client_id("example-transform")
        .group(format!("{}-group", arguments.id))
        .topics([arguments.from])
        .instance_id(arguments.id)
        .session_timeout(Duration::from_secs(arguments.session_seconds))
        .commits(Commits::InTransactions)
        .metrics(producer.metrics())
        .build()?;
    if let Some(address) = arguments.metrics {
        shared::serve(address, consumer.metrics().clone()).await?;
    }

    let mut stop = std::pin::pin!(shared::told_to_stop());
    loop {
        let records = tokio::select! {
            told = &mut stop => {
                told?;
                break;
            }
            records = some(&mut consumer, arguments.batch) => records?,
        };
        match copy(&mut producer, &consumer, &arguments.to, &records).await {
            Ok(()) => eprintln!("{} records committed", records.len()),
            Err(error) if is_over(&*error) => return Err(error),
            Err(error) => {
                eprintln!("again: {error}");
                consumer.rewind().await?;
            }
        }
    }
    let metrics = consumer.metrics().clone();
    consumer.close(LIMIT).await?;
    producer.close(LIMIT).await?;
    if arguments.print_metrics {
        print!("{}", metrics.render());
    }
    Ok(())
}

/// Waits for a record, and takes what comes soon after.
async fn some(consumer: &mut Consumer, max: usize) -> Result<Vec<Received>, ConsumeError> {
    let mut records = vec![consumer.next().await?];
    while records.len() < max {
        match tokio::time::timeout(PATIENCE, consumer.next()).await {
            Ok(record) => records.push(record?),
            Err(_) => break,
        }
    }
    Ok(records)
}

/// One transaction. An error drops it, which aborts it.
async fn copy(
    producer: &mut TransactionalProducer,
    consumer: &Consumer,
    to: &str,
    records: &[Received],
) -> Result<(), Box<dyn std::error::Error>> {
    let transaction = producer.begin().await?;
    for record in records {
        let value = record.value().map(|value| value.to_ascii_uppercase());
        let mut copy = Record::to(to)
            .partition(record.partition())
            .value(value.unwrap_or_default());
        if let Some(key) = record.key() {
            copy = copy.key(key.clone());
        }
        copy = copy.headers(record.headers().iter().cloned());
        // The commit waits for all of them, and fails with any of them.
        let _delivery = transaction.enqueue(copy).await?;
        consumer.processed(record)?;
    }
    transaction.send_offsets(consumer).await?;
    Ok(transaction.commit().await?)
}

/// Whether trying again is useless: a newer producer has taken over, or this one is broken. A commit that
/// nobody answered is left to the next start, which finds out.
fn is_over(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref::<CommitError>() {
        Some(CommitError::Aborted { .. }) => false,
        Some(_) => true,
        None => {
            let must_abort = matches!(error.downcast_ref(), Some(TransactionError::MustAbort { .. }));
            // A partition moved on while its records were in hand: they are somebody else's now.
            !must_abort && !error.is::<ProcessedError>()
        }
    }
}
