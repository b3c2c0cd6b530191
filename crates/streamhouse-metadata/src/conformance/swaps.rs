//! Cases of swaps: who may put stored objects in the place of others, and in which (TRACES 17).

use std::time::Duration;

use super::bench::{Agent, Bench, batch, partition_of, settle, topic, whole_log};
use super::lifetimes::deleting;
use crate::ids::{ObjectName, StoreTime};
use crate::model::object::{Swap, SwapPartition, SwapResult};
use crate::model::segment::{NewSegment, Segment};
use crate::store::SwapError;

/// One new row in the place of `replaced`, which lie side by side.
pub(super) fn joined(replaced: &[Segment]) -> SwapPartition {
    let (first, last) = (replaced[0], replaced[replaced.len() - 1]);
    let added = NewSegment {
        partition: first.partition,
        base_offset: first.base_offset,
        last_offset: last.last_offset,
        position: 0,
        length_bytes: replaced.iter().map(|s| s.length_bytes).sum(),
        record_count: replaced.iter().map(|s| s.record_count).sum(),
        max_timestamp: replaced.iter().map(|s| s.max_timestamp).max().expect("some"),
        running_max_timestamp: last.running_max_timestamp,
        committed_at: last.committed_at,
    };
    SwapPartition {
        replaced: replaced.to_vec(),
        added: vec![added],
    }
}

pub(super) fn swap_to(agent: &Agent, counter: u64, partitions: Vec<SwapPartition>) -> Swap {
    let name = ObjectName {
        incarnation: agent.incarnation,
        counter,
    };
    Swap {
        name,
        length_bytes: 1_000,
        partitions,
    }
}

pub async fn trace_17_a_swap_needs_a_live_incarnation(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[batch(p, 1, 0)]).await;
    settle(bench).await;
    let rows: Vec<_> = whole_log(bench, p).await.iter().map(|l| l.segment).collect();
    bench.store().fence(agent.incarnation).await.expect("fenced");
    let refused = bench.store().swap(swap_to(&agent, 9, vec![joined(&rows)])).await;
    assert!(
        matches!(refused, Err(SwapError::Fenced(id)) if id == agent.incarnation),
        "{refused:?}"
    );
    let kept: Vec<_> = whole_log(bench, p).await.iter().map(|l| l.segment).collect();
    assert_eq!(kept, rows, "nothing was changed");
    assert_eq!(
        bench
            .store()
            .unnamed(agent.incarnation, &[9])
            .await
            .expect("unnamed"),
        [9]
    );
}

pub async fn trace_17_a_swap_skips_partitions_that_changed(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 3).await;
    let mut agent = Agent::start(bench).await;
    for _ in 0..2 {
        let batches: Vec<_> = (0..3).map(|i| batch(partition_of(&topic, i), 1, 0)).collect();
        agent.put(bench, &batches).await;
    }
    settle(bench).await;
    let mut rows = Vec::new();
    for i in 0..3 {
        let log = whole_log(bench, partition_of(&topic, i)).await;
        rows.push(log.iter().map(|l| l.segment).collect::<Vec<_>>());
    }
    // Another compactor was first in partition 0; in partition 1 a field differs from what was read.
    let first = bench
        .store()
        .swap(swap_to(&agent, 10, vec![joined(&rows[0])]))
        .await
        .expect("swapped");
    assert_eq!(
        first,
        SwapResult {
            swapped: 1,
            skipped: 0
        }
    );
    let mut misread = joined(&rows[1]);
    misread.replaced[0].position += 1;
    let partitions = vec![joined(&rows[0]), misread, joined(&rows[2])];
    let second = bench
        .store()
        .swap(swap_to(&agent, 11, partitions))
        .await
        .expect("swapped");
    assert_eq!(
        second,
        SwapResult {
            swapped: 1,
            skipped: 2
        }
    );
    let mut objects = Vec::new();
    for i in 0..3 {
        let log = whole_log(bench, partition_of(&topic, i)).await;
        objects.push(log.iter().map(|l| l.object.name.counter).collect::<Vec<_>>());
    }
    assert_eq!(objects, [vec![10], vec![1, 2], vec![11]]);
    // A swap that nobody took leaves an object to be deleted.
    let none = bench
        .store()
        .swap(swap_to(&agent, 12, vec![joined(&rows[0])]))
        .await
        .expect("asked");
    assert_eq!(
        none,
        SwapResult {
            swapped: 0,
            skipped: 1
        }
    );
    assert_eq!(deleting(bench).await, [12]);
    // Its key may be gone already: nothing names it any more, whatever would fit.
    let late = bench
        .store()
        .swap(swap_to(&agent, 12, vec![joined(&rows[1])]))
        .await
        .expect("asked");
    assert_eq!(
        late,
        SwapResult {
            swapped: 0,
            skipped: 1
        }
    );
    // One that is named twice is swapped once.
    let twice = swap_to(&agent, 14, vec![joined(&rows[1]), joined(&rows[1])]);
    let once = bench.store().swap(twice).await.expect("asked");
    assert_eq!(
        once,
        SwapResult {
            swapped: 1,
            skipped: 1
        }
    );
    let rows: Vec<_> = whole_log(bench, partition_of(&topic, 1))
        .await
        .iter()
        .map(|l| l.segment)
        .collect();
    // Rows that do not cover what they replace are never taken.
    let mut short = joined(&rows);
    short.added[0].last_offset -= 1;
    let refused = bench
        .store()
        .swap(swap_to(&agent, 13, vec![short]))
        .await
        .expect("asked");
    assert_eq!(refused.swapped, 0);
    assert_eq!(
        whole_log(bench, partition_of(&topic, 1)).await[0]
            .object
            .name
            .counter,
        14
    );
}

pub async fn trace_17_a_repeated_swap_leaves_the_object_alone(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[batch(p, 1, 0)]).await;
    agent.put(bench, &[batch(p, 1, 0)]).await;
    settle(bench).await;
    let rows: Vec<_> = whole_log(bench, p).await.iter().map(|l| l.segment).collect();
    let swap = swap_to(&agent, 3, vec![joined(&rows)]);
    assert_eq!(
        bench.store().swap(swap.clone()).await.expect("swapped").swapped,
        1
    );
    assert_eq!(bench.store().swap(swap).await.expect("repeated").skipped, 1);
    assert_eq!(deleting(bench).await, [1, 2], "the new object is in use");
    assert_eq!(whole_log(bench, p).await[0].object.name.counter, 3);
}

pub async fn compaction_moves_inline_objects_into_stored_ones(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let (p, q) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let mut agent = Agent::start(bench).await;
    let oldest = bench.store().now().await.expect("now");
    for round in 0..10 {
        agent
            .put_inline(bench, &[batch(p, 2, round), batch(q, 1, 100 - round)])
            .await;
        bench.advance(Duration::from_millis(5));
    }
    assert_eq!(
        bench.store().inline_backlog().await.expect("backlog").oldest,
        Some(oldest)
    );
    let chosen = bench.store().inline_batch(1_000).await.expect("chosen");
    let counters: Vec<_> = chosen.objects.iter().map(|o| o.name.counter).collect();
    assert_eq!(
        counters,
        [1, 2, 3, 4, 5],
        "the oldest, of together that many bytes"
    );
    assert_eq!(chosen.segments.len(), 10);
    let of = |partition| {
        let mut rows: Vec<_> = chosen
            .segments
            .iter()
            .filter(|s| s.partition == partition)
            .copied()
            .collect();
        rows.sort_unstable_by_key(|s| s.base_offset);
        joined(&rows)
    };
    let swap = swap_to(&agent, 99, vec![of(p), of(q)]);
    assert_eq!(
        bench.store().swap(swap).await.expect("swapped"),
        SwapResult {
            swapped: 2,
            skipped: 0
        }
    );
    for restarted in [false, true] {
        if restarted {
            bench.restart().await;
        }
        let backlog = bench.store().inline_backlog().await.expect("backlog");
        assert_eq!((backlog.objects, backlog.bytes), (5, 1_000));
        assert_eq!(backlog.oldest, Some(StoreTime(oldest.0 + 25)));
        let log = whole_log(bench, p).await;
        assert_eq!(
            log.iter().map(|l| l.object.inline).collect::<Vec<_>>(),
            [false, true, true, true, true, true]
        );
        assert_eq!((log[0].segment.base_offset, log[0].segment.last_offset), (0, 9));
        for object in &chosen.objects {
            assert!(
                bench
                    .store()
                    .inline_payload(object.id)
                    .await
                    .expect("read")
                    .is_none()
            );
        }
    }
    assert!(
        deleting(bench).await.is_empty(),
        "an inline object leaves no key behind"
    );
}
