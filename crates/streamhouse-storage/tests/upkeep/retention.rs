//! Old records go at once for readers, their objects after the grace period.

use std::time::Duration;

use streamhouse_metadata::store::MetadataStore as _;
use streamhouse_storage::upkeep::deleting::DeletingTask;
use streamhouse_storage::upkeep::retention::{RetentionTask, TrimTask};
use streamhouse_storage::upkeep::{Next, UpkeepOptions};

use crate::house::{house, options};

/// Too old, a log's records go at once for readers, its rows next, and its objects after the grace period.
#[tokio::test]
async fn retention_frees_rows_at_once_and_objects_after_the_grace_period() {
    let house = house().await;
    let agent = house.start().await;
    for label in ["a", "b"] {
        agent.commit_inline(&house, &[0, 1], label).await;
    }
    let (compaction, _) = agent.compaction();
    compaction.run_once().await.unwrap();
    agent.commit_inline(&house, &[0], "c").await;
    assert_eq!(house.keys().await.len(), 1);
    agent.parts.tail.raise_log_start(house.partition(0), 0);

    let retention = RetentionTask::new(agent.parts.clone(), options());
    let trim = TrimTask(agent.parts.clone());
    let deleting = DeletingTask::new(agent.parts.clone(), options());
    // By default a week is kept.
    house.clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
    let report = retention.run_once().await.unwrap();
    assert_eq!((report.raised, report.next), (2, Next::Now));
    let snapshots = house
        .metadata
        .snapshots(&[house.partition(0), house.partition(1)])
        .await
        .unwrap();
    for snapshot in snapshots {
        let snapshot = snapshot.unwrap();
        assert_eq!(snapshot.log_start_offset, snapshot.high_watermark);
    }
    assert_eq!(trim.run_once().await.unwrap(), Next::Idle);
    assert_eq!(retention.run_once().await.unwrap().next, Next::Idle);
    assert_eq!(house.metadata.inline_backlog().await.unwrap().objects, 0);
    assert_eq!(
        deleting.run_once().await.unwrap().deleted,
        0,
        "within the grace period"
    );
    assert_eq!(house.keys().await.len(), 1);
    house
        .clock
        .advance(options().deleting_grace + Duration::from_millis(1));
    assert_eq!(deleting.run_once().await.unwrap().deleted, 1);
    assert_eq!(house.keys().await, Vec::<String>::new());
}

/// Else the alert TaskOverdue takes waiting for idleness.
#[tokio::test]
async fn a_long_grace_period_is_waited_for_in_half_hours_and_an_empty_one_not_at_all() {
    let house = house().await;
    let agent = house.start().await;
    let patient = UpkeepOptions {
        deleting_grace: Duration::from_secs(7_200),
        ..options()
    };
    let deleting = DeletingTask::new(agent.parts.clone(), patient);
    assert_eq!(deleting.run_once().await.unwrap().next, Next::Idle);
    agent.commit_inline(&house, &[0], "a").await;
    agent.compaction().0.run_once().await.unwrap();
    house.metadata.delete_topic(house.topic).await.unwrap();
    while !house.metadata.purge_deleted(100).await.unwrap() {}
    let half_an_hour = Duration::from_secs(1_800);
    for _ in 0..4 {
        let report = deleting.run_once().await.unwrap();
        assert_eq!((report.deleted, report.next), (0, Next::In(half_an_hour)));
        house.clock.advance(half_an_hour);
    }
    house.clock.advance(Duration::from_millis(1));
    let report = deleting.run_once().await.unwrap();
    assert_eq!((report.deleted, report.next), (1, Next::Idle));
}

/// Under load there is always a segment that has just become too old. Other upkeep has its turns as well.
#[tokio::test]
async fn a_log_that_goes_on_is_looked_at_once_in_an_interval() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "old").await;
    house.clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
    agent.commit_inline(&house, &[0], "young").await;
    let retention = RetentionTask::new(agent.parts.clone(), options());
    let report = retention.run_once().await.unwrap();
    let Next::In(pause) = report.next else {
        panic!("{report:?}");
    };
    assert_eq!(report.raised, 1);
    assert!(pause >= options().retention_check_interval, "{pause:?}");
}
