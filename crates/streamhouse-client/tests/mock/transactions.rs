//! Transactions with a coordinator that refuses, and callers that go away.

use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use streamhouse_client::{CommitError, Consumer, Producer, Record, TransactionError, TransactionalProducer};

use crate::{Cluster, LIMIT, cluster};

const TOPIC: &str = "orders";

async fn producer(cluster: &Cluster) -> TransactionalProducer {
    let builder = Producer::builder().bootstrap(cluster.bootstrap_servers());
    builder.build_transactional("id", LIMIT).await.unwrap()
}

#[tokio::test]
async fn transactions_follow_each_other_however_the_last_one_ended() {
    let cluster = cluster(TOPIC, 1);
    let mut producer = producer(&cluster).await;
    let transaction = producer.begin().await.unwrap();
    let _delivery = transaction
        .enqueue(Record::to(TOPIC).value("committed"))
        .await
        .unwrap();
    transaction.commit().await.unwrap();

    let transaction = producer.begin().await.unwrap();
    transaction
        .send(Record::to(TOPIC).value("aborted"))
        .await
        .unwrap();
    transaction.abort().await.unwrap();

    let transaction = producer.begin().await.unwrap();
    transaction
        .send(Record::to(TOPIC).value("dropped"))
        .await
        .unwrap();
    drop(transaction);

    // A begin that nobody waits for any more leaves nothing open.
    let unheard = tokio::time::timeout(Duration::ZERO, producer.begin()).await;
    drop(unheard);

    let transaction = producer.begin().await.unwrap();
    transaction
        .send(Record::to(TOPIC).value("committed"))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    producer.close(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_producer_that_was_fenced_is_over() {
    let cluster = cluster(TOPIC, 1);
    let mut producer = producer(&cluster).await;
    let transaction = producer.begin().await.unwrap();
    transaction.send(Record::to(TOPIC)).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::EndTxn,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_PRODUCER_FENCED],
    );
    let error = transaction.commit().await.unwrap_err();
    assert!(
        matches!(error, CommitError::Over(TransactionError::Fenced { .. })),
        "{error:?}"
    );
    let error = producer.begin().await.map(drop).unwrap_err();
    assert!(
        matches!(
            error,
            TransactionError::Fenced { .. } | TransactionError::Fatal { .. }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_commit_that_cannot_be_is_taken_back_and_said_so() {
    let cluster = cluster(TOPIC, 1);
    let mut producer = producer(&cluster).await;
    let transaction = producer.begin().await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD],
    );
    let _refused = transaction.enqueue(Record::to(TOPIC)).await.unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Aborted { .. }), "{error:?}");
    // The refused record left a gap in the sequence, which librdkafka finds in the next transaction and closes
    // with a new epoch: that one may be taken back as well, and none after it.
    let mut committed = Vec::new();
    for _ in 0..3 {
        let transaction = producer.begin().await.unwrap();
        let _fate = transaction.send(Record::to(TOPIC)).await;
        committed.push(transaction.commit().await);
    }
    let first_good = committed.iter().position(Result::is_ok).unwrap();
    assert!(
        first_good <= 1 && committed[first_good..].iter().all(Result::is_ok),
        "{committed:?}"
    );
}

#[tokio::test]
async fn a_commit_that_nobody_answers_is_unknown_and_found_out_before_the_next() {
    let cluster = cluster(TOPIC, 1);
    let mut producer = producer(&cluster).await;
    for limit in [Duration::from_secs(1), Duration::from_millis(1), Duration::ZERO] {
        producer.set_limit(LIMIT);
        producer.begin().await.unwrap().abort().await.unwrap();
        producer.set_limit(limit);
        let transaction = producer.begin().await.unwrap();
        transaction.send(Record::to(TOPIC)).await.unwrap();
        cluster.broker_round_trip_time(1, Duration::from_secs(3)).unwrap();
        let error = transaction.commit().await.unwrap_err();
        assert!(
            matches!(error, CommitError::Unknown { .. }),
            "{limit:?}: {error:?}"
        );
        cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    }
    producer.set_limit(LIMIT);
    let transaction = producer.begin().await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_begin_that_nobody_waits_for_leaves_an_unanswered_commit_to_the_next_one() {
    let cluster = cluster(TOPIC, 1);
    let mut producer = producer(&cluster).await;
    producer.set_limit(Duration::from_secs(1));
    let transaction = producer.begin().await.unwrap();
    transaction.send(Record::to(TOPIC)).await.unwrap();
    cluster
        .broker_round_trip_time(1, Duration::from_secs(10))
        .unwrap();
    let error = transaction.commit().await.unwrap_err();
    assert!(matches!(error, CommitError::Unknown { .. }), "{error:?}");
    let unheard = tokio::time::timeout(Duration::from_millis(10), producer.begin()).await;
    assert!(unheard.is_err(), "the broker is still silent");
    drop(unheard);
    // Its turn is over before the broker speaks again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    producer.set_limit(LIMIT);
    let transaction = producer.begin().await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_commits_itself_is_no_part_of_a_transaction() {
    let cluster = cluster(TOPIC, 1);
    let mut producer = producer(&cluster).await;
    let consumer = Consumer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .group("g")
        .topics([TOPIC]);
    let consumer = consumer.build().unwrap();
    let transaction = producer.begin().await.unwrap();
    let error = transaction.send_offsets(&consumer).await.unwrap_err();
    assert_eq!(
        error,
        TransactionError::ConsumerCommits {
            group: "g".to_owned()
        }
    );
}

#[tokio::test]
async fn a_coordinator_that_does_not_answer_is_no_producer() {
    let builder = Producer::builder().bootstrap("127.0.0.1:1");
    let error = builder
        .build_transactional("id", Duration::from_millis(200))
        .await
        .map(drop);
    assert!(
        matches!(error, Err(TransactionError::TimedOut { .. })),
        "{error:?}"
    );
}
