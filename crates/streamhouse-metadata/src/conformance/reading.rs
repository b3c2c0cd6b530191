//! Cases of reading: TRACES 1–3 and 14.

use super::bench::{Agent, Bench, batch, inline, look_up, object, partition_of, settle, topic, whole_log};
use crate::ids::TopicPartition;
use crate::model::segment::{Lookup, TimestampQuery};
use crate::store::LookupError;

pub async fn trace_01_segments_of_two_incarnations_tile_the_log(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut incarnations = Vec::new();
    // One after the other, because an embedded store fences the first; the tiles are the same.
    for restart in [false, false, true] {
        if restart {
            bench.restart().await;
        }
        let mut agent = Agent::start(bench).await;
        incarnations.push(agent.incarnation);
        agent.put(bench, &[batch(p, 10, 0)]).await;
        settle(bench).await;
        agent.put_inline(bench, &[batch(p, 10, 0)]).await;
    }
    let log = whole_log(bench, p).await;
    let bases: Vec<_> = log.iter().map(|l| l.segment.base_offset).collect();
    assert_eq!(bases, [0, 10, 20, 30, 40, 50]);
    let names: Vec<_> = log.iter().map(|l| l.object.name.incarnation).collect();
    let expected: Vec<_> = incarnations.iter().flat_map(|id| [*id, *id]).collect();
    assert_eq!(names, expected);
    assert_eq!(
        log.iter().map(|l| l.object.inline).collect::<Vec<_>>(),
        [false, true].repeat(3)
    );
}

pub async fn trace_01_every_offset_is_found_before_and_after_settling(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 3).await;
    let mut agent = Agent::start(bench).await;
    for round in 0..40_u32 {
        let batches: Vec<_> = (0..3)
            .map(|i| batch(partition_of(&topic, i), 1 + (round + 1) % 3, 0))
            .collect();
        agent.put(bench, &batches).await;
        if round == 10 || round == 25 {
            // One slice only: the boundary lies anywhere.
            bench.store().settle().await.expect("settled");
        }
        if round == 30 {
            bench.restart().await;
            agent = Agent::start(bench).await;
        }
        if round % 10 == 9 {
            for i in 0..3 {
                let p = partition_of(&topic, i);
                let end = whole_log(bench, p)
                    .await
                    .last()
                    .expect("segments")
                    .segment
                    .last_offset;
                for offset in 0..=end {
                    look_up(bench, p, offset, 1_000).await;
                }
                assert!(look_up(bench, p, end + 1, 1_000).await.is_empty());
                assert!(look_up(bench, p, -1, 1_000).await.is_empty());
            }
        }
    }
}

pub async fn trace_02_a_snapshot_shows_every_answered_commit(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let missing = TopicPartition { partition: 1, ..p };
    let mut agent = Agent::start(bench).await;
    for expected in 1..20 {
        agent.put(bench, &[batch(p, 1, 0)]).await;
        let answers = bench.store().snapshots(&[missing, p]).await.expect("snapshots");
        assert!(matches!(answers[0], Err(LookupError::UnknownPartition)));
        let snapshot = answers[1].as_ref().expect("known");
        assert_eq!(
            (snapshot.log_start_offset, snapshot.high_watermark),
            (0, expected)
        );
        if expected == 9 {
            settle(bench).await;
        }
    }
}

pub async fn trace_03_a_look_up_and_its_snapshot_are_one_moment(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[batch(p, 5, 0)]).await;
    settle(bench).await;
    agent.put(bench, &[batch(p, 5, 0)]).await;
    let lookup = Lookup {
        partition: p,
        offset: 2,
        max_bytes: u64::MAX,
        read_committed: false,
    };
    let missing = Lookup {
        partition: TopicPartition { partition: 9, ..p },
        ..lookup
    };
    let mut answers = bench
        .store()
        .lookup(&[missing, lookup, lookup])
        .await
        .expect("looked up");
    let last = answers.pop().expect("three").expect("known");
    let snapshot = last.snapshot;
    let epoch = bench.store().cluster().epoch;
    assert_eq!(
        (
            snapshot.high_watermark,
            snapshot.last_stable_offset,
            snapshot.leader_epoch
        ),
        (10, 10, epoch)
    );
    assert_eq!(
        last.segments.last().expect("segments").segment.last_offset,
        9,
        "as far as it reports"
    );
    assert!(
        matches!(answers[0], Err(LookupError::UnknownPartition)),
        "answers stand in the order asked"
    );
}

pub async fn trace_14_search_finds_the_first_segment_that_reaches_the_time(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    // Timestamps jump back and forth; 900 twice.
    let times = [50, 20, 300, 100, 250, 900, 10, 900, 400, 1_000, 5];
    for (place, time) in times.iter().enumerate() {
        agent.put(bench, &[batch(p, 3, *time)]).await;
        if place == 3 || place == 7 {
            settle(bench).await;
        }
    }
    for settled in [false, true] {
        if settled {
            settle(bench).await;
        }
        for time in -1..=1_001 {
            let query = TimestampQuery::AtLeast(time);
            let found = bench
                .store()
                .search_timestamp(p, query)
                .await
                .expect("searched")
                .expect("known");
            let expected = times
                .iter()
                .position(|t| *t >= time)
                .map(|place| place as i64 * 3);
            assert_eq!(found.map(|l| l.segment.base_offset), expected, "at {time}");
        }
        let max = bench
            .store()
            .search_timestamp(p, TimestampQuery::Max)
            .await
            .expect("searched");
        assert_eq!(max.expect("known").expect("found").segment.base_offset, 27);
    }
    let empty = partition_of(&topic, 1);
    for query in [TimestampQuery::AtLeast(0), TimestampQuery::Max] {
        let found = bench
            .store()
            .search_timestamp(empty, query)
            .await
            .expect("searched");
        assert!(found.expect("known").is_none());
    }
    let missing = TopicPartition { partition: 9, ..p };
    let found = bench
        .store()
        .search_timestamp(missing, TimestampQuery::Max)
        .await
        .expect("searched");
    assert!(matches!(found, Err(LookupError::UnknownPartition)));
}

pub async fn inline_payloads_are_returned_as_committed(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    let objects = vec![
        inline(5, &[batch(p, 1, 0)]),
        object(6, &[batch(p, 1, 0)]),
        inline(7, &[batch(p, 1, 0)]),
    ];
    agent.commit(bench, objects).await.expect("committed");
    for restarted in [false, true] {
        if restarted {
            bench.restart().await;
        }
        let log = whole_log(bench, p).await;
        for (found, payload) in log.iter().zip([Some(5_u8), None, Some(7)]) {
            let stored = bench.store().inline_payload(found.object.id).await.expect("read");
            assert_eq!(stored.as_deref(), payload.map(|byte| vec![byte; 100]).as_deref());
            assert_eq!(found.object.inline, payload.is_some());
            assert_eq!(found.object.length_bytes, 100);
        }
    }
}

pub async fn a_look_up_stops_at_its_byte_limit_with_at_least_one_segment(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 1).await;
    let p = partition_of(&topic, 0);
    let mut agent = Agent::start(bench).await;
    for round in 0..6 {
        agent.put(bench, &[batch(p, 1, 0)]).await;
        if round == 2 {
            settle(bench).await;
        }
    }
    for offset in 0..6 {
        for (max_bytes, segments) in [(0, 1), (1, 1), (100, 1), (101, 2), (350, 4), (u64::MAX, 6)] {
            let expected = segments.min(6 - offset as usize);
            assert_eq!(
                look_up(bench, p, offset, max_bytes).await.len(),
                expected,
                "{max_bytes} at {offset}"
            );
        }
    }
}
