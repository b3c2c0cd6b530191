//! Measures what a commit costs on this machine's disk: p50 and p99 for 1, 100 and 1,000 partitions, stored
//! and inline, beside the disk's own fsync. `commit_bench [directory] [commits]`.
//!
//! One commit is in flight at a time, as of one agent. Merging and checkpoints run as they do in a
//! server, so that what they cost shows in the tail.

use std::error::Error;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use streamhouse_metadata::ids::{StoreTime, TopicPartition};
use streamhouse_metadata::model::commit::{BatchEntry, CommitObject, CommitRequest};
use streamhouse_metadata::model::producer::ProducerStamp;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;

const LIMITS: TopicLimits = TopicLimits {
    topics_max: 10,
    partitions_max: 10_000,
};

#[derive(Clone, Copy)]
struct Case {
    partitions: i32,
    batch_bytes: u32,
    inline: bool,
    idempotent: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let commits: u64 = arguments.next().map_or(Ok(2_000), |n| n.parse())?;
    let directory = tempfile::Builder::new()
        .prefix("commit-bench")
        .tempdir_in(directory)?;
    print("fsync of a 24 KiB overwrite", &mut fsyncs(directory.path(), 500)?);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()?;
    let mut number = 0;
    for partitions in [1, 100, 1_000] {
        for (inline, idempotent) in [(false, false), (false, true), (true, false), (true, true)] {
            let batch_bytes = if partitions == 1 { 1_024 } else { 100 };
            let case = Case {
                partitions,
                batch_bytes,
                inline,
                idempotent,
            };
            number += 1;
            let path = directory.path().join(format!("{number}.db"));
            let commits = if partitions == 1_000 { commits / 4 } else { commits };
            let mut times = runtime.block_on(run(case, path, commits))?;
            let name = format!(
                "{partitions} partitions{}{}",
                if inline { ", inline" } else { "" },
                if idempotent { ", idempotent" } else { "" }
            );
            print(&name, &mut times);
        }
    }
    Ok(())
}

fn fsyncs(directory: &Path, count: usize) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut file = File::create(directory.join("fsync"))?;
    let bytes = vec![7; 24 << 10];
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        file.rewind()?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    Ok(times)
}

async fn run(case: Case, path: PathBuf, commits: u64) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut options = SqliteOptions::new(Location::File(path));
    options.inline_total_max = u64::MAX;
    let store = SqliteStore::open(options)?;
    let new = NewTopic {
        name: "bench".to_owned(),
        partitions: case.partitions,
        config: TopicConfig::default(),
    };
    let topic = store.create_topic(new, LIMITS).await?;
    let incarnation = store.register("localhost:9092").await?.incarnation;
    let mut times = Vec::new();
    for number in 1..=commits {
        let batch = |partition: i32| BatchEntry {
            index: partition.unsigned_abs(),
            partition: TopicPartition {
                topic: topic.id,
                partition,
            },
            position: u64::from(partition.unsigned_abs() * case.batch_bytes),
            length_bytes: case.batch_bytes,
            record_count: 1,
            max_timestamp: 1_700_000_000_000,
            producer: case.idempotent.then_some(ProducerStamp {
                producer_id: 1,
                epoch: 0,
                base_sequence: i32::try_from(number - 1).unwrap_or(0),
            }),
            transaction: None,
        };
        let length_bytes = u64::from(case.batch_bytes * case.partitions.unsigned_abs());
        let object = CommitObject {
            counter: number,
            length_bytes,
            payload: case
                .inline
                .then(|| Bytes::from(vec![7; usize::try_from(length_bytes).unwrap_or(0)])),
            batches: (0..case.partitions).map(batch).collect(),
        };
        let request = CommitRequest {
            incarnation,
            number,
            valid_until: StoreTime(i64::MAX),
            objects: vec![object],
            lowest_undecided: number,
        };
        let start = Instant::now();
        store.commit(request).await?;
        times.push(start.elapsed());
    }
    store.close().await?;
    Ok(times)
}

fn print(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1_000].as_secs_f64() * 1_000.0;
    println!(
        "{name:40} p50 {:7.3} ms  p99 {:7.3} ms  max {:7.3} ms",
        at(500),
        at(990),
        at(1_000)
    );
}
