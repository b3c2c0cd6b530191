//! All tasks together: what they count, and that they come to rest.

use std::time::Duration;

use streamhouse_metadata::store::MetadataStore as _;
use streamhouse_observability::families::VerifyResult;
use streamhouse_observability::{Metrics, MetricsOptions};
use streamhouse_storage::upkeep::UpkeepOptions;
use streamhouse_storage::upkeep::abandoned::Abandoned;
use streamhouse_storage::upkeep::scheduler::{Nudge, Upkeep};
use tokio_util::sync::CancellationToken;

use crate::house::{house, options};

/// Settled, upkeep asks neither store anything, however long nothing happens.
#[tokio::test]
async fn an_idle_server_comes_to_rest() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "a").await;
    let metrics = Metrics::new(MetricsOptions::default());
    let nudge = Nudge::default();
    let settings = UpkeepOptions {
        compact_bytes: 1,
        put_deadline: Duration::ZERO,
        deleting_grace: Duration::ZERO,
        settle_after: Duration::from_millis(1),
        retention_check_interval: Duration::from_millis(1),
        ..UpkeepOptions::default()
    };
    let abandoned = Abandoned::new(nudge.clone());
    let upkeep = Upkeep::new(agent.parts.clone(), settings, nudge.clone(), abandoned, &metrics);
    let stop = CancellationToken::new();
    let task = tokio::spawn(upkeep.run(stop.clone()));
    nudge.committed();
    while house.metadata.inline_backlog().await.unwrap().objects > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The counts stand still for as long as anybody cares to look.
    let asked = || (house.metadata.requests(), house.faulty.calls().len());
    let (mut last, mut still) = (asked(), 0);
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        still = if asked() == last { still + 1 } else { 0 };
        last = asked();
        if still > 75 {
            break;
        }
    }
    assert!(still > 75, "upkeep goes on asking");
    stop.cancel();
    task.await.unwrap();
}

/// The store keeps what it was given; whoever moves it sees that it is no longer what was acknowledged, and says so.
#[tokio::test]
async fn damage_that_compaction_finds_is_counted_as_verification_counts_it() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_damaged(&house, 0).await;
    agent.commit_inline(&house, &[1], "whole").await;
    let metrics = Metrics::new(MetricsOptions::default());
    let nudge = Nudge::default();
    let abandoned = Abandoned::new(nudge.clone());
    let upkeep = Upkeep::new(agent.parts.clone(), options(), nudge.clone(), abandoned, &metrics);
    let stop = CancellationToken::new();
    let task = tokio::spawn(upkeep.run(stop.clone()));
    nudge.committed();
    let counted = |result| metrics.verify.segments(result).value();
    let found = async {
        while counted(VerifyResult::Corrupt) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found)
        .await
        .unwrap();
    stop.cancel();
    task.await.unwrap();
    assert_eq!(counted(VerifyResult::Missing), 0);
    assert_eq!(house.records(1).await.len(), 1, "the other one was moved");
    assert_eq!(house.metadata.inline_backlog().await.unwrap().objects, 1);
}
