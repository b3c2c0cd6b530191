//! Every way in which a send can end, and that a full queue makes senders wait.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use streamhouse_client::{Consumer, Header, Producer, ProducerBuilder, Record, SendError, TraceContext};

use crate::{LIMIT, cluster, value};

const TOPIC: &str = "orders";

/// Timeouts that are short, so that what fails does so soon; and long enough for what shall not, on a busy machine.
fn hasty(bootstrap: &str) -> ProducerBuilder {
    Producer::builder()
        .bootstrap(bootstrap)
        .request_timeout(Duration::from_secs(1))
        .delivery_timeout(Duration::from_secs(3))
        .linger(Duration::ZERO)
}

fn errors(producer: &Producer, error_type: &str) -> Option<f64> {
    let series =
        format!("streamhouse_producer_errors_total{{topic=\"{TOPIC}\",error_type=\"{error_type}\"}}");
    value(producer.metrics(), &series)
}

#[tokio::test]
async fn records_that_leave_together_are_one_batch() {
    let cluster = cluster(TOPIC, 1);
    let producer = Producer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .linger(Duration::from_secs(60))
        .build()
        .unwrap();
    let mut deliveries = Vec::new();
    for number in 0..31 {
        let record = Record::to(TOPIC)
            .key("k")
            .value(format!("{number:02}"))
            .header("h", "v");
        deliveries.push(producer.enqueue(record).await.unwrap());
        if number == 0 {
            // Once the topic is known: what waits for that leaves as it is let go.
            producer.flush(LIMIT).await.unwrap();
        }
    }
    assert!(producer.queued_bytes().0 > 30 * 3);
    producer.flush(LIMIT).await.unwrap();
    for (number, delivery) in deliveries.into_iter().enumerate() {
        let delivered = delivery.await.unwrap();
        assert_eq!((delivered.partition, delivered.offset), (0, Some(number as i64)));
    }
    assert_eq!(producer.queued_bytes().0, 0);
    for (series, expected) in [
        ("streamhouse_producer_records_total{topic=\"orders\"}", 31.0),
        ("streamhouse_producer_bytes_total{topic=\"orders\"}", 93.0),
        ("streamhouse_producer_batch_size_count{topic=\"orders\"}", 2.0),
        ("streamhouse_producer_batch_size_sum{topic=\"orders\"}", 31.0),
        (
            "streamhouse_producer_latency_seconds_count{topic=\"orders\"}",
            2.0,
        ),
    ] {
        assert_eq!(value(producer.metrics(), series), Some(expected), "{series}");
    }
    producer.close(LIMIT).await.unwrap();
    let closed = producer.send(Record::to(TOPIC)).await.unwrap_err();
    assert!(matches!(closed, SendError::Closed { .. }), "{closed}");
}

#[tokio::test]
async fn the_hook_is_asked_inside_the_span_of_the_send_and_the_consumer_gets_what_it_says() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(std::io::sink);
    let _subscribed = tracing::subscriber::set_default(subscriber.finish());
    let cluster = cluster(TOPIC, 1);
    let hooked = TraceContext::new([7; 16], [9; 8], true).unwrap();
    let own = TraceContext::new([1; 16], [2; 8], false)
        .unwrap()
        .with_state("vendor=1");
    let answer = hooked.clone();
    let producer = Producer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .trace(move || {
            let span = tracing::Span::current();
            (span.metadata().map(tracing::Metadata::name) == Some("send")).then(|| answer.clone())
        })
        .build()
        .unwrap();
    producer.send(Record::to(TOPIC)).await.unwrap();
    producer.send(Record::to(TOPIC).trace(own.clone())).await.unwrap();
    let null = Header {
        name: "nothing".to_owned(),
        value: None,
    };
    let passed_on = Record::to(TOPIC)
        .header("traceparent", "not one")
        .headers([null.clone()]);
    producer.send(passed_on).await.unwrap();

    let consumer = Consumer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .group("g")
        .topics([TOPIC]);
    let mut consumer = consumer.session_timeout(Duration::from_secs(6)).build().unwrap();
    let mut received = Vec::new();
    for _ in 0..3 {
        received.push(
            tokio::time::timeout(LIMIT, consumer.next())
                .await
                .unwrap()
                .unwrap(),
        );
    }
    assert_eq!(received[0].trace(), Some(hooked));
    assert_eq!(received[1].trace(), Some(own));
    assert_eq!(received[2].trace(), None);
    assert_eq!(received[2].headers()[1], null);
}

#[tokio::test]
async fn what_a_broker_refuses_is_certainly_not_stored() {
    let cluster = cluster(TOPIC, 1);
    let producer = Producer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .build()
        .unwrap();
    producer.send(Record::to(TOPIC)).await.unwrap();
    cluster.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
    );
    let error = producer.send(Record::to(TOPIC)).await.unwrap_err();
    let SendError::Refused { partition, code, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!((partition, code.number()), (Some(0), 29));
    assert_eq!(errors(&producer, "unauthorized"), Some(1.0));
    assert_eq!(errors(&producer, "agent_error"), Some(0.0));
}

#[tokio::test]
async fn what_could_not_be_sent_in_time_is_certainly_not_stored() {
    // Nobody listens on port 1.
    let producer = hasty("127.0.0.1:1").build().unwrap();
    let error = producer.send(Record::to(TOPIC)).await.unwrap_err();
    assert!(matches!(error, SendError::TimedOut { .. }), "{error:?}");
    assert_eq!(errors(&producer, "timed_out"), Some(1.0));
    assert_eq!(
        value(
            producer.metrics(),
            "streamhouse_producer_records_total{topic=\"orders\"}"
        ),
        Some(0.0)
    );
}

#[tokio::test]
async fn what_was_sent_and_never_answered_may_be_stored() {
    let cluster = cluster(TOPIC, 1);
    let producer = hasty(&cluster.bootstrap_servers())
        .idempotent(false)
        .build()
        .unwrap();
    producer.send(Record::to(TOPIC)).await.unwrap();
    cluster
        .broker_round_trip_time(1, Duration::from_secs(30))
        .unwrap();
    let error = producer.send(Record::to(TOPIC)).await.unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Unknown {
                partition: Some(0),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(errors(&producer, "timed_out"), Some(1.0));
}

#[tokio::test]
async fn a_full_queue_makes_senders_wait_and_room_lets_them_on() {
    let cluster = cluster(TOPIC, 1);
    let producer = Producer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .linger(Duration::from_secs(60))
        .record_bytes_max(10_000)
        .queue_bytes_max(25_000)
        .build()
        .unwrap();
    let record = || Record::to(TOPIC).value(vec![7; 10_000]);
    let first = producer.enqueue(record()).await.unwrap();
    let second = producer.enqueue(record()).await.unwrap();
    let mut third = pin!(producer.enqueue(record()));
    let mut context = Context::from_waker(Waker::noop());
    assert!(third.as_mut().poll(&mut context).is_pending());
    // A cancelled wait has sent nothing, and takes no room.
    let mut cancelled = Box::pin(producer.enqueue(record()));
    assert!(cancelled.as_mut().poll(&mut context).is_pending());
    drop(cancelled);

    producer.flush(LIMIT).await.unwrap();
    assert!(first.await.is_ok() && second.await.is_ok());
    let Poll::Ready(Ok(third)) = third.as_mut().poll(&mut context) else {
        panic!("there is room, and the third still waits");
    };
    producer.close(LIMIT).await.unwrap();
    assert_eq!(third.await.unwrap().offset, Some(2));

    let too_large = Record::to(TOPIC).value(vec![7; 10_001]);
    let error = Producer::builder()
        .bootstrap(cluster.bootstrap_servers())
        .record_bytes_max(10_000)
        .build()
        .unwrap()
        .send(too_large)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            SendError::TooLarge {
                bytes: 10_001,
                bytes_max: 10_000,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn closing_gives_up_what_is_left_when_its_time_is_over() {
    let producer = Producer::builder().bootstrap("127.0.0.1:1").build().unwrap();
    let delivery = producer.enqueue(Record::to(TOPIC)).await.unwrap();
    let left = producer.close(Duration::from_millis(100)).await.unwrap_err().left;
    assert_eq!(left, 1);
    let error = delivery.await.unwrap_err();
    assert!(matches!(error, SendError::Aborted { .. }), "{error:?}");
    assert_eq!(errors(&producer, "local"), Some(1.0));
}

#[tokio::test]
async fn a_producer_that_is_dropped_answers_whoever_waits() {
    let producer = Producer::builder().bootstrap("127.0.0.1:1").build().unwrap();
    let metrics = producer.metrics().clone();
    let delivery = producer.enqueue(Record::to(TOPIC)).await.unwrap();
    drop(producer);
    let error = tokio::time::timeout(LIMIT, delivery).await.unwrap().unwrap_err();
    assert!(matches!(error, SendError::Aborted { .. }), "{error:?}");
    let series = "streamhouse_producer_errors_total{topic=\"orders\",error_type=\"local\"}";
    assert_eq!(value(&metrics, series), Some(1.0));
}
