//! Cases of committing: TRACES 6–10, 13 and 31, and Kafka's idempotent producer.

use std::time::Duration;

use super::bench::{
    Agent, Bench, appended, batch, duplicate, inline, object, outcomes, partition_of, settle, stamped, topic,
    whole_log,
};
use crate::ids::ObjectName;
use crate::model::commit::{AppendRefusal, BatchOutcome};
use crate::model::object::{Swap, SwapPartition};
use crate::model::segment::NewSegment;
use crate::store::CommitError;

fn gap(expected: i32, got: i32) -> BatchOutcome {
    BatchOutcome::Refused(AppendRefusal::GapPending { expected, got })
}

fn out_of_order(expected: i32, got: i32) -> BatchOutcome {
    BatchOutcome::Refused(AppendRefusal::OutOfOrder { expected, got })
}

pub async fn trace_06_outcomes_are_per_batch(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[stamped(p, 7, 0, 0, 3)]).await;
    // New, duplicate, new: the middle one's bytes are dead, and b3 is numbered behind b1.
    let batches = [batch(p, 2, 5), stamped(p, 7, 0, 0, 3), batch(p, 4, 9)];
    assert_eq!(
        agent.put(bench, &batches).await,
        [appended(3), duplicate(0), appended(5)]
    );
    // A refusal between two side by side, and another partition behind them.
    let q = partition_of(&topic, 1);
    let batches = [
        batch(p, 1, 0),
        batch(p, 1, 0),
        stamped(p, 7, 0, 99, 1),
        batch(p, 1, 0),
        batch(q, 1, 0),
    ];
    let expected = [appended(9), appended(10), gap(3, 99), appended(11), appended(0)];
    assert_eq!(agent.put(bench, &batches).await, expected);
    for settled in [false, true] {
        if settled {
            settle(bench).await;
        }
        let log = whole_log(bench, p).await;
        let rows: Vec<_> = log
            .iter()
            .map(|l| {
                (
                    l.segment.base_offset,
                    l.segment.last_offset,
                    l.segment.position,
                    l.segment.length_bytes,
                )
            })
            .collect();
        let expected = [
            (0, 2, 0, 100),
            (3, 4, 0, 100),
            (5, 8, 200, 100),
            (9, 10, 0, 200),
            (11, 11, 300, 100),
        ];
        assert_eq!(rows, expected, "each byte-adjacent run is one segment");
        assert_eq!(
            log.iter().map(|l| l.segment.record_count).collect::<Vec<_>>(),
            [3, 2, 4, 2, 1]
        );
    }
}

pub async fn trace_06_an_object_with_nothing_accepted_is_deleting(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[stamped(p, 7, 0, 0, 1)]).await;
    assert_eq!(agent.put(bench, &[stamped(p, 7, 0, 0, 1)]).await, [duplicate(0)]);
    bench.advance(Duration::from_secs(1));
    let now = bench.store().now().await.expect("now");
    let deleting = bench.store().deleting_objects(now, 10).await.expect("deleting");
    let names: Vec<_> = deleting.iter().map(|d| d.location.name.counter).collect();
    assert_eq!(names, [2]);
    let named = bench
        .store()
        .unnamed(agent.incarnation, &[1, 2, 3])
        .await
        .expect("unnamed");
    assert_eq!(named, [3], "a deleting object's key is still named");
    bench
        .store()
        .forget_objects(&[deleting[0].location.id])
        .await
        .expect("forgotten");
    assert!(
        bench
            .store()
            .deleting_objects(now, 10)
            .await
            .expect("deleting")
            .is_empty()
    );
    // Inline, nothing is left at all.
    assert_eq!(
        agent.put_inline(bench, &[stamped(p, 7, 0, 0, 1)]).await,
        [duplicate(0)]
    );
    assert_eq!(bench.store().inline_backlog().await.expect("backlog").objects, 0);
}

pub async fn trace_07_a_gap_is_retriable_until_it_has_lasted(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let (known, unknown) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[stamped(known, 7, 0, 0, 1)]).await;
    let early = [stamped(known, 7, 0, 5, 1), stamped(unknown, 7, 0, 5, 1)];
    assert_eq!(agent.put(bench, &early).await, [gap(1, 5), gap(0, 5)]);
    settle(bench).await;
    bench.restart().await;
    // Registering fences; what a gap remembers outlives the agent.
    let mut agent = Agent::start(bench).await;
    bench.advance(bench.gap_timeout() - Duration::from_millis(1));
    assert_eq!(agent.put(bench, &early).await, [gap(1, 5), gap(0, 5)]);
    bench.advance(Duration::from_millis(1));
    // Then Kafka's rule: a known epoch stays in order, an unknown producer may begin anywhere.
    assert_eq!(agent.put(bench, &early).await, [out_of_order(1, 5), appended(0)]);
    // A new epoch's gap begins anew, and an old epoch is stale only once the new one has opened.
    let bumped = [stamped(known, 7, 1, 3, 1), stamped(known, 7, 0, 1, 1)];
    assert_eq!(agent.put(bench, &bumped).await, [gap(0, 3), appended(1)]);
    let stale = BatchOutcome::Refused(AppendRefusal::StaleEpoch { current: 1, got: 0 });
    let opened = [
        stamped(known, 7, 1, 0, 3),
        stamped(known, 7, 0, 2, 1),
        stamped(known, 7, 1, 3, 1),
    ];
    assert_eq!(agent.put(bench, &opened).await, [appended(2), stale, appended(5)]);
}

pub async fn trace_07_the_right_batch_ends_a_gap(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    assert_eq!(agent.put(bench, &[stamped(p, 7, 0, 1, 1)]).await, [gap(0, 1)]);
    bench.advance(bench.gap_timeout() / 2);
    let both = [stamped(p, 7, 0, 0, 1), stamped(p, 7, 0, 1, 1)];
    assert_eq!(agent.put(bench, &both).await, [appended(0), appended(1)]);
    assert_eq!(agent.put(bench, &[stamped(p, 7, 0, 3, 1)]).await, [gap(2, 3)]);
    bench.advance(bench.gap_timeout() / 2 + Duration::from_millis(1));
    // Counted from the new gap on, not from the old one.
    assert_eq!(agent.put(bench, &[stamped(p, 7, 0, 3, 1)]).await, [gap(2, 3)]);
}

pub async fn trace_08_a_commit_past_valid_until_is_refused_and_its_number_stays_free(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    let mut late = agent.request(bench, vec![object(1, &[batch(p, 1, 0)])]).await;
    late.valid_until = bench.store().now().await.expect("now");
    bench.advance(Duration::from_millis(1));
    let refused = bench.store().commit(late.clone()).await;
    assert!(matches!(refused, Err(CommitError::Expired)), "{refused:?}");
    assert!(whole_log(bench, p).await.is_empty());
    assert_eq!(agent.put(bench, &[batch(p, 1, 0)]).await, [appended(0)]);
    // A repeat of what was committed is answered however late it is.
    late.number = 1;
    assert_eq!(
        outcomes(&bench.store().commit(late).await.expect("answered")),
        [appended(0)]
    );
}

pub async fn trace_08_a_fenced_incarnation_commits_nothing(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut paused = Agent::start(bench).await;
    paused.put(bench, &[stamped(p, 7, 0, 0, 1)]).await;
    bench.store().fence(paused.incarnation).await.expect("fenced");
    bench
        .store()
        .fence(paused.incarnation)
        .await
        .expect("fencing is idempotent");
    let refused = paused
        .commit(bench, vec![object(2, &[stamped(p, 7, 0, 1, 1)])])
        .await;
    assert!(
        matches!(refused, Err(CommitError::Fenced(id)) if id == paused.incarnation),
        "{refused:?}"
    );
    bench.restart().await;
    let refused = paused
        .commit(bench, vec![object(2, &[stamped(p, 7, 0, 1, 1)])])
        .await;
    assert!(matches!(refused, Err(CommitError::Fenced(_))), "{refused:?}");
    let mut other = Agent::start(bench).await;
    other.incarnation = crate::ids::IncarnationId(uuid::Uuid::new_v4());
    let refused = other.commit(bench, vec![object(1, &[batch(p, 1, 0)])]).await;
    assert!(
        matches!(refused, Err(CommitError::Fenced(_))),
        "an unknown incarnation: {refused:?}"
    );
}

pub async fn trace_09_a_repeat_gets_the_stored_answer_and_numbers_have_no_gaps(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let agent = Agent::start(bench).await;
    let batches = [stamped(p, 7, 0, 0, 2), batch(p, 1, 0)];
    let first = agent.request(bench, vec![object(1, &batches)]).await;
    let answer = bench.store().commit(first.clone()).await.expect("committed");
    // The repeat leaves out what has expired; the stored outcomes answer all the same.
    let mut repeat = first.clone();
    repeat.objects[0].batches.pop();
    for _ in 0..3 {
        assert_eq!(
            bench.store().commit(repeat.clone()).await.expect("answered"),
            answer
        );
    }
    assert_eq!(outcomes(&answer), [appended(0), appended(2)]);
    assert_eq!(whole_log(bench, p).await.len(), 1, "a repeat appends nothing");
    let mut skipping = first.clone();
    skipping.number = 3;
    let refused = bench.store().commit(skipping).await;
    assert!(
        matches!(refused, Err(CommitError::NumberGap { last: 1, got: 3 })),
        "{refused:?}"
    );
    // The late commit n after n + 1: answered, not executed again.
    let mut second = first.clone();
    second.number = 2;
    second.objects = vec![object(2, &[batch(p, 1, 0)])];
    bench.store().commit(second).await.expect("committed");
    assert_eq!(bench.store().commit(first).await.expect("answered"), answer);
    assert_eq!(whole_log(bench, p).await.len(), 2);
}

pub async fn trace_10_a_repeat_is_answered_after_restart_swap_deletion_and_fencing(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let agent = Agent::start(bench).await;
    let request = agent
        .request(bench, vec![inline(1, &[batch(p, 2, 0), stamped(p, 7, 0, 9, 1)])])
        .await;
    let answer = bench.store().commit(request.clone()).await.expect("committed");
    assert_eq!(outcomes(&answer), [appended(0), gap(0, 9)]);
    let chosen = bench.store().inline_batch(1 << 20).await.expect("chosen");
    let old = chosen.segments[0];
    let added = NewSegment {
        partition: p,
        base_offset: old.base_offset,
        last_offset: old.last_offset,
        position: 0,
        length_bytes: old.length_bytes,
        record_count: old.record_count,
        max_timestamp: old.max_timestamp,
        running_max_timestamp: old.running_max_timestamp,
        committed_at: old.committed_at,
    };
    let name = ObjectName {
        incarnation: agent.incarnation,
        counter: 2,
    };
    let partitions = vec![SwapPartition {
        replaced: vec![old],
        added: vec![added],
    }];
    let swapped = bench
        .store()
        .swap(Swap {
            name,
            length_bytes: 100,
            partitions,
        })
        .await
        .expect("swapped");
    assert_eq!(swapped.swapped, 1);
    assert_eq!(
        bench.store().commit(request.clone()).await.expect("after a swap"),
        answer
    );
    bench.store().delete_topic(topic.id).await.expect("deleted");
    bench.store().fence(agent.incarnation).await.expect("fenced");
    assert_eq!(
        bench
            .store()
            .commit(request.clone())
            .await
            .expect("fenced and deleted"),
        answer
    );
    bench.restart().await;
    assert_eq!(
        bench.store().commit(request).await.expect("after a restart"),
        answer
    );
}

pub async fn trace_10_old_answers_are_forgotten_but_the_last_stays(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    let first = agent.request(bench, vec![object(1, &[batch(p, 1, 0)])]).await;
    agent.put(bench, &[batch(p, 1, 0)]).await;
    let last = agent.request(bench, vec![object(2, &[batch(p, 1, 0)])]).await;
    agent.put(bench, &[batch(p, 1, 0)]).await;
    settle(bench).await;
    bench
        .store()
        .commit(first.clone())
        .await
        .expect("younger than a minute");
    bench.advance(Duration::from_secs(61));
    settle(bench).await;
    let forgotten = bench.store().commit(first).await;
    assert!(
        matches!(forgotten, Err(CommitError::Forgotten(1))),
        "{forgotten:?}"
    );
    assert_eq!(
        outcomes(&bench.store().commit(last.clone()).await.expect("the last stays")),
        [appended(1)]
    );
    agent.put(bench, &[batch(p, 1, 0)]).await;
    bench.advance(Duration::from_secs(61));
    settle(bench).await;
    let forgotten = bench.store().commit(last).await;
    assert!(
        matches!(forgotten, Err(CommitError::Forgotten(2))),
        "{forgotten:?}"
    );
}

pub async fn trace_13_a_batch_of_many_records_takes_that_many_offsets(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    let counts = [1, 1_000_000, 7];
    let mut expected = 0;
    for count in counts {
        assert_eq!(
            agent.put(bench, &[batch(p, count, 0)]).await,
            [appended(expected)]
        );
        expected += i64::from(count);
    }
    let snapshot = bench
        .store()
        .snapshots(&[p])
        .await
        .expect("snapshots")
        .pop()
        .expect("one");
    assert_eq!(snapshot.expect("known").high_watermark, 1_000_008);
}

pub async fn trace_31_inline_objects_are_bounded_in_total(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    let fit = bench.inline_total_max() / 100;
    let many: Vec<_> = (1..=fit)
        .map(|counter| inline(counter, &[batch(p, 1, 0)]))
        .collect();
    agent.commit(bench, many).await.expect("as much as fits");
    let full = agent
        .commit(bench, vec![inline(fit + 1, &[batch(p, 1, 0)])])
        .await;
    assert!(matches!(full, Err(CommitError::InlineFull)), "{full:?}");
    let backlog = bench.store().inline_backlog().await.expect("backlog");
    assert_eq!(
        (backlog.objects, backlog.bytes),
        (fit, fit * 100),
        "nothing was changed"
    );
    // The number is free, and a stored object goes through with it.
    agent
        .commit(bench, vec![object(fit + 1, &[batch(p, 1, 0)])])
        .await
        .expect("stored");
    bench.restart().await;
    let kept = bench.store().inline_backlog().await.expect("backlog");
    assert_eq!(
        (kept.objects, kept.bytes),
        (fit, fit * 100),
        "the bound outlives a restart"
    );
}

pub async fn five_batches_are_remembered_and_older_copies_refused(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    for sequence in 0..6 {
        agent.put(bench, &[stamped(p, 7, 0, sequence, 1)]).await;
    }
    bench.restart().await;
    let mut agent = Agent::start(bench).await;
    for sequence in 1..6 {
        assert_eq!(
            agent.put(bench, &[stamped(p, 7, 0, sequence, 1)]).await,
            [duplicate(i64::from(sequence))]
        );
    }
    assert_eq!(
        agent.put(bench, &[stamped(p, 7, 0, 0, 1)]).await,
        [out_of_order(6, 0)]
    );
    // The same first sequence with another length is no copy.
    assert_eq!(
        agent.put(bench, &[stamped(p, 7, 0, 5, 2)]).await,
        [out_of_order(6, 5)]
    );
    assert_eq!(agent.put(bench, &[stamped(p, 7, 0, 6, 1)]).await, [appended(6)]);
}

pub async fn sequences_wrap_to_zero_inside_a_batch_and_between_two(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let (inside, between) = (partition_of(&topic, 0), partition_of(&topic, 1));
    let mut agent = Agent::start(bench).await;
    let high = i32::MAX - 1;
    let begin = [stamped(inside, 7, 0, high, 4), stamped(between, 7, 0, high, 2)];
    agent.put(bench, &begin).await;
    bench.advance(bench.gap_timeout());
    assert_eq!(agent.put(bench, &begin).await, [appended(0), appended(0)]);
    let next = [stamped(inside, 7, 0, 2, 1), stamped(between, 7, 0, 0, 1)];
    assert_eq!(agent.put(bench, &next).await, [appended(4), appended(2)]);
    let again = [begin[0], next[0], begin[1], next[1]];
    let expected = [duplicate(0), duplicate(4), duplicate(0), duplicate(2)];
    assert_eq!(agent.put(bench, &again).await, expected);
    // Ahead across the wrap is a gap, behind it an old copy.
    let around = [
        stamped(inside, 7, 0, 9, 1),
        stamped(inside, 7, 0, i32::MAX - 9, 1),
    ];
    assert_eq!(
        agent.put(bench, &around).await,
        [gap(3, 9), out_of_order(3, i32::MAX - 9)]
    );
}

pub async fn producer_ids_are_never_given_twice(bench: &mut dyn Bench) {
    let first = bench.store().allocate_producer_ids(10).await.expect("ids");
    let second = bench.store().allocate_producer_ids(1).await.expect("ids");
    bench.restart().await;
    let third = bench.store().allocate_producer_ids(5).await.expect("ids");
    assert!(first >= 0);
    assert!(second >= first + 10, "{second} lies among the ten after {first}");
    assert!(third > second, "{third} was given before the restart");
}
