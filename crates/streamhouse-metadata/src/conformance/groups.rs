//! Cases of consumer groups: who may write, what stays, what goes.

use std::time::Duration;

use bytes::Bytes;

use super::bench::{Agent, Bench, batch, partition_of, purge, settle, topic};
use crate::ids::{StoreTime, TopicPartition};
use crate::model::group::{CommittedOffset, GroupKind, GroupState, GroupSummary, GroupWrite, OffsetOutcome};
use crate::store::groups::GroupError;

const GROUPS_MAX: u32 = 100;
const HOUR: Duration = Duration::from_secs(3_600);

fn write(
    group: &str,
    epoch: Option<i64>,
    members: &[(&str, Option<&'static [u8]>)],
    count: u32,
) -> GroupWrite {
    let members = members
        .iter()
        .map(|(id, payload)| ((*id).to_owned(), payload.map(Bytes::from_static)));
    GroupWrite {
        group: group.to_owned(),
        coordinator_epoch: epoch,
        summary: GroupSummary {
            kind: GroupKind::Classic,
            state: if count == 0 {
                GroupState::Empty
            } else {
                GroupState::Stable
            },
            protocol_type: "consumer".to_owned(),
            members: count,
        },
        payload: Bytes::from_static(b"generation 3"),
        members: members.collect(),
    }
}

fn at(offset: i64) -> CommittedOffset {
    CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: format!("at {offset}"),
    }
}

async fn create(bench: &dyn Bench, group: &str) -> i64 {
    let created = bench
        .store()
        .write_group(write(group, None, &[], 0), GROUPS_MAX)
        .await;
    created.expect("created")
}

async fn offset_of(bench: &dyn Bench, group: &str, partition: TopicPartition) -> Option<i64> {
    let found = bench.store().group_offsets(group, Some(&[partition])).await;
    let found = found.expect("offsets");
    assert_eq!(found.len(), 1);
    found[0].committed.as_ref().map(|committed| committed.offset)
}

pub async fn trace_24_a_takeover_raises_the_epoch_and_the_old_coordinator_writes_nothing(
    bench: &mut dyn Bench,
) {
    let store = bench.store();
    let partition = partition_of(&topic(bench, "t", 1).await, 0);
    let old = create(bench, "g").await;
    store
        .commit_offsets("g", old, vec![(partition, at(5))])
        .await
        .expect("committed");

    let taken = store.claim_group("g").await.expect("claimed").expect("there");
    assert!(taken.coordinator_epoch > old);
    let new = taken.coordinator_epoch;
    store
        .commit_offsets("g", new, vec![(partition, at(9))])
        .await
        .expect("committed");

    // The old coordinator wakes up: nothing that it decided takes effect.
    let late = store.commit_offsets("g", old, vec![(partition, at(6))]).await;
    assert!(matches!(late, Err(GroupError::Fenced(_))), "{late:?}");
    let late = store
        .write_group(write("g", Some(old), &[("m", Some(b"x"))], 1), GROUPS_MAX)
        .await;
    assert!(matches!(late, Err(GroupError::Fenced(_))), "{late:?}");
    let late = store.delete_offsets("g", old, &[partition]).await;
    assert!(matches!(late, Err(GroupError::Fenced(_))), "{late:?}");
    let late = store.delete_group("g", old).await;
    assert!(matches!(late, Err(GroupError::Fenced(_))), "{late:?}");
    assert_eq!(offset_of(bench, "g", partition).await, Some(9));
    let again = store.claim_group("g").await.expect("claimed").expect("there");
    assert!(again.members.is_empty());
}

pub async fn trace_24_two_coordinators_cannot_both_create_a_group(bench: &mut dyn Bench) {
    create(bench, "g").await;
    let second = bench
        .store()
        .write_group(write("g", None, &[], 0), GROUPS_MAX)
        .await;
    assert!(matches!(second, Err(GroupError::Fenced(_))), "{second:?}");
}

pub async fn members_and_offsets_survive_a_restart(bench: &mut dyn Bench) {
    let partition = partition_of(&topic(bench, "t", 1).await, 0);
    let members: &[(&str, Option<&'static [u8]>)] = &[("b", Some(b"2")), ("a", Some(b"1"))];
    let created = bench
        .store()
        .write_group(write("g", None, members, 2), GROUPS_MAX)
        .await;
    let epoch = created.expect("created");
    let offsets = vec![(partition, at(7))];
    bench
        .store()
        .commit_offsets("g", epoch, offsets)
        .await
        .expect("committed");

    bench.restart().await;
    let loaded = bench
        .store()
        .claim_group("g")
        .await
        .expect("claimed")
        .expect("there");
    assert_eq!(loaded.payload, Bytes::from_static(b"generation 3"));
    assert_eq!(loaded.summary.members, 2);
    assert_eq!(loaded.empty_since, None);
    let members: Vec<_> = loaded
        .members
        .iter()
        .map(|(id, payload)| (id.as_str(), &payload[..]))
        .collect();
    assert_eq!(members, [("a", &b"1"[..]), ("b", &b"2"[..])]);
    let all = bench.store().group_offsets("g", None).await.expect("offsets");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].partition, partition);
    assert_eq!(all[0].committed, Some(at(7)));
    assert!(!all[0].pending);
}

pub async fn members_change_one_by_one(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = write(
        "g",
        None,
        &[("a", Some(b"1")), ("b", Some(b"1")), ("c", Some(b"1"))],
        3,
    );
    let epoch = store.write_group(first, GROUPS_MAX).await.expect("created");
    let second = write("g", Some(epoch), &[("a", None), ("b", Some(b"2"))], 2);
    assert_eq!(
        store.write_group(second, GROUPS_MAX).await.expect("written"),
        epoch
    );
    let loaded = store.claim_group("g").await.expect("claimed").expect("there");
    let members: Vec<_> = loaded
        .members
        .iter()
        .map(|(id, payload)| (id.as_str(), &payload[..]))
        .collect();
    assert_eq!(members, [("b", &b"2"[..]), ("c", &b"1"[..])]);
}

pub async fn a_group_that_does_not_exist_leaves_nothing_behind(bench: &mut dyn Bench) {
    let store = bench.store();
    let partition = partition_of(&topic(bench, "t", 1).await, 0);
    assert!(store.claim_group("ghost").await.expect("asked").is_none());
    assert_eq!(offset_of(bench, "ghost", partition).await, None);
    assert!(
        store
            .group_offsets("ghost", None)
            .await
            .expect("asked")
            .is_empty()
    );
    assert!(matches!(
        store.delete_group("ghost", 1).await,
        Err(GroupError::Unknown(_))
    ));
    let commit = store.commit_offsets("ghost", 1, vec![(partition, at(1))]).await;
    assert!(matches!(commit, Err(GroupError::Fenced(_))), "{commit:?}");
    assert!(store.list_groups().await.expect("listed").is_empty());
}

pub async fn trace_18_a_deleted_topic_takes_its_offsets_with_it(bench: &mut dyn Bench) {
    let store = bench.store();
    let old = topic(bench, "t", 1).await;
    let kept = partition_of(&topic(bench, "kept", 1).await, 0);
    let epoch = create(bench, "g").await;
    let offsets = vec![(partition_of(&old, 0), at(5)), (kept, at(6))];
    store
        .commit_offsets("g", epoch, offsets)
        .await
        .expect("committed");
    store.delete_topic(old.id).await.expect("deleted");
    // Gone at once, and for good.
    assert_eq!(store.group_offsets("g", None).await.expect("offsets").len(), 1);
    purge(bench).await;
    let new = topic(bench, "t", 1).await;
    assert_eq!(offset_of(bench, "g", partition_of(&new, 0)).await, None);
    drop(store);
    bench.restart().await;
    assert_eq!(offset_of(bench, "g", kept).await, Some(6));
    assert_eq!(
        bench
            .store()
            .group_offsets("g", None)
            .await
            .expect("offsets")
            .len(),
        1
    );
}

pub async fn offsets_of_unknown_partitions_are_refused_one_by_one(bench: &mut dyn Bench) {
    let store = bench.store();
    let known = topic(bench, "t", 1).await;
    let epoch = create(bench, "g").await;
    let offsets = vec![(partition_of(&known, 7), at(1)), (partition_of(&known, 0), at(2))];
    let outcomes = store
        .commit_offsets("g", epoch, offsets)
        .await
        .expect("committed");
    let stored = OffsetOutcome::Stored { previous: None };
    assert_eq!(outcomes, [OffsetOutcome::UnknownPartition, stored]);
    let again = vec![(partition_of(&known, 0), at(9))];
    let outcomes = store.commit_offsets("g", epoch, again).await.expect("committed");
    assert_eq!(outcomes, [OffsetOutcome::Stored { previous: Some(2) }]);
    store
        .delete_offsets("g", epoch, &[partition_of(&known, 0)])
        .await
        .expect("deleted");
    assert_eq!(offset_of(bench, "g", partition_of(&known, 0)).await, None);
}

pub async fn only_empty_groups_are_deleted(bench: &mut dyn Bench) {
    let store = bench.store();
    let busy = write("g", None, &[("m", Some(b"1"))], 1);
    let epoch = store.write_group(busy, GROUPS_MAX).await.expect("created");
    let refused = store.delete_group("g", epoch).await;
    assert!(matches!(refused, Err(GroupError::NotEmpty(_))), "{refused:?}");
    let emptied = write("g", Some(epoch), &[("m", None)], 0);
    store.write_group(emptied, GROUPS_MAX).await.expect("written");
    store.delete_group("g", epoch).await.expect("deleted");
    assert!(store.list_groups().await.expect("listed").is_empty());
    assert!(store.claim_group("g").await.expect("asked").is_none());
}

pub async fn offsets_expire_once_their_group_has_been_empty(bench: &mut dyn Bench) {
    let store = bench.store();
    let two = topic(bench, "t", 2).await;
    let (first, second) = (partition_of(&two, 0), partition_of(&two, 1));
    let busy = write("busy", None, &[("m", Some(b"1"))], 1);
    let busy = store.write_group(busy, GROUPS_MAX).await.expect("created");
    let idle = create(bench, "idle").await;
    for (group, epoch) in [("busy", busy), ("idle", idle)] {
        store
            .commit_offsets(group, epoch, vec![(first, at(1))])
            .await
            .expect("committed");
    }
    bench.advance(2 * HOUR);
    store
        .commit_offsets("idle", idle, vec![(second, at(2))])
        .await
        .expect("committed");
    let hour_ago = |now: StoreTime| StoreTime(now.0 - 3_600_000);

    // The newer offset keeps the group.
    let now = store.now().await.expect("now");
    let (gone, more) = store.expire_groups(hour_ago(now), 10).await.expect("expired");
    assert!(gone.is_empty() && !more, "{gone:?}");
    assert_eq!(offset_of(bench, "idle", first).await, None);
    assert_eq!(offset_of(bench, "idle", second).await, Some(2));
    assert_eq!(offset_of(bench, "busy", first).await, Some(1));

    bench.advance(2 * HOUR);
    let now = store.now().await.expect("now");
    let (gone, _) = store.expire_groups(hour_ago(now), 10).await.expect("expired");
    assert_eq!(gone, ["idle"]);
    let left = store.list_groups().await.expect("listed");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].group, "busy");
}

pub async fn groups_are_bounded(bench: &mut dyn Bench) {
    let store = bench.store();
    for name in ["a", "b"] {
        store
            .write_group(write(name, None, &[], 0), 2)
            .await
            .expect("created");
    }
    let third = store.write_group(write("c", None, &[], 0), 2).await;
    assert!(
        matches!(third, Err(GroupError::TooMany { limit: 2 })),
        "{third:?}"
    );
}

pub async fn lag_is_told_with_the_age_of_the_oldest_unconsumed_record(bench: &mut dyn Bench) {
    let store = bench.store();
    let partition = partition_of(&topic(bench, "t", 1).await, 0);
    let epoch = create(bench, "g").await;
    let mut agent = Agent::start(bench).await;
    let mut times = Vec::new();
    for _ in 0..3 {
        times.push(store.now().await.expect("now"));
        agent.put(bench, &[batch(partition, 10, 0)]).await;
        bench.advance(Duration::from_secs(60));
    }
    let commit = async |offset| {
        let offsets = vec![(partition, at(offset))];
        store
            .commit_offsets("g", epoch, offsets)
            .await
            .expect("committed");
        let snapshots = store.group_snapshots().await.expect("snapshots");
        assert_eq!(snapshots.len(), 1);
        snapshots[0].lags[0]
    };
    for settled in [false, true] {
        for (offset, oldest) in [
            (0, Some(times[0])),
            (9, Some(times[0])),
            (10, Some(times[1])),
            (29, Some(times[2])),
            (30, None),
        ] {
            let lag = commit(offset).await;
            assert_eq!(
                (lag.committed, lag.high_watermark),
                (offset, 30),
                "settled: {settled}"
            );
            assert_eq!(
                lag.oldest_unconsumed_at, oldest,
                "at {offset}, settled: {settled}"
            );
        }
        settle(bench).await;
    }
    let now = store.now().await.expect("now");
    assert_eq!(
        store.group_snapshots().await.expect("snapshots")[0].last_commit,
        Some(now)
    );
}
