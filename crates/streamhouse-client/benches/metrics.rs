//! What counting adds to a send, to a report and to a poll, on one thread and on two that count in the same series.
//!
//! `cargo bench -p streamhouse-client` prints nanoseconds a call, the best of five runs: what disturbs a run only
//! makes it longer.

use std::time::{Duration, Instant};

use streamhouse_client::ClientMetrics;
use streamhouse_client::bench::Counting;
use streamhouse_observability::registry::claim_lane;

const CALLS: u32 = 5_000_000;
const RUNS: usize = 5;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let metrics = ClientMetrics::default();
    // A program has more than one topic; the map that a send looks into has them all.
    let others: Vec<_> = (0..20)
        .map(|n| Counting::new(&metrics, &format!("topic-{n}")))
        .collect();
    others.iter().for_each(Counting::send);
    let counting = Counting::new(&metrics, "orders");
    println!("| the metrics' part of | 1 thread, ns | 2 threads, ns |\n|---|---|---|");
    let nothing = || {};
    report("a send", nothing, || counting.send());
    let own_lane = || {
        claim_lane();
    };
    report("the report on a batch", own_lane, || counting.batch(100));
    report("a poll", nothing, || counting.poll());
}

/// `begin` is what a thread does once, before it calls.
fn report(what: &str, begin: impl Fn() + Sync, call: impl Fn() + Sync) {
    let (one, two) = (nanos(1, &begin, &call), nanos(2, &begin, &call));
    println!("| {what} | {one:.1} | {two:.1} |");
}

/// Nanoseconds that one call takes its thread.
fn nanos(threads: usize, begin: &(impl Fn() + Sync), call: &(impl Fn() + Sync)) -> f64 {
    let run = || {
        begin();
        let start = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        start.elapsed()
    };
    let best: Option<Duration> = (0..RUNS)
        .map(|_| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
                let times = threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or(Duration::MAX));
                times.max().unwrap_or_default()
            })
        })
        .min();
    best.unwrap_or_default().as_nanos() as f64 / f64::from(CALLS)
}
