//! Inline objects become stored ones, once, whoever else tries or starts meanwhile.

use std::time::Duration;

use object_store::ObjectStoreExt as _;
use streamhouse_metadata::store::MetadataStore as _;
use streamhouse_storage::object::{key_of, open_index, verify_segment};
use streamhouse_storage::stores::faulty::Call;
use streamhouse_storage::upkeep::abandoned::Abandoned;
use streamhouse_storage::upkeep::compaction::CompactionTask;
use streamhouse_storage::upkeep::deleting::DeletingTask;
use streamhouse_storage::upkeep::scheduler::Nudge;
use streamhouse_storage::upkeep::{Next, UpkeepError, UpkeepOptions};

use crate::house::{house, options};

#[tokio::test]
async fn compaction_moves_every_inline_record_into_one_readable_object() {
    let house = house().await;
    let agent = house.start().await;
    for (partitions, label) in [(&[0, 1][..], "a"), (&[0], "b"), (&[1, 0], "c")] {
        let mut partitions = partitions.to_vec();
        partitions.sort_unstable();
        agent.commit_inline(&house, &partitions, label).await;
    }
    let before = [house.records(0).await, house.records(1).await];
    let report = agent.compaction().0.run_once().await.unwrap();
    assert_eq!(
        (report.inputs, report.swap.swapped, report.next),
        (3, 2, Next::Idle)
    );
    assert_eq!([house.records(0).await, house.records(1).await], before);
    assert_eq!(house.metadata.inline_backlog().await.unwrap().objects, 0);

    let name = report.object.unwrap();
    assert_eq!(house.keys().await, [name.to_string()]);
    let object = house
        .faulty
        .get(&key_of(&name))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let index = open_index(&object).unwrap();
    assert_eq!(index.len(), 2, "one segment a partition");
    for entry in &index {
        let start = entry.position as usize;
        verify_segment(entry, &object[start..start + entry.length_bytes as usize]).unwrap();
    }
}

#[tokio::test]
async fn a_small_young_backlog_waits_for_its_age() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "a").await;
    let task = CompactionTask::new(
        agent.parts.clone(),
        UpkeepOptions::default(),
        Abandoned::new(Nudge::default()),
    );
    house.clock.advance(Duration::from_secs(60));
    let age = UpkeepOptions::default().compact_age;
    assert_eq!(
        task.run_once().await.unwrap().next,
        Next::In(age - Duration::from_secs(60))
    );
    assert_eq!(house.faulty.count(Call::Put), 0);
    house.clock.advance(age);
    assert!(task.run_once().await.unwrap().object.is_some());
}

/// A compacts into X and is stopped before the swap; B starts, X is collected; A wakes.
#[tokio::test]
async fn trace_17_a_paused_compactor_swaps_nothing_after_it_was_fenced() {
    let house = house().await;
    let a = house.start().await;
    a.commit_inline(&house, &[0, 1], "a").await;
    let before = house.records(0).await;
    house.faulty.close_gate(Call::Put);
    let task = a.compaction().0;
    let paused = tokio::spawn(async move { task.run_once().await });
    house.faulty.wait_until_held(Call::Put, 1).await;
    let b = house.start().await;
    house.faulty.open_gate(Call::Put);
    let result = paused.await.unwrap();
    assert!(
        matches!(result, Err(UpkeepError::Fenced(fenced)) if fenced == a.incarnation()),
        "{result:?}"
    );
    assert_eq!(house.keys().await.len(), 1, "the PUT landed");
    house.clock.advance(Duration::from_secs(60));
    assert_eq!(b.orphans().run_once().await.unwrap().deleted, 1);
    assert!(house.keys().await.is_empty());
    assert_eq!(house.records(0).await, before);
}

/// Another compactor swapped first: the second finds its rows gone and its object goes.
#[tokio::test]
async fn trace_17_a_compactor_that_comes_second_swaps_nothing_and_its_object_is_deleted() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "a").await;
    let before = house.records(0).await;
    house.faulty.close_gate(Call::Put);
    let (one, two) = (agent.compaction().0, agent.compaction().0);
    let one = tokio::spawn(async move { one.run_once().await });
    let two = tokio::spawn(async move { two.run_once().await });
    house.faulty.wait_until_held(Call::Put, 2).await;
    house.faulty.open_gate(Call::Put);
    let (one, two) = (one.await.unwrap().unwrap(), two.await.unwrap().unwrap());
    assert_eq!(one.swap.swapped + two.swap.swapped, 1);
    assert_eq!(house.keys().await.len(), 2);
    house.clock.advance(Duration::from_secs(61));
    let deleting = DeletingTask::new(agent.parts.clone(), options());
    assert_eq!(deleting.run_once().await.unwrap().deleted, 1);
    assert_eq!(deleting.run_once().await.unwrap().next, Next::Idle);
    assert_eq!(house.keys().await.len(), 1);
    assert_eq!(house.records(0).await, before);
}

/// DeleteTopic meets a compaction in flight: nothing of the topic comes back, and the object goes.
#[tokio::test]
async fn trace_18_a_compaction_of_a_topic_deleted_meanwhile_brings_nothing_back() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0, 1], "a").await;
    house.faulty.close_gate(Call::Put);
    let task = agent.compaction().0;
    let paused = tokio::spawn(async move { task.run_once().await });
    house.faulty.wait_until_held(Call::Put, 1).await;
    house.metadata.delete_topic(house.topic).await.unwrap();
    house.faulty.open_gate(Call::Put);
    assert_eq!(paused.await.unwrap().unwrap().swap.swapped, 0);
    while !house.metadata.purge_deleted(100).await.unwrap() {}
    house.clock.advance(Duration::from_secs(61));
    DeletingTask::new(agent.parts.clone(), options())
        .run_once()
        .await
        .unwrap();
    assert!(house.keys().await.is_empty());
    assert_eq!(house.metadata.inline_backlog().await.unwrap().objects, 0);
}
