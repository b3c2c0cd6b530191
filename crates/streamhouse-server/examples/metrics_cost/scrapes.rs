//! Lone produces, with and without large scrapes.
//!
//! One connection sends one record after the other. By turns nobody scrapes, or somebody does without a pause:
//! every scrape is a new rendering where the last one is a quarter of a second old, and takes a new snapshot of
//! the whole system every ten seconds, so a turn is longer than that.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::shared::Server;
use crate::wire::{self, Client};

const TOPICS: usize = 100;
const PARTITIONS: i32 = 100;
const GROUPS: usize = 3;
/// One rendering serves the scrapes of so long.
const RENDERING_AGE: Duration = Duration::from_millis(260);

pub(crate) fn measure(binary: &Path, turns: usize, turn: Duration) {
    let server = Server::start(binary, &["--object-store", "memory:", "--metadata", "memory:"]);
    let mut client = Client::connect(server.kafka);
    let topics: Vec<String> = (0..TOPICS).map(|n| format!("topic-{n:02}")).collect();
    client.create(&topics, PARTITIONS);
    for topic in &topics {
        for partition in 0..PARTITIONS {
            client.produce(&wire::produce(topic, partition, 1));
        }
    }
    for group in 0..GROUPS {
        client.commit(&format!("group-{group}"), &topics, PARTITIONS);
    }
    let (first, bytes, series) = scrape(server.http);
    println!(
        "{} partitions x {GROUPS} groups: {series} series, {:.1} MiB; the first scrape took {:.0} ms\n",
        TOPICS * PARTITIONS as usize,
        bytes as f64 / f64::from(1 << 20),
        first.as_secs_f64() * 1e3,
    );
    let frame = wire::produce(&topics[0], 0, 1);
    let (mut alone, mut beside, mut scrapes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        alone.extend(produces(&mut client, &frame, turn));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let scraping = scope.spawn(|| {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    took.push(scrape(server.http).0);
                    std::thread::sleep(RENDERING_AGE);
                }
                took
            });
            beside.extend(produces(&mut client, &frame, turn));
            stop.store(true, Ordering::Relaxed);
            scrapes.extend(scraping.join().unwrap());
        });
    }
    println!("| | number | p50, µs | p99, µs | p99.9, µs | longest, ms |\n|---|---|---|---|---|---|");
    row("produces, nobody scrapes", &mut alone);
    row("produces beside scrapes", &mut beside);
    row("the scrapes", &mut scrapes);
    let ratio = |share| quantile(&beside, share).as_secs_f64() / quantile(&alone, share).as_secs_f64();
    println!(
        "\nbeside scrapes / alone: p50 {:.2}, p99 {:.2}",
        ratio(0.5),
        ratio(0.99)
    );
}

fn produces(client: &mut Client, frame: &[u8], during: Duration) -> Vec<Duration> {
    let began = Instant::now();
    let mut took = Vec::new();
    while began.elapsed() < during {
        let sent = Instant::now();
        client.produce(frame);
        took.push(sent.elapsed());
    }
    took
}

/// How long it took to the last byte, its bytes, its series.
fn scrape(address: SocketAddr) -> (Duration, usize, usize) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let took = began.elapsed();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    let lines = answer.split(|byte| *byte == b'\n');
    let series = lines.filter(|line| line.starts_with(b"streamhouse_")).count();
    assert!(
        series > TOPICS * PARTITIONS as usize * GROUPS * 2,
        "the gauges of all groups are among {series} series"
    );
    (took, answer.len(), series)
}

fn row(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let micros = |share| quantile(took, share).as_secs_f64() * 1e6;
    println!(
        "| {what} | {} | {:.0} | {:.0} | {:.0} | {:.1} |",
        took.len(),
        micros(0.5),
        micros(0.99),
        micros(0.999),
        quantile(took, 1.0).as_secs_f64() * 1e3,
    );
}

/// Of what is sorted.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}
