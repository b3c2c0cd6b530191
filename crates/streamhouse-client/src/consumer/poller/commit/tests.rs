//! Against librdkafka's mock of a cluster, which refuses commits of partitions that it does not have: such a one is
//! put among the consumer's own, as one whose topic was deleted a moment ago.

#![allow(clippy::unwrap_used)] // helpers of tests: a failure is the result

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::super::super::assignment::Slot;
use super::super::places;
use super::*;
use crate::consumer::Consumer;
use crate::producer::Producer;
use crate::record::Record;

const LIMIT: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// Two topics of two partitions with one record each.
async fn filled() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    let producer = Producer::builder().bootstrap(cluster.bootstrap_servers());
    let producer = producer.build().unwrap();
    for topic in ["bills", "orders"] {
        cluster.create_topic(topic, 2, 1).unwrap();
        for partition in 0..2 {
            let record = Record::to(topic).partition(partition).value("v");
            producer.send(record).await.unwrap();
        }
    }
    cluster
}

/// A member that has processed the four records and committed nothing.
async fn member(cluster: &Cluster) -> Consumer {
    let mut consumer = Consumer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .group("g")
        .topics(["bills", "orders"])
        .session_timeout(Duration::from_secs(60))
        .commits(Commits::Every(HOUR))
        .build()
        .unwrap();
    for _ in 0..4 {
        let record = tokio::time::timeout(LIMIT, consumer.next()).await;
        consumer.processed(&record.unwrap().unwrap()).unwrap();
    }
    consumer
}

/// Makes this one of the consumer's partitions, processed up to here.
fn add(consumer: &Consumer, topic: &str, partition: i32, offset: i64) {
    let records = consumer.metrics().group("g").topic(topic);
    let slot = Slot::new(Arc::from(topic), partition, records);
    slot.processed(offset - 1);
    consumer.shared.assignment.insert(slot);
}

fn uncommitted(consumer: &Consumer) -> Vec<(String, i32, i64)> {
    let positions = consumer.shared.assignment.uncommitted();
    let place = |position: &Position| {
        (
            position.topic().to_string(),
            position.partition(),
            position.offset(),
        )
    };
    positions.iter().map(place).collect()
}

fn committed(consumer: &Consumer) -> Vec<Offset> {
    let topics = [("bills", 0), ("bills", 1), ("orders", 0), ("orders", 1)];
    let list = places(&topics.map(|(topic, partition)| (topic.to_owned(), partition)));
    let list = consumer.shared.base.committed_offsets(list, LIMIT).unwrap();
    list.elements()
        .iter()
        .map(TopicPartitionListElem::offset)
        .collect()
}

/// Every error that is counted, as `topic error_type number`.
fn errors(consumer: &Consumer) -> Vec<String> {
    let text = consumer.metrics().render();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("streamhouse_consumer_errors_total{topic=\""));
    let mut found: Vec<_> = lines
        .filter(|line| !line.ends_with(" 0"))
        .map(|line| line.replace("\",consumer_group=\"g\",error_type=\"", " "))
        .map(|line| line.replace("\"}", ""))
        .collect();
    found.sort();
    found
}

fn refused(error: &ConsumeError) -> Vec<(&str, i32, i64, i32)> {
    let ConsumeError::Commit { code, refused, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(*code, refused[0].code);
    let place = |place: &'_ RefusedOffset| (place.partition, place.offset, place.code.number());
    refused
        .iter()
        .map(|each| (&*each.topic, place(each)))
        .map(|(topic, (partition, offset, code))| (topic, partition, offset, code))
        .collect()
}

const UNKNOWN_TOPIC: i32 = 3;

fn gone() -> Vec<(String, i32, i64)> {
    vec![("gone".to_owned(), 0, 6), ("orders".to_owned(), 7, 3)]
}

#[tokio::test]
async fn what_a_broker_refuses_of_a_commit_is_named_and_counted_and_said_again_and_the_rest_is_committed() {
    let cluster = filled().await;
    let consumer = member(&cluster).await;
    // A topic that is gone, and a partition of one that is there.
    add(&consumer, "gone", 0, 6);
    add(&consumer, "orders", 7, 3);
    let error = consumer.commit().await.unwrap_err();
    let wanted = [("gone", 0, 6, UNKNOWN_TOPIC), ("orders", 7, 3, UNKNOWN_TOPIC)];
    assert_eq!(refused(&error), wanted);
    assert_eq!(committed(&consumer), [Offset::Offset(1); 4]);
    assert_eq!(uncommitted(&consumer), gone());
    assert_eq!(
        errors(&consumer),
        ["gone unknown_topic 1", "orders unknown_topic 1"]
    );

    // It is said again, and once the broker has the topic it is done.
    cluster.create_topic("gone", 1, 1).unwrap();
    let error = consumer.commit().await.unwrap_err();
    assert_eq!(refused(&error), wanted[1..]);
    assert_eq!(uncommitted(&consumer), gone()[1..]);
    assert_eq!(
        errors(&consumer),
        ["gone unknown_topic 1", "orders unknown_topic 2"]
    );
    consumer.close(LIMIT).await.unwrap_err();
}

#[tokio::test]
async fn the_last_commit_says_what_was_refused_of_it_and_the_next_member_goes_on_behind_the_rest() {
    let cluster = filled().await;
    let consumer = member(&cluster).await;
    add(&consumer, "gone", 0, 6);
    let error = consumer.close(LIMIT).await.unwrap_err();
    assert_eq!(refused(&error), [("gone", 0, 6, UNKNOWN_TOPIC)]);
    let next = Consumer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .group("g")
        .topics(["orders"])
        .build()
        .unwrap();
    assert_eq!(committed(&next), [Offset::Offset(1); 4]);
}

#[tokio::test]
async fn what_is_refused_of_the_whole_group_counts_once() {
    let cluster = filled().await;
    let consumer = member(&cluster).await;
    let code = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[code]);
    let error = consumer.commit().await.unwrap_err();
    let wanted = [("bills", 0), ("bills", 1), ("orders", 0), ("orders", 1)];
    let wanted = wanted.map(|(topic, partition)| (topic, partition, 1, 30));
    assert_eq!(refused(&error), wanted);
    assert_eq!(errors(&consumer), [" unauthorized 1"]);
    assert_eq!(uncommitted(&consumer).len(), 4);
    consumer.commit().await.unwrap();
    assert_eq!(committed(&consumer), [Offset::Offset(1); 4]);
    assert_eq!(uncommitted(&consumer), []);
    consumer.close(LIMIT).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_took_too_long_has_failed_and_may_have_committed() {
    let cluster = filled().await;
    let consumer = member(&cluster).await;
    // More than librdkafka asks by itself.
    let codes = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 20];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &codes);
    let error = consumer.commit().await.unwrap_err();
    let ConsumeError::CommitUnknown { code, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(code.number(), 7);
    assert_eq!(errors(&consumer), [" agent_error 1"]);
    assert_eq!(uncommitted(&consumer).len(), 4);
    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    consumer.close(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_close_does_not_wait_longer_for_its_commit_than_it_may_and_says_that_nobody_knows() {
    let cluster = filled().await;
    let consumer = member(&cluster).await;
    let metrics = consumer.metrics().clone();
    cluster.broker_down(1).unwrap();
    // By itself librdkafka waits for a coordinator for as long as a session lasts.
    let error = consumer.close(Duration::from_secs(5)).await.unwrap_err();
    let ConsumeError::CommitUnknown { code, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(code, Code::OperationTimedOut.into());
    let line =
        "streamhouse_consumer_errors_total{topic=\"\",consumer_group=\"g\",error_type=\"timed_out\"} 1\n";
    assert!(metrics.render().contains(line), "{}", metrics.render());
}

fn positions(places: &[(&str, i32)]) -> Vec<Position> {
    let assignment = assignment::Assignment::default();
    let records = crate::ClientMetrics::default().group("g").topic("t");
    for (topic, partition) in places {
        let slot = Slot::new(Arc::from(*topic), *partition, records.clone());
        slot.processed(0);
        assignment.insert(slot);
    }
    assignment.uncommitted()
}

fn answer(error: Option<Code>, failed: &[(&str, i32, Code)]) -> CommitAnswer {
    let failed = failed.iter();
    let place =
        |(topic, partition, code): &(&str, i32, Code)| ((*topic).to_owned(), *partition, (*code).into());
    CommitAnswer {
        error: error.map(ErrorCode::from),
        failed: failed.map(place).collect(),
    }
}

#[test]
fn an_answer_is_taken_for_what_it_can_say() {
    let part = positions(&[("a", 0), ("b", 0)]);
    let judged = |error, failed: &[_]| judge(&answer(error, failed), &part);
    assert_eq!(judged(None, &[]), Some(vec![None, None]));
    let gone = Code::UnknownTopicOrPartition;
    // As another librdkafka has it: no error of the whole, and each partition its own.
    let exact = judged(None, &[("b", 0, gone), ("b", 1, gone)]);
    assert_eq!(exact, Some(vec![None, Some(gone.into())]));
    // As this one has it: it may be true of one of them only.
    assert_eq!(judged(Some(gone), &[("a", 0, gone), ("b", 0, gone)]), None);
    let group = Code::IllegalGeneration;
    assert_eq!(judged(Some(group), &[]), Some(vec![Some(group.into()); 2]));
    let alone = judge(&answer(Some(gone), &[]), &part[..1]);
    assert_eq!(alone, Some(vec![Some(gone.into())]));
}

#[test]
fn parts_are_topics_and_then_partitions() {
    let sizes = |parts: Vec<Vec<Position>>| parts.iter().map(Vec::len).collect::<Vec<_>>();
    let places = [("a", 0), ("a", 1), ("b", 0), ("c", 0), ("c", 5)];
    assert_eq!(sizes(split(positions(&places))), [2, 1, 2]);
    assert_eq!(sizes(split(positions(&places[..2]))), [1, 1]);
}
