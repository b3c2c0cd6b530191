//! What consumer groups cost an agent: `cargo xtask bench-groups`.
//!
//! Starts the given server on a directory of its own and lets many members speak to it, each over a connection
//! of its own, as clients do; what a member costs here is next to nothing, so thousands fit beside the server.
//! Two figures for each of the two protocols: the CPU time that heartbeats of many groups take, read from
//! /proc, and how long a large group takes to settle. The protocols are measured one after the other, each on
//! a server of its own.

#![allow(clippy::unwrap_used)] // a benchmark that cannot go on ends here, with the place

mod beats;
mod classic;
mod connection;
mod newer;
mod server;
#[path = "../shared/mod.rs"]
mod shared;

use std::path::PathBuf;

use clap::Parser;
use server::Server;

#[derive(Parser)]
struct Options {
    /// The server's binary
    #[arg(long)]
    server: PathBuf,
    #[arg(long, default_value_t = 1_000)]
    groups: usize,
    /// Members of each group
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// How long the CPU time of heartbeats is measured
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Members of the group that rebalances
    #[arg(long, default_value_t = 100)]
    large: usize,
}

const REBALANCES: usize = 3;

#[tokio::main]
async fn main() {
    let options = Options::parse();
    println!("Classic protocol");
    let server = Server::start(&options.server);
    classic::heartbeats(&server, &options).await;
    for _ in 0..REBALANCES {
        classic::rebalance(&server, options.large).await;
    }
    drop(server);
    println!("Newer protocol (KIP-848)");
    let server = Server::start(&options.server);
    newer::heartbeats(&server, &options).await;
    for round in 0..REBALANCES {
        newer::rebalance(&server, options.large, round).await;
    }
}
