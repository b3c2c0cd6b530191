//! The coordinator over a real store: takeovers, restarts, clients that go away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use streamhouse_metadata::model::group::GroupState;
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::store::groups::GroupStore;
use streamhouse_metadata::testing::FlakyStore;
use streamhouse_observability::Metrics;
use streamhouse_observability::families::{ClusterSource, MetricsOptions};
use tokio_util::sync::CancellationToken;

use super::{Join, Profile};
use crate::cluster_view::Snapshot;
use crate::group::GroupFault;
use crate::group::coordinator::{GroupSettings, Groups};

pub(in crate::group) fn store() -> Arc<FlakyStore> {
    let store = SqliteStore::open(SqliteOptions::new(Location::Memory)).unwrap();
    Arc::new(FlakyStore::new(Arc::new(store)))
}

pub(in crate::group) fn groups(store: &Arc<FlakyStore>) -> Arc<Groups> {
    let settings = GroupSettings {
        initial_rebalance_delay: Duration::ZERO,
        groups_max: 3,
        ..GroupSettings::default()
    };
    Groups::new(
        store.clone() as Arc<dyn MetadataStore>,
        settings,
        Metrics::new(MetricsOptions::default()),
        CancellationToken::new(),
    )
}

pub(in crate::group) fn join(member: &str, new: &str) -> Join {
    Join {
        member: member.to_owned(),
        new_member: new.to_owned(),
        protocol_type: "consumer".to_owned(),
        profile: Profile {
            instance: None,
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 500,
            protocols: vec![("range".to_owned(), Bytes::new())],
        },
        needs_known_member: false,
        may_skip_assignment: false,
    }
}

/// A group of one member, stable in generation 1.
pub(in crate::group) async fn stable(groups: &Arc<Groups>, name: &str) {
    let joined = groups.join(name, join("", "a")).await.unwrap();
    assert_eq!(joined.generation, 1);
    let given = vec![("a".to_owned(), Bytes::from_static(b"A"))];
    let synced = groups
        .sync(name, ("a", None, 1), (None, None), given)
        .await
        .unwrap();
    assert_eq!(synced.assignment, "A");
}

#[tokio::test]
async fn trace_24_a_coordinator_that_lost_its_group_commits_nothing_and_says_so() {
    let store = store();
    let (old, new) = (groups(&store), groups(&store));
    stable(&old, "g").await;
    // The other takes over and goes on without a rebalance.
    new.heartbeat("g", ("a", None, 1)).await.unwrap();
    let late = old.commit("g", ("a", None, 1), false, Vec::new()).await;
    assert_eq!(late, Err(GroupFault::NotCoordinator));
    assert_eq!(
        new.commit("g", ("a", None, 1), false, Vec::new()).await,
        Ok(Vec::new())
    );
}

#[tokio::test]
async fn a_consumer_that_assigns_itself_commits_whatever_it_calls_itself_and_so_begins_its_group() {
    let store = store();
    let groups = groups(&store);
    for (name, identity) in [("g", ("x", None, -1)), ("h", ("", Some("i"), -1))] {
        let committed = groups.commit(name, identity, true, Vec::new()).await;
        assert_eq!(committed, Ok(Vec::new()), "{identity:?}");
        let named = groups
            .commit(name, (identity.0, identity.1, 0), true, Vec::new())
            .await;
        assert_eq!(named, Err(GroupFault::UnknownMember), "{identity:?}");
    }
    assert_eq!(store.list_groups().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_restart_goes_on_with_the_stored_generation_and_assignment() {
    let store = store();
    stable(&groups(&store), "g").await;
    let restarted = groups(&store);
    restarted.heartbeat("g", ("a", None, 1)).await.unwrap();
    let synced = restarted
        .sync("g", ("a", None, 1), (None, None), Vec::new())
        .await
        .unwrap();
    assert_eq!(synced.assignment, "A");
    assert_eq!(
        restarted.heartbeat("g", ("a", None, 0)).await,
        Err(GroupFault::IllegalGeneration)
    );
}

#[tokio::test]
async fn an_assignment_that_cannot_be_stored_is_given_to_nobody() {
    let store = store();
    let groups = groups(&store);
    groups.join("g", join("", "a")).await.unwrap();
    store.set_down(true);
    let given = vec![("a".to_owned(), Bytes::from_static(b"A"))];
    let synced = groups.sync("g", ("a", None, 1), (None, None), given).await;
    assert!(matches!(synced, Err(GroupFault::Store(_))), "{synced:?}");
    store.set_down(false);
    // Nothing of it was stored: the member begins anew.
    assert_eq!(
        groups.heartbeat("g", ("a", None, 1)).await,
        Err(GroupFault::UnknownMember)
    );
    stable(&groups, "g").await;
}

#[tokio::test]
async fn names_that_never_become_groups_are_not_kept() {
    let store = store();
    let groups = groups(&store);
    for n in 0..10 {
        let name = format!("ghost-{n}");
        assert!(groups.describe(&name).await.unwrap().is_none());
        assert_eq!(
            groups.heartbeat(&name, ("a", None, 1)).await,
            Err(GroupFault::UnknownMember)
        );
        let mut refused = join("", "a");
        refused.profile.protocols.clear();
        assert_eq!(
            groups.join(&name, refused).await.unwrap_err().0,
            GroupFault::InconsistentProtocol
        );
    }
    assert!(groups.seen().is_empty());
    for name in ["a", "b", "c"] {
        stable(&groups, name).await;
    }
    assert_eq!(
        groups.join("d", join("", "a")).await.unwrap_err().0,
        GroupFault::TooManyGroups(3)
    );
}

/// State and members of the only group, as the gauges have them.
async fn shown(store: &Arc<FlakyStore>, groups: &Arc<Groups>) -> (&'static str, u32) {
    let source = Snapshot {
        metadata: store.clone() as Arc<dyn MetadataStore>,
        metrics: Metrics::new(MetricsOptions::default()),
        groups: Arc::clone(groups),
    };
    let view = source.cluster_view().await.unwrap();
    assert_eq!(view.groups.len(), 1);
    (view.groups[0].state, view.groups[0].members)
}

#[tokio::test]
async fn the_gauges_show_a_rebalance_while_it_goes_on_and_a_group_that_nobody_asked_for() {
    let store = store();
    let groups = groups(&store);
    stable(&groups, "g").await;
    assert_eq!(shown(&store, &groups).await, ("Stable", 1));
    let join_of = |member: &str, new: &str| {
        let (groups, join) = (Arc::clone(&groups), join(member, new));
        tokio::spawn(async move { groups.join("g", join).await })
    };
    let newcomer = join_of("", "b");
    while groups.describe("g").await.unwrap().unwrap().members() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shown(&store, &groups).await, ("PreparingRebalance", 2));
    join_of("a", "").await.unwrap().unwrap();
    newcomer.await.unwrap().unwrap();
    assert_eq!(shown(&store, &groups).await, ("CompletingRebalance", 2));
    // What is stored is the generation before; a coordinator that has not loaded the group has nothing else.
    assert_eq!(shown(&store, &self::groups(&store)).await, ("Stable", 1));
    let synced = groups.sync("g", ("a", None, 2), (None, None), Vec::new()).await;
    synced.unwrap();
    assert_eq!(shown(&store, &groups).await, ("Stable", 2));
    assert_eq!(shown(&store, &self::groups(&store)).await, ("Stable", 2));
}

#[tokio::test]
async fn the_gauges_do_not_wait_for_a_group_that_is_in_the_middle_of_a_step() {
    let store = store();
    let groups = groups(&store);
    stable(&groups, "g").await;
    groups.heartbeat("g", ("a", None, 1)).await.unwrap();
    let members = [("a".to_owned(), None)];
    let mut leave = Box::pin(groups.leave("g", &members));
    // At its first pause it holds the group, of which nothing is stored or answered yet.
    if tokio::time::timeout(Duration::ZERO, &mut leave).await.is_err() {
        assert_eq!(groups.seen()["g"].state, GroupState::Stable);
        leave.await.unwrap();
    }
    assert_eq!(shown(&store, &groups).await, ("Empty", 0));
}

#[tokio::test]
async fn a_member_that_waits_is_answered_when_another_one_s_request_is_dropped_midway() {
    let store = store();
    let groups = groups(&store);
    stable(&groups, "g").await;
    // b waits for a to join again.
    let waiting = tokio::spawn({
        let groups = Arc::clone(&groups);
        async move { groups.join("g", join("", "b")).await }
    });
    while groups.describe("g").await.unwrap().unwrap().state() != GroupState::PreparingRebalance {
        tokio::task::yield_now().await;
    }
    // The last member's leaving is stored; its client goes away at the first pause of that.
    let groups_of_a = Arc::clone(&groups);
    let members = [("a".to_owned(), None)];
    let leave = groups_of_a.leave("g", &members);
    let dropped = tokio::time::timeout(Duration::ZERO, leave).await;
    let answer = waiting.await.unwrap();
    match dropped {
        Err(_) => assert!(
            matches!(answer, Err((GroupFault::NotCoordinator, _)) | Ok(_)),
            "{answer:?}"
        ),
        Ok(_) => assert_eq!(answer.unwrap().generation, 2),
    }
    // Whatever came of it, the group can be used.
    assert!(groups.join("g", join("", "c")).await.is_ok() || groups.describe("g").await.unwrap().is_some());
}
