//! Nothing is committed before it is processed, and what is said too late is refused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use streamhouse_client::{
    ClientMetrics, Commits, ConsumeError, Consumer, ConsumerBuilder, Producer, RebalanceKind, Received,
    Record,
};

use crate::{Cluster, LIMIT, cluster, value};

const TOPIC: &str = "orders";
const HOUR: Duration = Duration::from_secs(3600);

async fn filled(partitions: i32, records: usize) -> Cluster {
    let cluster = cluster(TOPIC, partitions);
    let producer = Producer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .build()
        .unwrap();
    for number in 0..records {
        let partition = number as i32 % partitions;
        let record = Record::to(TOPIC).partition(partition).value(number.to_string());
        let _delivery = producer.enqueue(record).await.unwrap();
    }
    producer.close(LIMIT).await.unwrap();
    cluster
}

fn member(cluster: &Cluster) -> ConsumerBuilder {
    Consumer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .group("g")
        .topics([TOPIC])
        .session_timeout(Duration::from_secs(6))
        // Nothing is committed but at the end, or when a test says so.
        .commits(Commits::Every(HOUR))
}

async fn next(consumer: &mut Consumer) -> Received {
    tokio::time::timeout(LIMIT, consumer.next())
        .await
        .unwrap()
        .unwrap()
}

fn lag(metrics: &ClientMetrics, partition: i32) -> Option<f64> {
    let series = format!(
        "streamhouse_consumer_lag{{topic=\"{TOPIC}\",partition=\"{partition}\",consumer_group=\"g\"}}"
    );
    value(metrics, &series)
}

#[tokio::test]
async fn the_next_member_goes_on_where_the_last_one_said_it_was() {
    let cluster = filled(1, 10).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let mut first = member(&cluster)
        .on_rebalance(move |event| seen.lock().unwrap().push((event.kind, event.partitions.len())))
        .build()
        .unwrap();
    let mut records = Vec::new();
    for _ in 0..8 {
        records.push(next(&mut first).await);
    }
    first.processed(&records[3]).unwrap();
    let metrics = first.metrics().clone();
    assert_eq!(lag(&metrics, 0), Some(6.0));
    let counted = "streamhouse_consumer_records_total{topic=\"orders\",consumer_group=\"g\"}";
    assert_eq!(value(&metrics, counted), Some(8.0));
    first.close(LIMIT).await.unwrap();
    assert_eq!(lag(&metrics, 0), None);
    let rebalances = "streamhouse_consumer_rebalances_total{consumer_group=\"g\"}";
    assert_eq!(value(&metrics, rebalances), Some(1.0));
    let events = events.lock().unwrap().clone();
    assert_eq!(
        events,
        [(RebalanceKind::Assigned, 1), (RebalanceKind::Revoked, 1)]
    );

    let mut second = member(&cluster).build().unwrap();
    let record = next(&mut second).await;
    assert_eq!(
        (record.offset(), record.value().unwrap().as_ref()),
        (4, &b"4"[..])
    );
    // Lag counts from what is committed while nothing new is processed.
    assert_eq!(lag(second.metrics(), 0), Some(6.0));
    second.commit_through(&record).await.unwrap();
    assert_eq!(lag(second.metrics(), 0), Some(5.0));
}

#[tokio::test]
async fn a_seek_makes_earlier_records_void_and_a_pause_holds_records_back() {
    let cluster = filled(2, 40).await;
    let mut consumer = member(&cluster).build().unwrap();
    let first = next(&mut consumer).await;
    let (here, other) = (first.partition(), 1 - first.partition());
    consumer.pause(TOPIC, here).await.unwrap();
    for _ in 0..20 {
        assert_eq!(next(&mut consumer).await.partition(), other);
    }
    consumer.resume(TOPIC, here).await.unwrap();
    assert_eq!(next(&mut consumer).await.offset(), 1);

    consumer.seek(TOPIC, here, 15).await.unwrap();
    let late = consumer.processed(&first).unwrap_err();
    assert_eq!((late.partition, late.offset), (here, 0));
    let record = next(&mut consumer).await;
    assert_eq!((record.partition(), record.offset()), (here, 15));
    consumer.processed(&record).unwrap();

    let unknown = consumer.seek("elsewhere", 0, 0).await.unwrap_err();
    assert!(matches!(unknown, ConsumeError::NotAssigned { .. }), "{unknown:?}");
    assert_eq!(consumer.assignment().len(), 2);
    consumer.close(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_rewind_goes_back_to_what_is_committed() {
    let cluster = filled(1, 10).await;
    let mut consumer = member(&cluster).build().unwrap();
    let third = {
        let (_, _) = (next(&mut consumer).await, next(&mut consumer).await);
        next(&mut consumer).await
    };
    consumer.rewind().await.unwrap();
    assert_eq!(next(&mut consumer).await.offset(), 0);
    assert!(consumer.processed(&third).is_err());
    let second = next(&mut consumer).await;
    consumer.commit_through(&second).await.unwrap();
    let _third = next(&mut consumer).await;
    consumer.rewind().await.unwrap();
    assert_eq!(next(&mut consumer).await.offset(), 2);
}

#[tokio::test]
async fn a_refused_commit_is_said_and_counted_and_tried_again() {
    let cluster = filled(1, 3).await;
    let mut consumer = member(&cluster).build().unwrap();
    let record = next(&mut consumer).await;
    cluster.request_errors(
        RDKafkaApiKey::OffsetCommit,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE],
    );
    let error = consumer.commit_through(&record).await.unwrap_err();
    assert!(matches!(error, ConsumeError::Commit { .. }), "{error:?}");
    let series =
        "streamhouse_consumer_errors_total{topic=\"orders\",consumer_group=\"g\",error_type=\"invalid\"}";
    assert_eq!(value(consumer.metrics(), series), Some(1.0));
    consumer.commit().await.unwrap();
    consumer.close(LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_wait_for_a_record_can_be_given_up_and_loses_none() {
    let cluster = cluster(TOPIC, 1);
    let mut consumer = member(&cluster).build().unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await;
    assert!(waited.is_err(), "there is no record yet");
    let producer = Producer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .build()
        .unwrap();
    for number in 0..5 {
        producer
            .send(Record::to(TOPIC).value(number.to_string()))
            .await
            .unwrap();
        let waited = tokio::time::timeout(Duration::ZERO, consumer.next()).await;
        if let Ok(record) = waited {
            assert_eq!(record.unwrap().offset(), number);
        } else {
            assert_eq!(next(&mut consumer).await.offset(), number);
        }
    }
}

#[tokio::test]
async fn a_member_that_is_too_slow_loses_its_partitions_and_cannot_commit_what_it_had() {
    let cluster = filled(1, 3).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let mut consumer = member(&cluster)
        .poll_interval_max(Duration::from_secs(15))
        .on_rebalance(move |event| seen.lock().unwrap().push(event.kind))
        .build()
        .unwrap();
    let record = next(&mut consumer).await;
    // The rest of what was received at once is still at hand, and is handed out while it is ours.
    let _second = next(&mut consumer).await;
    let _third = next(&mut consumer).await;
    tokio::time::sleep(Duration::from_secs(18)).await;
    let error = tokio::time::timeout(LIMIT, consumer.next())
        .await
        .unwrap()
        .unwrap_err();
    let ConsumeError::Group { code, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(
        !error.is_fatal() && code.to_string().starts_with("PollExceeded"),
        "{error}"
    );
    let series =
        "streamhouse_consumer_errors_total{topic=\"\",consumer_group=\"g\",error_type=\"timed_out\"}";
    assert_eq!(value(consumer.metrics(), series), Some(1.0));
    // It joins again by itself, and gets again what nobody has processed.
    let again = next(&mut consumer).await;
    assert_eq!(again.offset(), record.offset());
    assert!(consumer.processed(&record).is_err());
    consumer.processed(&again).unwrap();
    let events = events.lock().unwrap().clone();
    assert_eq!(
        events,
        [
            RebalanceKind::Assigned,
            RebalanceKind::Lost,
            RebalanceKind::Assigned
        ]
    );
}
