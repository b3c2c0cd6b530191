//! Consumes topics as a member of a group; start several to see them share the partitions.
//!
//! ```sh
//! cargo run -p streamhouse-client --example consume -- --group readers --topic numbers
//! ```
//!
//! Each record is written to standard output as `partition offset key value`, and then marked as processed. The
//! program ends when it is told to (SIGTERM, Ctrl-C) or has seen `--count` records; it commits, leaves the
//! group, and another member, or its own next start, goes on from there.

mod shared;

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use streamhouse_client::{Commits, Consumer, GroupProtocol, Received};

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    #[arg(long)]
    group: String,
    #[arg(long, required = true)]
    topic: Vec<String>,
    /// A name that is this member's over restarts
    #[arg(long)]
    instance_id: Option<String>,
    #[arg(long, default_value = "45", conflicts_with = "broker_assigns")]
    session_seconds: u64,
    /// The broker shares the partitions out, not a member (KIP-848)
    #[arg(long)]
    broker_assigns: bool,
    /// Stop after this many records
    #[arg(long)]
    count: Option<u64>,
    /// Then stay in the group until told to stop, without taking more
    #[arg(long)]
    hold: bool,
    /// How long what is processed may stay uncommitted
    #[arg(long, default_value = "1")]
    commit_seconds: u64,
    /// Where to serve this program's metrics
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// Write the metrics to standard error at the end
    #[arg(long)]
    print_metrics: bool,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::log();
    let arguments = Arguments::parse();
    let mut builder = Consumer::builder()
        .bootstrap(arguments.bootstrap)
        .client_id("example-consume")
        .group(arguments.group)
        .topics(arguments.topic)
        .commits(Commits::Every(Duration::from_secs(arguments.commit_seconds)))
        .on_rebalance(|rebalance| {
            let places: Vec<_> = rebalance
                .partitions
                .iter()
                .map(|place| format!("{}/{}", place.topic, place.partition))
                .collect();
            eprintln!("{:?}: {}", rebalance.kind, places.join(" "));
        });
    builder = if arguments.broker_assigns {
        builder.protocol(GroupProtocol::Consumer)
    } else {
        builder.session_timeout(Duration::from_secs(arguments.session_seconds))
    };
    if let Some(id) = arguments.instance_id {
        builder = builder.instance_id(id);
    }
    let mut consumer = builder.build()?;
    if let Some(address) = arguments.metrics {
        shared::serve(address, consumer.metrics().clone()).await?;
    }

    let mut stop = std::pin::pin!(shared::told_to_stop());
    let mut left = arguments.count.unwrap_or(u64::MAX);
    while left > 0 {
        let record = tokio::select! {
            told = &mut stop => {
                told?;
                break;
            }
            record = consumer.next() => record,
        };
        match record {
            Ok(record) => {
                show(&record)?;
                consumer.processed(&record)?;
                left -= 1;
            }
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => eprintln!("error: {error}"),
        }
    }
    if arguments.hold && left == 0 {
        stop.await?;
    }
    let metrics = consumer.metrics().clone();
    let closed = consumer.close(Duration::from_secs(30)).await;
    if arguments.print_metrics {
        eprint!("{}", metrics.render());
    }
    Ok(closed?)
}

fn show(record: &Received) -> std::io::Result<()> {
    let text = |bytes: Option<&bytes::Bytes>| {
        bytes.map_or("-".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let (key, value) = (text(record.key()), text(record.value()));
    // Line by line, so that what was shown is what was marked as processed.
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {} {key} {value}", record.partition(), record.offset())?;
    if let Some(trace) = record.trace() {
        tracing::info!(%trace, "traced");
    }
    out.flush()
}
