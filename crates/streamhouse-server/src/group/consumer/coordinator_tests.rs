//! The newer protocol over a real store: takeovers, restarts, writes that fail, and going over between the
//! protocols.

use std::sync::Arc;

use streamhouse_metadata::model::group::GroupState;
use streamhouse_metadata::model::topic::{NewTopic, TopicConfig, TopicLimits};
use streamhouse_metadata::store::MetadataStore;
use streamhouse_metadata::testing::FlakyStore;

use super::{Assignment, Beat, BeatReply};
use crate::group::GroupFault;
use crate::group::classic::coordinator_tests::{groups, join, stable, store};
use crate::group::coordinator::Groups;

async fn with_topic(store: &FlakyStore) {
    let limits = TopicLimits {
        topics_max: 10,
        partitions_max: 100,
    };
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: 4,
        config: TopicConfig::default(),
    };
    store.create_topic(topic, limits).await.unwrap();
}

fn joining(member: &str) -> Beat {
    Beat {
        member: member.to_owned(),
        rebalance_timeout_ms: Some(10_000),
        names: Some(["t".to_owned()].into()),
        owned: Some(Assignment::default()),
        ..Beat::default()
    }
}

async fn beat(groups: &Arc<Groups>, member: &str, epoch: i32, owned: Option<&Assignment>) -> BeatReply {
    let beat = Beat {
        member: member.to_owned(),
        epoch,
        owned: owned.cloned(),
        ..Beat::default()
    };
    groups.consumer_heartbeat("g", beat).await.unwrap()
}

#[tokio::test]
async fn trace_25_a_takeover_gives_nothing_away_that_was_not_given_up() {
    let store = store();
    with_topic(&store).await;
    let old = groups(&store);
    let all = old.consumer_heartbeat("g", joining("a")).await.unwrap();
    assert_eq!(all.assignment.as_ref().map(Assignment::len), Some(4));
    // The newcomer's share is decided, and a told to give it up, by a coordinator that then dies.
    let newcomer = old.consumer_heartbeat("g", joining("b")).await.unwrap();
    assert_eq!(newcomer.assignment.map(|assignment| assignment.len()), Some(0));
    let told = beat(&old, "a", 1, None).await;
    let kept = told.assignment.unwrap();
    assert_eq!(kept.len(), 2);
    let new = groups(&store);
    for _ in 0..3 {
        assert_eq!(
            beat(&new, "b", newcomer.epoch, None).await.assignment,
            None,
            "a has it still"
        );
        assert_eq!(beat(&new, "a", 1, None).await.epoch, 1);
    }
    // The old one knows nothing of what follows and has to let go.
    assert_eq!(beat(&new, "a", 1, Some(&kept)).await.epoch, 2);
    let late = old.consumer_heartbeat("g", joining("c")).await;
    assert_eq!(late.unwrap_err(), GroupFault::NotCoordinator);
    let got = beat(&new, "b", 2, None).await.assignment.unwrap();
    assert_eq!(got.len(), 2);
    assert!(got.partitions().all(|p| !kept.holds(p.topic, p.partition)));
}

#[tokio::test]
async fn trace_25_an_assignment_that_cannot_be_stored_is_given_to_nobody() {
    let store = store();
    with_topic(&store).await;
    let groups = groups(&store);
    groups.topic_view(false).await.unwrap();
    store.set_down(true);
    let refused = groups.consumer_heartbeat("g", joining("a")).await;
    assert!(matches!(refused, Err(GroupFault::Store(_))), "{refused:?}");
    store.set_down(false);
    let unknown = groups
        .consumer_heartbeat(
            "g",
            Beat {
                epoch: 1,
                ..joining("a")
            },
        )
        .await;
    assert_eq!(unknown.unwrap_err(), GroupFault::UnknownGroup);
    let joined = groups.consumer_heartbeat("g", joining("a")).await.unwrap();
    assert_eq!(joined.assignment.map(|assignment| assignment.len()), Some(4));
}

#[tokio::test]
async fn a_restart_goes_on_without_moving_anything() {
    let store = store();
    with_topic(&store).await;
    let joined = groups(&store)
        .consumer_heartbeat("g", joining("a"))
        .await
        .unwrap();
    let restarted = groups(&store);
    let goes_on = beat(&restarted, "a", joined.epoch, None).await;
    assert_eq!((goes_on.epoch, goes_on.assignment), (joined.epoch, None));
    let described = restarted.describe("g").await.unwrap().unwrap();
    assert_eq!(
        (described.state(), described.generation()),
        (GroupState::Stable, joined.epoch)
    );
}

#[tokio::test]
async fn a_heartbeat_that_changes_nothing_writes_nothing() {
    let store = store();
    with_topic(&store).await;
    let groups = groups(&store);
    let joined = groups.consumer_heartbeat("g", joining("a")).await.unwrap();
    // The topics known are of this second.
    store.set_down(true);
    assert_eq!(beat(&groups, "a", joined.epoch, None).await.epoch, joined.epoch);
}

#[tokio::test]
async fn a_group_without_members_goes_over_to_the_protocol_of_who_joins() {
    let store = store();
    with_topic(&store).await;
    let groups = groups(&store);
    stable(&groups, "g").await;
    let other = groups.consumer_heartbeat("g", joining("b")).await;
    assert_eq!(other.unwrap_err(), GroupFault::OtherProtocol);
    groups.leave("g", &[("a".to_owned(), None)]).await.unwrap();
    let joined = groups.consumer_heartbeat("g", joining("b")).await.unwrap();
    assert!(
        joined.epoch > 2,
        "epochs go on where generations ended: {}",
        joined.epoch
    );
    let classic = groups.join("g", join("", "c")).await;
    assert_eq!(classic.unwrap_err().0, GroupFault::InconsistentProtocol);
    assert_eq!(
        groups.heartbeat("g", ("b", None, 1)).await,
        Err(GroupFault::UnknownMember)
    );
    groups.consumer_leave("g", ("b", None), -1).await.unwrap();
    let back = groups.join("g", join("", "c")).await.unwrap();
    assert!(back.generation > joined.epoch);
}
