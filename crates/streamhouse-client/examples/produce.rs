//! Sends each line of standard input as a record; a tab parts key and value.
//!
//! ```sh
//! seq 1000 | cargo run -p streamhouse-client --example produce -- --topic numbers
//! ```
//!
//! Many records are in flight at once: the queue is bounded in bytes, and a line is read when there is room.
//! The program ends with an error if one record was not acknowledged, and says whether it may be stored.

mod shared;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use streamhouse_client::{Compression, Producer, Record, TraceContext};
use tokio::io::{AsyncBufReadExt, BufReader};

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long, value_enum, default_value = "none")]
    compression: Codec,
    /// Milliseconds that a record may wait for others to share its batch
    #[arg(long, default_value = "5")]
    linger_ms: u64,
    /// A W3C `traceparent` that all records carry, as a tracing system would give one for each
    #[arg(long)]
    traceparent: Option<String>,
    /// Where to serve this program's metrics
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// Write the metrics to standard output at the end
    #[arg(long)]
    print_metrics: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    shared::log();
    let arguments = Arguments::parse();
    let trace = arguments
        .traceparent
        .map(|text| text.parse::<TraceContext>())
        .transpose()?;
    let producer = Producer::builder()
        .bootstrap(arguments.bootstrap)
        .client_id("example-produce")
        .compression(arguments.compression.into())
        .linger(Duration::from_millis(arguments.linger_ms))
        .trace(move || trace.clone())
        .build()?;
    if let Some(address) = arguments.metrics {
        shared::serve(address, producer.metrics().clone()).await?;
    }

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut in_flight = FuturesUnordered::new();
    let (mut number, mut acknowledged, mut failed) = (0_u64, 0_u64, 0_u64);
    let mut count = |fate: Result<_, streamhouse_client::SendError>| match fate {
        Ok(_) => acknowledged += 1,
        Err(error) => {
            failed += 1;
            eprintln!("{error}");
        }
    };
    while let Some(line) = lines.next_line().await? {
        let record = match line.split_once('\t') {
            Some((key, value)) => Record::to(arguments.topic.as_str())
                .key(key.to_owned())
                .value(value.to_owned()),
            None => Record::to(arguments.topic.as_str()).value(line),
        };
        let record = record.header("line", number.to_string());
        number += 1;
        match producer.enqueue(record).await {
            Ok(delivery) => in_flight.push(delivery),
            Err(error) => count(Err(error)),
        }
        // What is answered already makes room for what comes.
        while let Some(Some(fate)) = futures::FutureExt::now_or_never(in_flight.next()) {
            count(fate);
        }
    }
    producer.close(Duration::from_secs(60)).await?;
    while let Some(fate) = in_flight.next().await {
        count(fate);
    }

    eprintln!("{acknowledged} records acknowledged, {failed} failed");
    if arguments.print_metrics {
        print!("{}", producer.metrics().render());
    }
    if failed > 0 {
        return Err(format!("{failed} records were not acknowledged").into());
    }
    Ok(())
}
