//! Cases of lifetimes: TRACES 16, 18 and 19, deletion and expiry.

use std::time::Duration;

use super::bench::{
    Agent, Bench, appended, batch, duplicate, object, partition_of, purge, settle, stamped, topic, whole_log,
};
use super::swaps::{joined, swap_to};
use crate::ids::{ObjectId, StoreTime};
use crate::model::commit::{AppendRefusal, BatchOutcome};
use crate::store::LookupError;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn deleting(bench: &dyn Bench) -> Vec<u64> {
    let before = StoreTime(bench.store().now().await.expect("now").0 + 1);
    let objects = bench
        .store()
        .deleting_objects(before, 100)
        .await
        .expect("deleting");
    objects.iter().map(|d| d.location.name.counter).collect()
}

pub async fn trace_16_tombstones_are_listed_daily_and_kept_thirty_days(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    agent.counter = 41;
    agent.put(bench, &[batch(p, 1, 0)]).await;
    let now = bench.store().now().await.expect("now");
    assert!(
        bench
            .store()
            .tombstones(StoreTime(now.0 + 1))
            .await
            .expect("tombstones")
            .is_empty()
    );
    let deadline = Duration::from_secs(30);
    let next = bench.store().next_sweep(deadline).await.expect("next");
    assert_eq!(next, None, "nobody is dead");
    bench.store().fence(agent.incarnation).await.expect("fenced");
    let fenced = bench.store().now().await.expect("now");
    let next = bench.store().next_sweep(deadline).await.expect("next");
    assert_eq!(next, Some(StoreTime(fenced.0 + 30_001)));
    assert!(
        bench
            .store()
            .tombstones(fenced)
            .await
            .expect("tombstones")
            .is_empty(),
        "before its time"
    );
    bench.advance(Duration::from_secs(60));
    let mut listed = 0;
    for day in 0..32 {
        bench.restart().await;
        let now = bench.store().now().await.expect("now");
        let found = bench.store().tombstones(now).await.expect("tombstones");
        if day <= 30 {
            // Everything below the counter that the commit named as undecided is decided.
            assert_eq!(found, [(agent.incarnation, 42)], "on day {day}");
            bench.store().swept(agent.incarnation, now).await.expect("swept");
            let next = bench.store().next_sweep(deadline).await.expect("next");
            let tomorrow = StoreTime(now.0 + 24 * 60 * 60 * 1_000);
            assert_eq!(next, (day < 30).then_some(tomorrow), "on day {day}");
            listed += 1;
        } else {
            assert!(found.is_empty(), "forgotten on day {day}");
        }
        assert!(
            bench
                .store()
                .tombstones(now)
                .await
                .expect("tombstones")
                .is_empty(),
            "swept today"
        );
        bench.advance(DAY);
    }
    assert_eq!(listed, 31);
}

pub async fn trace_18_a_recreated_name_inherits_nothing(bench: &mut dyn Bench) {
    let old = topic(bench, "t", 2).await;
    let mut agent = Agent::start(bench).await;
    agent
        .put(bench, &[stamped(partition_of(&old, 0), 7, 3, 0, 5)])
        .await;
    bench.store().delete_topic(old.id).await.expect("deleted");
    let new = topic(bench, "t", 1).await;
    assert_ne!(new.id, old.id);
    let stale = BatchOutcome::Refused(AppendRefusal::UnknownPartition);
    let batches = [
        stamped(partition_of(&old, 0), 7, 3, 5, 1),
        stamped(partition_of(&new, 0), 7, 0, 0, 1),
    ];
    assert_eq!(agent.put(bench, &batches).await, [stale, appended(0)]);
    purge(bench).await;
    bench.restart().await;
    assert_eq!(whole_log(bench, partition_of(&new, 0)).await.len(), 1);
    let gone = bench
        .store()
        .snapshots(&[partition_of(&old, 0)])
        .await
        .expect("snapshots");
    assert!(matches!(gone[0], Err(LookupError::UnknownPartition)));
}

pub async fn trace_18_a_deleted_topic_refuses_its_batches_only(bench: &mut dyn Bench) {
    let (doomed, kept) = (topic(bench, "doomed", 1).await, topic(bench, "kept", 1).await);
    let (d, k) = (partition_of(&doomed, 0), partition_of(&kept, 0));
    let agent = Agent::start(bench).await;
    let request = agent
        .request(bench, vec![object(1, &[batch(d, 1, 0), batch(k, 1, 0)])])
        .await;
    bench.store().delete_topic(doomed.id).await.expect("deleted");
    let answer = bench.store().commit(request).await.expect("committed");
    let refused = BatchOutcome::Refused(AppendRefusal::UnknownPartition);
    assert_eq!(super::bench::outcomes(&answer), [refused, appended(0)]);
    let unknown = bench
        .store()
        .inline_payload(whole_log(bench, k).await[0].object.id)
        .await;
    assert!(unknown.expect("read").is_none(), "a stored object has no payload");
}

pub async fn trace_19_idle_producers_expire_and_used_ones_stay(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let (p, q) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let mut agent = Agent::start(bench).await;
    agent
        .put(
            bench,
            &[
                stamped(p, 7, 0, 0, 1),
                stamped(p, 8, 0, 0, 1),
                stamped(q, 7, 0, 0, 1),
            ],
        )
        .await;
    settle(bench).await;
    bench.advance(DAY);
    let before = bench.store().now().await.expect("now");
    agent.put(bench, &[stamped(p, 8, 0, 1, 1)]).await;
    assert_eq!(bench.store().expire_producers(before).await.expect("expired"), 2);
    assert_eq!(bench.store().expire_producers(before).await.expect("expired"), 0);
    // Forgotten: the copy is a new batch. Remembered: it is a duplicate.
    let copies = [
        stamped(p, 7, 0, 0, 1),
        stamped(p, 8, 0, 0, 1),
        stamped(p, 8, 0, 1, 1),
    ];
    assert_eq!(
        agent.put(bench, &copies).await,
        [appended(3), duplicate(1), duplicate(2)]
    );
    bench.restart().await;
    let mut agent = Agent::start(bench).await;
    assert_eq!(agent.put(bench, &[stamped(p, 8, 0, 1, 1)]).await, [duplicate(2)]);
}

pub async fn objects_die_with_their_last_segment(bench: &mut dyn Bench) {
    let (one, two) = (topic(bench, "one", 2).await, topic(bench, "two", 1).await);
    let mut agent = Agent::start(bench).await;
    let (a, b, c) = (
        partition_of(&one, 0),
        partition_of(&one, 1),
        partition_of(&two, 0),
    );
    agent.put(bench, &[batch(a, 1, 0), batch(c, 1, 0)]).await;
    agent.put(bench, &[batch(a, 1, 0), batch(b, 1, 0)]).await;
    agent.put_inline(bench, &[batch(a, 1, 0)]).await;
    agent.put_inline(bench, &[batch(a, 1, 0), batch(c, 1, 0)]).await;
    bench.store().delete_topic(one.id).await.expect("deleted");
    purge(bench).await;
    assert_eq!(
        deleting(bench).await,
        [2],
        "the others are named by the other topic"
    );
    let backlog = bench.store().inline_backlog().await.expect("backlog");
    assert_eq!((backlog.objects, backlog.bytes), (1, 200));
    bench.store().delete_topic(two.id).await.expect("deleted");
    purge(bench).await;
    assert_eq!(deleting(bench).await, [1, 2]);
    let backlog = bench.store().inline_backlog().await.expect("backlog");
    assert_eq!((backlog.objects, backlog.bytes, backlog.oldest), (0, 0, None));
}

pub async fn node_ids_are_stable_per_address(bench: &mut dyn Bench) {
    let first = bench.store().register("a:1").await.expect("registered");
    let other = bench.store().register("b:1").await.expect("registered");
    bench.restart().await;
    let again = bench.store().register("a:1").await.expect("registered");
    assert_eq!((first.node_id, other.node_id), (1, 2));
    assert_eq!(again.node_id, first.node_id);
    assert_ne!(again.incarnation, first.incarnation);
}

pub async fn usage_is_what_is_stored_in_each_state_also_after_a_restart(bench: &mut dyn Bench) {
    let (kept, lost) = (topic(bench, "kept", 1).await, topic(bench, "lost", 1).await);
    let (k, l) = (partition_of(&kept, 0), partition_of(&lost, 0));
    let mut agent = Agent::start(bench).await;
    assert_eq!(amounts(bench).await, [(0, 0); 3]);
    let one = u64::from(batch(k, 1, 0).length_bytes);
    agent.put(bench, &[batch(k, 1, 0)]).await;
    agent.put(bench, &[batch(k, 1, 0), batch(l, 1, 0)]).await;
    agent.put(bench, &[batch(l, 1, 0)]).await;
    agent.put_inline(bench, &[batch(k, 1, 0)]).await;
    let stored = |objects: u64, batches: u64| (objects, batches * one);
    assert_eq!(amounts(bench).await, [stored(3, 4), stored(1, 1), (0, 0)]);
    let listed = bench
        .store()
        .stored_objects(ObjectId(0), 2)
        .await
        .expect("objects");
    let found: Vec<_> = listed
        .iter()
        .map(|o| (o.location.name.counter, o.location.length_bytes, o.segments))
        .collect();
    let counters: Vec<u64> = found.iter().map(|(counter, _, _)| *counter).collect();
    assert_eq!(found, [(counters[0], one, 1), (counters[1], 2 * one, 2)]);
    let rest = bench
        .store()
        .stored_objects(listed[1].location.id, 9)
        .await
        .expect("objects");
    assert_eq!(rest.len(), 1, "inline objects are no stored ones");

    // All of it is refused: an object that nothing names from the start.
    bench.store().delete_topic(lost.id).await.expect("deleted");
    agent.put(bench, &[batch(l, 1, 0)]).await;
    settle(bench).await;
    purge(bench).await;
    assert_eq!(amounts(bench).await, [stored(2, 3), stored(1, 1), stored(2, 2)]);
    assert_eq!(
        bench.store().storage_usage().await.expect("usage").deleted_topics,
        0
    );

    bench.restart().await;
    let mut agent = Agent::start(bench).await;
    assert_eq!(amounts(bench).await, [stored(2, 3), stored(1, 1), stored(2, 2)]);
    // Compaction: what was inline lies in a stored object of 1,000 bytes.
    settle(bench).await;
    let batch_of = bench.store().inline_batch(u64::MAX).await.expect("batch");
    let swap = swap_to(&agent, 900, vec![joined(&batch_of.segments)]);
    assert_eq!(bench.store().swap(swap).await.expect("swapped").swapped, 1);
    let live = (3, 3 * one + 1_000);
    assert_eq!(amounts(bench).await, [live, (0, 0), stored(2, 2)]);
    let before = StoreTime(bench.store().now().await.expect("now").0 + 1);
    let dead = bench.store().deleting_objects(before, 1).await.expect("deleting");
    bench
        .store()
        .forget_objects(&[dead[0].location.id])
        .await
        .expect("forgotten");
    // A second time it is not there.
    bench
        .store()
        .forget_objects(&[dead[0].location.id])
        .await
        .expect("forgotten");
    assert_eq!(amounts(bench).await, [live, (0, 0), stored(1, 1)]);
    agent.put(bench, &[batch(k, 1, 0)]).await;
    assert_eq!(amounts(bench).await[0], (4, live.1 + one));
}

/// Objects and bytes: live, inline, deleting.
async fn amounts(bench: &dyn Bench) -> [(u64, u64); 3] {
    let usage = bench.store().storage_usage().await.expect("usage");
    [usage.live, usage.inline, usage.deleting].map(|amount| (amount.objects, amount.bytes))
}
