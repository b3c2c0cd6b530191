//! `cargo xtask`: the project's chores, so that a developer and CI run the same commands.
//!
//! Each command stands in a file of its own; what they need is installed under `.test-tools` (git-ignored),
//! Debian packages aside. Nothing here knows the product: it builds, fetches and starts others.

mod clients;
mod lint;
mod metrics;
mod places;
mod run;
mod tests;
mod tools;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of this project")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests need: Debian packages, and under .test-tools a Python venv, Apache Kafka's jars and
    /// the client programs
    Tools {
        /// Apache Kafka and rdkafka_performance as well, which the benchmark needs
        #[arg(long)]
        bench: bool,
    },
    /// rustfmt, clippy without warnings, cargo-deny (bans, licences, sources)
    Lint,
    /// Install what is missing, build, and run every test: Rust's, then the system tests
    Test {
        /// Arguments handed to pytest, for example `-- system/test_kill.py -x`
        #[arg(last = true)]
        pytest: Vec<String>,
    },
    /// Fetch Apache Kafka and run the client scenarios against it
    Oracle {
        /// Arguments handed to pytest
        #[arg(last = true)]
        pytest: Vec<String>,
    },
    /// What consumer groups cost: heartbeats of many, a rebalance of a large one
    BenchGroups {
        /// Arguments handed to the load, for example `-- --groups 100`
        #[arg(last = true)]
        load: Vec<String>,
    },
    /// What metrics cost: nanoseconds a call, the share of instructions, and produces beside large scrapes
    BenchMetrics {
        /// Only these; all of them unless told
        #[arg(value_enum)]
        parts: Vec<metrics::Part>,
    },
    /// Compare with Apache Kafka, the disk and the object store, side by side; prints a Markdown table
    Bench {
        /// Arguments handed to benches/compare, for example `-- --only kafka,local`
        #[arg(last = true)]
        bench: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Tools { bench: false } => tools::tests().and_then(|_| clients::all()),
        Task::Tools { bench: true } => tools::bench().map(drop),
        Task::Lint => lint::all(),
        Task::Test { pytest } => tests::everything(&pytest),
        Task::Oracle { pytest } => tests::oracle(&pytest),
        Task::BenchGroups { load } => tests::bench_groups(&load),
        Task::BenchMetrics { parts } => metrics::bench(&parts),
        Task::Bench { bench } => tests::bench(&bench),
    }
}
