//! Instructions of a request, with counting and without.
//!
//! Each run starts an agent under callgrind and sends it requests one after the other; the difference between a
//! long and a short run, divided by that of their lengths, is a request's own. The client is another process.
//! The kernel's instructions are not in it, nor what the clock costs, which is read with and without metrics.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::wire::{self, Client};

/// Requests of the two runs.
const SHORT: u64 = 200;
const LONG: u64 = 1_200;
const TOPIC: &str = "orders";
/// A fetch takes one batch, whatever lies behind it.
const FETCH_BYTES: i32 = 1;

#[derive(Clone, Copy)]
enum Kind {
    Produce { records: usize },
    Fetch { records: usize },
}

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Produce { records: 1 } => "a produce, one record".to_owned(),
            Self::Produce { records } => format!("a produce, {records} records"),
            Self::Fetch { records } => format!("a fetch, {records} records, from the tail"),
        }
    }
}

pub(crate) fn measure(uncounted: &Path, rounds: usize) {
    let counted = std::env::current_exe().unwrap();
    println!("| | instructions | of them counting | share |\n|---|---|---|---|");
    for kind in [
        Kind::Produce { records: 1 },
        Kind::Produce { records: 100 },
        Kind::Fetch { records: 100 },
    ] {
        let (with, with_spread) = request(&counted, kind, rounds);
        let (without, without_spread) = request(uncounted, kind, rounds);
        let counting = with - without;
        println!(
            "| {} | {with:.0} ± {with_spread:.0} | {counting:.0} ± {:.0} | {:.2} % |",
            kind.name(),
            with_spread + without_spread,
            100.0 * counting / with,
        );
    }
}

/// The median over the rounds, and how far half of the others lie from it at most.
fn request(program: &Path, kind: Kind, rounds: usize) -> (f64, f64) {
    let mut found: Vec<f64> = (0..rounds.max(1))
        .map(|_| {
            let (short, long) = (run(program, kind, SHORT), run(program, kind, LONG));
            (long as f64 - short as f64) / (LONG - SHORT) as f64
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let median = found[found.len() / 2];
    let mut off: Vec<f64> = found.iter().map(|each| (each - median).abs()).collect();
    off.sort_by(f64::total_cmp);
    (median, off[off.len() / 2])
}

/// Instructions of a whole run.
fn run(program: &Path, kind: Kind, requests: u64) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("callgrind.out");
    let mut agent = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .arg("agent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let mut client = Client::connect(line.trim().parse().unwrap());
    client.create(&[TOPIC.to_owned()], 1);
    match kind {
        Kind::Produce { records } => {
            let frame = wire::produce(TOPIC, 0, records);
            (0..requests).for_each(|_| client.produce(&frame));
        }
        Kind::Fetch { records } => {
            client.produce(&wire::produce(TOPIC, 0, records));
            let frame = wire::fetch(TOPIC, FETCH_BYTES);
            for _ in 0..requests {
                assert!(client.fetch(&frame) > records * 100);
            }
        }
    }
    drop(client);
    drop(agent.stdin.take());
    assert!(agent.wait().unwrap().success());
    let report = std::fs::read_to_string(out).unwrap();
    let totals = report.lines().find_map(|line| line.strip_prefix("totals: "));
    totals.unwrap().trim().parse().unwrap()
}
