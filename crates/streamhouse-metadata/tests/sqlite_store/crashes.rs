//! Crashes between any two steps.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use streamhouse_metadata::conformance::bench::{
    Agent, Bench as _, LIMITS, batch, inline, object, partition_of, stamped, topic, whole_log,
};
use streamhouse_metadata::ids::TopicPartition;
use streamhouse_metadata::model::segment::LocatedSegment;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig};

use crate::files::{Files, with};

#[derive(Clone, Debug)]
enum Step {
    Commit {
        partitions: Vec<(usize, u32)>,
        inline: bool,
        idempotent: bool,
    },
    Settle,
    Restart,
    Crash,
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let partitions = proptest::collection::vec((0..4_usize, 1..5_u32), 1..5);
    prop_oneof![
        12 => (partitions, any::<bool>(), any::<bool>())
            .prop_map(|(partitions, inline, idempotent)| Step::Commit { partitions, inline, idempotent }),
        3 => Just(Step::Settle),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
        1 => (0..90_000_u32).prop_map(Step::Pass),
    ]
}

/// What has to be the same after a crash: every segment with its object, and the duplicates' answers.
async fn logs(files: &Files, partitions: &[TopicPartition]) -> Vec<Vec<LocatedSegment>> {
    let mut logs = Vec::new();
    for partition in partitions {
        logs.push(whole_log(files, *partition).await);
    }
    logs
}

#[test]
fn a_crash_at_any_point_of_settling_keeps_every_answered_commit() {
    let mut runner = TestRunner::new(Config {
        cases: 24,
        ..Config::default()
    });
    let steps = proptest::collection::vec(step(), 1..40);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let run = |steps: Vec<Step>| {
        runtime.block_on(play(steps));
        Ok(())
    };
    runner.run(&steps, run).unwrap();
}

async fn play(steps: Vec<Step>) {
    let mut files = Files::new(true);
    let new = NewTopic {
        name: "t".to_owned(),
        partitions: 4,
        config: TopicConfig::default(),
    };
    let topic = files.store().create_topic(new, LIMITS).await.unwrap();
    let partitions: Vec<_> = (0..4).map(|i| partition_of(&topic, i)).collect();
    let mut agent = Agent::start(&files).await;
    let mut records = [0_i64; 4];
    let mut sequences = [0_i32; 4];
    for (place, step) in steps.into_iter().enumerate() {
        match step {
            Step::Commit {
                partitions: written,
                inline: in_row,
                idempotent,
            } => {
                let mut batches = Vec::new();
                for (i, count) in written {
                    let plain = batch(partitions[i], count, i64::try_from(place).unwrap());
                    if idempotent {
                        batches.push(stamped(partitions[i], 7, 0, sequences[i], count));
                        sequences[i] += i32::try_from(count).unwrap();
                    } else {
                        batches.push(plain);
                    }
                    records[i] += i64::from(count);
                }
                agent.counter += 1;
                let make = if in_row { inline } else { object };
                let request = agent.request(&files, vec![make(agent.counter, &batches)]).await;
                let answer = files.store().commit(request.clone()).await.unwrap();
                agent.number += 1;
                assert_eq!(files.store().commit(request).await.unwrap(), answer, "a repeat");
            }
            Step::Settle => {
                files.store().settle().await.unwrap();
            }
            Step::Restart | Step::Crash => {
                let before = logs(&files, &partitions).await;
                let backlog = files.store().inline_backlog().await.unwrap();
                if matches!(step, Step::Crash) {
                    files.crash(place);
                } else {
                    files.restart().await;
                }
                let after = logs(&files, &partitions).await;
                assert_eq!(format!("{after:?}"), format!("{before:?}"));
                assert_eq!(files.store().inline_backlog().await.unwrap(), backlog);
                agent = Agent {
                    counter: 0,
                    ..Agent::start(&files).await
                };
            }
            Step::Pass(by) => files.advance(Duration::from_millis(u64::from(by))),
        }
    }
    let snapshots = files.store().snapshots(&partitions).await.unwrap();
    let ends: Vec<_> = snapshots.into_iter().map(|s| s.unwrap().high_watermark).collect();
    assert_eq!(ends, records, "every record once");
    // Every inline object still has its bytes and, settled, its segments.
    let chosen = files.store().inline_batch(u64::MAX).await.unwrap();
    assert_eq!(
        chosen.objects.len() as u64,
        files.store().inline_backlog().await.unwrap().objects
    );
    for object in &chosen.objects {
        let payload = files.store().inline_payload(object.id).await.unwrap().unwrap();
        assert_eq!(payload.len() as u64, object.length_bytes);
    }
}

/// What a failed fsync leaves in the log may be in the kernel's memory only: a start copies it to where it is synced.
#[tokio::test]
async fn trace_26_a_start_relies_on_nothing_that_only_the_log_holds() {
    let mut files = Files::new(false);
    let p = partition_of(&topic(&files, "t", 1).await, 0);
    let mut agent = Agent::start(&files).await;
    agent.put(&files, &[batch(p, 3, 0)]).await;
    let log = with(&files.directory.path().join("metadata.db"), "-wal");
    let length = || std::fs::metadata(&log).unwrap().len();
    assert!(length() > 0, "the commit is in the log");
    files.crash(0);
    assert_eq!(length(), 0);
    assert_eq!(whole_log(&files, p).await.len(), 1);
}
