//! What consumer groups cost an agent: `cargo xtask bench-groups`.
//!
//! Starts the given server on a directory of its own and lets many members speak the classic protocol to it,
//! each over a connection of its own, as clients do; what a member costs here is next to nothing, so thousands
//! fit beside the server. Two figures: the CPU time that heartbeats of many groups take, read from /proc, and
//! how long a large group takes to settle, beyond the delays that it is configured with.

#![allow(clippy::unwrap_used)] // a benchmark that cannot go on ends here, with the place

mod member;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use member::Member;
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

/// The default of Kafka's consumers.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// The server's default: how long a new group waits for more members.
const INITIAL_DELAY: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let server = Server::start(&options.server);
    heartbeats(&server, &options).await;
    for _ in 0..3 {
        rebalance(&server, options.large).await;
    }
}

async fn heartbeats(server: &Server, options: &Options) {
    let sent = Arc::new(AtomicU64::new(0));
    let slowest = Arc::new(AtomicU64::new(0));
    let total = options.groups * options.members;
    let began = Instant::now();
    let mut tasks = Vec::new();
    let (stable, mut settled) = tokio::sync::mpsc::channel::<()>(1);
    for number in 0..total {
        // One after the other: how fast clients connect is another question.
        let mut member =
            Member::connect(server.address, &format!("group-{}", number / options.members)).await;
        let (sent, slowest, stable) = (sent.clone(), slowest.clone(), stable.clone());
        tasks.push(tokio::spawn(async move {
            member.settle().await;
            drop(stable);
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                let asked = Instant::now();
                if !member.heartbeat().await {
                    member.settle().await;
                }
                let took = u64::try_from(asked.elapsed().as_micros()).unwrap();
                slowest.fetch_max(took, Ordering::Relaxed);
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    drop(stable);
    let _ = settled.recv().await;
    println!(
        "{total} members of {} groups are stable after {:.1} s",
        options.groups,
        began.elapsed().as_secs_f64()
    );
    // What joined early may still have to learn of members that came later.
    tokio::time::sleep(HEARTBEAT * 3).await;
    sent.store(0, Ordering::Relaxed);
    slowest.store(0, Ordering::Relaxed);
    let (began, before) = (Instant::now(), server.cpu());
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), server.cpu() - before);
    let count = sent.load(Ordering::Relaxed);
    println!(
        "{count} heartbeats in {elapsed:.1} s ({:.0} a second): {:.1} % of one core, {:.1} µs each, slowest answer {:.1} ms, {} MiB resident",
        count as f64 / elapsed,
        100.0 * cpu / elapsed,
        1e6 * cpu / count as f64,
        slowest.load(Ordering::Relaxed) as f64 / 1e3,
        server.resident_bytes() >> 20,
    );
    for task in tasks {
        task.abort();
    }
}

/// A group forms; then one more member joins it and the others learn of that with their heartbeats.
async fn rebalance(server: &Server, size: usize) {
    let group = format!("large-{:?}", Instant::now());
    let mut members = Vec::new();
    for _ in 0..size {
        members.push(Member::connect(server.address, &group).await);
    }
    let before = server.cpu();
    let began = Instant::now();
    let forming: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            tokio::spawn(async move {
                member.settle().await;
                member
            })
        })
        .collect();
    let mut members = Vec::new();
    for task in forming {
        members.push(task.await.unwrap());
    }
    let formed = began.elapsed();
    assert!(
        members
            .iter()
            .all(|member| member.generation() == members[0].generation())
    );

    let last = members[0].generation();
    let mut newcomer = Member::connect(server.address, &group).await;
    let began = Instant::now();
    let mut tasks = vec![tokio::spawn(async move {
        newcomer.settle().await;
        newcomer
    })];
    for (number, mut member) in members.into_iter().enumerate() {
        // Members are somewhere between two heartbeats when another one joins.
        let phase = HEARTBEAT * u32::try_from(number + 1).unwrap() / u32::try_from(size).unwrap();
        tasks.push(tokio::spawn(async move {
            tokio::time::sleep(phase).await;
            while member.generation() == last {
                if !member.heartbeat().await {
                    member.settle().await;
                } else {
                    tokio::time::sleep(HEARTBEAT).await;
                }
            }
            member
        }));
    }
    let mut members = Vec::new();
    for task in tasks {
        members.push(task.await.unwrap());
    }
    let joined = began.elapsed();
    assert!(
        members.iter().all(|member| member.generation() == last + 1),
        "one generation for all"
    );
    println!(
        "{size} members form a group in {:.2} s ({:.2} s beyond the initial delay); one more joins them in {:.2} s \
         ({:.2} s beyond the heartbeat interval); {:.2} CPU-s for both",
        formed.as_secs_f64(),
        formed.saturating_sub(INITIAL_DELAY).as_secs_f64(),
        joined.as_secs_f64(),
        joined.saturating_sub(HEARTBEAT).as_secs_f64(),
        server.cpu() - before,
    );
}
