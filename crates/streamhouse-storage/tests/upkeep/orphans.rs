//! What nobody names is deleted, and nothing that somebody names or may still write.

use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use streamhouse_metadata::ids::{ObjectName, StoreTime};
use streamhouse_metadata::store::MetadataStore as _;
use streamhouse_observability::Gauge;
use streamhouse_storage::object::key_of;
use streamhouse_storage::stores::faulty::{Call, Plan};
use streamhouse_storage::upkeep::Next;
use streamhouse_storage::upkeep::abandoned::AbandonedTask;
use streamhouse_storage::upkeep::orphans::OrphansTask;

use crate::house::{house, options};

/// The collector deletes an orphan, then a delayed PUT lands: the next daily sweep finds it. What is
/// named stays, also under a tombstone, and so does every key of the living.
#[tokio::test]
async fn trace_16_only_unnamed_keys_of_tombstones_are_collected_again_and_again() {
    let house = house().await;
    let a = house.start().await;
    a.commit_inline(&house, &[0], "a").await;
    let named = a.compaction().0.run_once().await.unwrap().object.unwrap();
    let orphan = |counter| {
        key_of(&ObjectName {
            incarnation: a.incarnation(),
            counter,
        })
    };
    house
        .faulty
        .put(&orphan(77), PutPayload::from_static(b"late"))
        .await
        .unwrap();
    let foreign = Path::from(format!("objects/{}/notes.txt", a.incarnation()));
    house
        .faulty
        .put(&foreign, PutPayload::from_static(b"not ours"))
        .await
        .unwrap();

    // While A lives nothing of it is touched, however long.
    house.clock.advance(Duration::from_secs(100_000));
    assert_eq!(a.orphans().run_once().await.unwrap().deleted, 0);

    let b = house.start().await;
    let live = ObjectName {
        incarnation: b.incarnation(),
        counter: 1,
    };
    house
        .faulty
        .put(&key_of(&live), PutPayload::from_static(b"in flight"))
        .await
        .unwrap();
    let fresh = b.orphans().run_once().await.unwrap();
    assert_eq!(fresh.deleted, 0, "before the PUT deadline a PUT may still land");
    let landed = options().put_deadline + Duration::from_millis(1);
    assert_eq!(fresh.next, Next::In(landed));

    house.clock.advance(Duration::from_secs(31));
    assert_eq!(b.orphans().run_once().await.unwrap().deleted, 1);
    house
        .faulty
        .put(&orphan(78), PutPayload::from_static(b"later still"))
        .await
        .unwrap();
    assert_eq!(b.orphans().run_once().await.unwrap().swept, 0, "once a day");
    house.clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    assert_eq!(b.orphans().run_once().await.unwrap().deleted, 1);

    let mut expected = vec![named.to_string(), foreign.to_string(), live.to_string()];
    expected.sort();
    assert_eq!(house.keys().await, expected);
    assert_eq!(house.records(0).await.len(), 1);
}

/// Else the backlog of `orphans` stands there until the day of the last start is over, and the alert TaskOverdue fires.
#[tokio::test]
async fn each_tombstone_is_swept_when_its_own_day_is_over_whenever_the_agent_started() {
    let house = house().await;
    let day = Duration::from_secs(24 * 60 * 60);
    let landed = options().put_deadline + Duration::from_millis(1);
    let alone = house.start().await;
    let rest = alone.orphans().run_once().await.unwrap();
    assert_eq!((rest.swept, rest.next), (0, Next::Idle), "nobody is dead");

    let second = house.start().await;
    house.clock.advance(landed);
    let first_sweep = second.orphans().run_once().await.unwrap();
    assert_eq!((first_sweep.swept, first_sweep.next), (1, Next::In(day)));

    // Started anew ten hours later: the first tombstone's day goes on.
    let hours = Duration::from_secs(10 * 60 * 60);
    house.clock.advance(hours);
    let third = house.start().await;
    let orphans = third.orphans();
    let start = orphans.run_once().await.unwrap();
    assert_eq!((start.swept, start.next), (0, Next::In(landed)));
    house.clock.advance(landed);
    let at_start = orphans.run_once().await.unwrap();
    assert_eq!(
        (at_start.swept, at_start.next),
        (1, Next::In(day - hours - landed))
    );

    let backlog = async || {
        let now = house.metadata.now().await.unwrap();
        house
            .metadata
            .tombstones(StoreTime(now.0 + 1))
            .await
            .unwrap()
            .len()
    };
    house
        .clock
        .advance(day - hours - landed - Duration::from_millis(1));
    assert_eq!(backlog().await, 0);
    house.clock.advance(Duration::from_millis(1));
    assert_eq!(backlog().await, 1, "as the cluster gauges count it");
    let due = orphans.run_once().await.unwrap();
    assert_eq!((due.swept, due.next), (1, Next::In(hours + landed)));
    assert_eq!(backlog().await, 0);
}

/// A live agent deletes what it gave up itself, after the PUT deadline, and only then calls it decided.
#[tokio::test(start_paused = true)]
async fn trace_16_an_abandoned_upload_is_deleted_after_the_put_deadline() {
    let house = house().await;
    let agent = house.start().await;
    agent.commit_inline(&house, &[0], "a").await;
    // Acted upon, the answer lost, and no retry above: given up.
    house.faulty.plan(Call::Put, Plan::LoseReply);
    let (task, abandoned) = agent.compaction();
    task.run_once().await.unwrap_err();
    let undecided = agent.identity.borrow().counters.lowest_undecided();
    let deleter = AbandonedTask::new(agent.parts.clone(), options(), abandoned.clone());
    assert!(matches!(deleter.run_once().await.unwrap(), Next::In(_)));
    assert_eq!((house.keys().await.len(), abandoned.len()), (1, 1));
    tokio::time::advance(options().put_deadline).await;
    assert_eq!(deleter.run_once().await.unwrap(), Next::Idle);
    assert!(house.keys().await.is_empty());
    assert!(agent.identity.borrow().counters.lowest_undecided() > undecided);
    assert_eq!(house.records(0).await.len(), 1);
}

#[tokio::test]
async fn orphans_show_their_bytes_until_they_are_deleted() {
    let house = house().await;
    let dead = house.start().await;
    let key = key_of(&ObjectName {
        incarnation: dead.incarnation(),
        counter: 7,
    });
    house
        .faulty
        .put(&key, PutPayload::from_static(b"12345"))
        .await
        .unwrap();
    let agent = house.start().await;
    let found = Gauge::default();
    let task = OrphansTask::new(agent.parts.clone(), options(), found.clone());
    house.clock.advance(Duration::from_secs(31));
    house.faulty.plan(Call::Delete, Plan::RefuseBefore(503));
    task.run_once().await.unwrap_err();
    assert_eq!(found.value(), 5);
    // A look that was not allowed has seen nothing, which is not that nothing is there.
    house.faulty.plan(Call::List, Plan::RefuseBefore(403));
    task.run_once().await.unwrap_err();
    assert_eq!(found.value(), 5);
    assert_eq!(task.run_once().await.unwrap().deleted, 1);
    assert_eq!(found.value(), 0);
}

#[tokio::test]
async fn a_refused_deletion_does_not_end_the_look_for_orphans() {
    let house = house().await;
    for value in ["12345", "1234567"] {
        let dead = house.start().await;
        let key = key_of(&ObjectName {
            incarnation: dead.incarnation(),
            counter: 7,
        });
        house.faulty.put(&key, PutPayload::from(value)).await.unwrap();
    }
    let agent = house.start().await;
    let found = Gauge::default();
    let task = OrphansTask::new(agent.parts.clone(), options(), found.clone());
    house.clock.advance(Duration::from_secs(31));
    house.faulty.plan(Call::Delete, Plan::RefuseBefore(403));
    task.run_once().await.unwrap_err();
    assert_eq!(found.value(), 12, "what lies under both tombstones");
    let report = task.run_once().await.unwrap();
    assert_eq!((report.deleted, report.swept), (2, 2));
    assert_eq!(found.value(), 0);
}
