//! Stored segments are read again and compared with what the metadata store says of them.

use std::time::Duration;

use object_store::ObjectStoreExt as _;
use streamhouse_metadata::store::MetadataStore as _;
use streamhouse_observability::{Metrics, MetricsOptions};
use streamhouse_storage::stores::faulty::{Call, Plan};
use streamhouse_storage::upkeep::Next;

use crate::house::house;

/// Whole, damaged, cut short and missing are told apart, segment by segment; what is written later is read in
/// the same pass, and everything again a day later.
#[tokio::test]
async fn verification_reads_each_segment_once_a_pass_and_tells_what_is_wrong_with_it() {
    let house = house().await;
    let agent = house.start().await;
    let first = agent.store(&house, &[0, 1], "first").await;
    let second = agent.store(&house, &[0], "second").await;
    let metrics = Metrics::new(MetricsOptions::default());
    let task = agent.verify(u64::MAX, &metrics);
    let run = async || {
        let report = task.run_once().await.unwrap();
        (report.ok, report.missing, report.corrupt)
    };
    assert_eq!(
        [run().await, run().await, run().await],
        [(2, 0, 0), (1, 0, 0), (0, 0, 0)]
    );
    let third = agent.store(&house, &[1], "third").await;
    assert_eq!(
        [run().await, run().await],
        [(1, 0, 0), (0, 0, 0)],
        "only what is new"
    );

    let mut damaged = house
        .faulty
        .get(&first)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec();
    damaged[70] ^= 1;
    house.faulty.put(&first, damaged.into()).await.unwrap();
    house.faulty.delete(&second).await.unwrap();
    let whole = house.faulty.get(&third).await.unwrap().bytes().await.unwrap();
    house.faulty.put(&third, whole.slice(1..).into()).await.unwrap();
    assert_eq!(run().await, (0, 0, 0), "not before the next pass");
    house.clock.advance(Duration::from_secs(24 * 60 * 60));
    let found = [run().await, run().await, run().await, run().await];
    assert_eq!(found, [(1, 0, 1), (0, 1, 0), (0, 0, 1), (0, 0, 0)]);

    let text = metrics.render();
    for line in [
        "streamhouse_verify_segments_total{result=\"ok\"} 5",
        "streamhouse_verify_segments_total{result=\"missing\"} 1",
        "streamhouse_verify_segments_total{result=\"corrupt\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing");
    }
}

/// One that cannot be read keeps no other from it and is read again at the end; a pass that takes longer than
/// a day comes to its end all the same.
#[tokio::test]
async fn verification_goes_on_behind_what_cannot_be_read_and_ends_every_pass() {
    let house = house().await;
    let agent = house.start().await;
    agent.store(&house, &[0, 1], "first").await;
    agent.store(&house, &[0], "second").await;
    let metrics = Metrics::new(MetricsOptions::default());
    let task = agent.verify(u64::MAX, &metrics);
    let run = async || task.run_once().await.map(|report| report.ok).ok();
    house.faulty.plan(Call::Get, Plan::RefuseBefore(403));
    assert_eq!(run().await, None);
    house.clock.advance(Duration::from_secs(25 * 60 * 60));
    assert_eq!(run().await, Some(1), "the second, not the first anew");
    house.faulty.plan(Call::Get, Plan::RefuseBefore(403));
    assert_eq!(run().await, None, "the first again");
    assert_eq!(run().await, Some(2));
    // A day is over: the next pass.
    assert_eq!(
        [run().await, run().await, run().await],
        [Some(2), Some(1), Some(0)]
    );
}

#[tokio::test(start_paused = true)]
async fn verification_keeps_to_its_rate_and_without_one_asks_nothing() {
    let house = house().await;
    let agent = house.start().await;
    for label in ["first", "second"] {
        agent.store(&house, &[0], label).await;
    }
    let metrics = Metrics::new(MetricsOptions::default());
    let asked = || (house.metadata.requests(), house.faulty.calls().len());
    let before = asked();
    let off = agent.verify(0, &metrics);
    assert_eq!(off.run_once().await.unwrap().next, Next::Idle);
    assert_eq!(asked(), before);

    let length = house.metadata.storage_usage().await.unwrap().live.bytes / 2;
    let slow = agent.verify(length / 10, &metrics);
    let Next::In(pause) = slow.run_once().await.unwrap().next else {
        panic!("a second object waits");
    };
    let pause = pause.as_secs_f64();
    assert!(
        (9.0..11.5).contains(&pause),
        "{pause} s for ten seconds' worth of bytes"
    );
    let before = asked();
    let report = slow.run_once().await.unwrap();
    assert_eq!((report.ok, asked()), (0, before), "too early");
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(slow.run_once().await.unwrap().ok, 1);
}
