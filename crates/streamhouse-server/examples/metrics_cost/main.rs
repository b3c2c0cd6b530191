//! What metrics cost an agent: `cargo xtask bench-metrics`.
//!
//! Two questions. Which share of the instructions of a produce and of a fetch is counting: an agent on memory
//! stores runs under callgrind, once as it is and once built with the feature `uncounted`, whose handles do
//! nothing; what lies between two runs of different length is the cost of the requests alone. And what large
//! scrapes do to the latency of produces: lone produces against a real server, with and without scrapes of
//! 10,000 partitions and three groups, by turns in one run.

#![allow(clippy::unwrap_used)] // a benchmark that cannot go on ends here, with the place

mod agent;
mod scrapes;
mod share;
#[path = "../shared/mod.rs"]
mod shared;
mod wire;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// An agent on memory stores, without HTTP, until its input ends
    Agent,
    /// The metrics' share of instructions
    Share {
        /// This program built with the feature `uncounted`
        #[arg(long)]
        uncounted: PathBuf,
        /// Runs of each kind; the median counts
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Latency of produces while large scrapes are answered
    Scrapes {
        /// The server's binary
        #[arg(long)]
        server: PathBuf,
        /// Turns with and without scrapes
        #[arg(long, default_value_t = 4)]
        turns: usize,
        #[arg(long, default_value_t = 11)]
        seconds: u64,
    },
}

fn main() {
    match Options::parse().task {
        Task::Agent => agent::run(),
        Task::Share { uncounted, rounds } => share::measure(&uncounted, rounds),
        Task::Scrapes {
            server,
            turns,
            seconds,
        } => scrapes::measure(&server, turns, std::time::Duration::from_secs(seconds)),
    }
}
