//! Cases of topics: names, limits, partitions.

use super::bench::{Agent, Bench, LIMITS, appended, batch, partition_of, topic};
use crate::model::topic::{NewTopic, TopicConfig, TopicLimits};
use crate::store::TopicError;

fn new(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        partitions,
        config: TopicConfig::default(),
    }
}

pub async fn limits_are_enforced(bench: &mut dyn Bench) {
    let store = bench.store();
    let limits = TopicLimits {
        topics_max: 2,
        partitions_max: 5,
    };
    let first = store.create_topic(new("a", 3), limits).await.expect("created");
    let many = store.create_topic(new("b", 3), limits).await;
    assert!(
        matches!(
            many,
            Err(TopicError::TooMany {
                what: "partitions",
                limit: 5
            })
        ),
        "{many:?}"
    );
    let more = store.create_partitions(first.id, 6, limits).await;
    assert!(
        matches!(
            more,
            Err(TopicError::TooMany {
                what: "partitions",
                limit: 5
            })
        ),
        "{more:?}"
    );
    store.create_topic(new("b", 1), limits).await.expect("created");
    let third = store.create_topic(new("c", 1), limits).await;
    assert!(
        matches!(
            third,
            Err(TopicError::TooMany {
                what: "topics",
                limit: 2
            })
        ),
        "{third:?}"
    );
    // What is deleted does not count.
    store.delete_topic(first.id).await.expect("deleted");
    store.create_topic(new("c", 4), limits).await.expect("created");
    assert_eq!(store.topics().await.expect("topics").len(), 2);
}

pub async fn names_that_collide_are_refused(bench: &mut dyn Bench) {
    topic(bench, "a.b_c", 1).await;
    for name in ["a.b_c", "a_b_c", "a.b.c", "a_b.c"] {
        let refused = bench.store().create_topic(new(name, 1), LIMITS).await;
        assert!(
            matches!(&refused, Err(TopicError::Exists(existing)) if existing == "a.b_c"),
            "{refused:?}"
        );
    }
    let names = ["a_b_c".to_owned(), "a.b_c".to_owned()];
    let found = bench.store().topics_by_name(&names).await.expect("topics");
    assert!(found[0].is_none(), "a colliding name is another name");
    assert_eq!(found[1].as_ref().expect("found").name, "a.b_c");
}

pub async fn partitions_are_added_only(bench: &mut dyn Bench) {
    let topic = topic(bench, "t", 2).await;
    let mut agent = Agent::start(bench).await;
    agent.put(bench, &[batch(partition_of(&topic, 1), 1, 0)]).await;
    for total in [2, 1, 0, -1] {
        let refused = bench.store().create_partitions(topic.id, total, LIMITS).await;
        assert!(
            matches!(refused, Err(TopicError::NotMorePartitions { current: 2, .. })),
            "{refused:?}"
        );
    }
    let grown = bench
        .store()
        .create_partitions(topic.id, 4, LIMITS)
        .await
        .expect("grown");
    assert_eq!((grown.partitions, grown.id), (4, topic.id));
    let batches = [
        batch(partition_of(&topic, 1), 1, 0),
        batch(partition_of(&topic, 3), 1, 0),
    ];
    assert_eq!(agent.put(bench, &batches).await, [appended(1), appended(0)]);
}

pub async fn topics_survive_a_restart(bench: &mut dyn Bench) {
    let mut config = TopicConfig::default();
    config.set("max.message.bytes", "2000").expect("valid");
    let with_config = NewTopic {
        name: "configured".to_owned(),
        partitions: 3,
        config,
    };
    let created = bench
        .store()
        .create_topic(with_config, LIMITS)
        .await
        .expect("created");
    let gone = topic(bench, "gone", 1).await;
    bench.store().delete_topic(gone.id).await.expect("deleted");
    let cluster = bench.store().cluster();
    bench.restart().await;
    assert_eq!(bench.store().cluster(), cluster);
    assert_eq!(
        bench.store().topics().await.expect("topics"),
        std::slice::from_ref(&created)
    );
    let found = bench
        .store()
        .topics_by_id(&[gone.id, created.id])
        .await
        .expect("topics");
    assert_eq!(found, [None, Some(created)]);
    let unknown = bench.store().delete_topic(gone.id).await;
    assert!(matches!(unknown, Err(TopicError::Unknown)), "{unknown:?}");
}
