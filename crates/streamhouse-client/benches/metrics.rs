//! What counting adds to a send, to a report and to a poll, on one thread and on two that count in the same series.
//!
//! `cargo bench -p streamhouse-client` prints nanoseconds a call, the best of five runs: what disturbs a run only
//! makes it longer.

use std::time::{Duration, Instant};

use streamhouse_client::ClientMetrics;
use streamhouse_client::bench::Counting;

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
    report("a send", &|| counting.send());
    report("the report on a batch", &|| counting.batch(100));
    report("a poll", &|| counting.poll());
}

fn report(what: &str, call: &(dyn Fn() + Sync)) {
    println!("| {what} | {:.1} | {:.1} |", nanos(1, call), nanos(2, call));
}

/// Nanoseconds that one call takes its thread.
fn nanos(threads: usize, call: &(dyn Fn() + Sync)) -> f64 {
    let run = || {
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
