//! Pushes as clients write them, and as nobody should.

use std::io::Write;
use std::time::Duration;

use prost::encoding::{WireType, encode_key, encode_varint};
use streamhouse_metadata::model::topic_config::{ConfigChange, ConfigOp};
use streamhouse_metadata::sqlite::{Location, SqliteOptions, SqliteStore};
use streamhouse_observability::MetricsOptions;

use super::*;

fn message(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::Varint, &mut out);
    encode_varint(value, &mut out);
    out
}

fn double(value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(4, WireType::SixtyFourBit, &mut out);
    out.extend_from_slice(&value.to_le_bytes());
    out
}

fn int(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(6, WireType::SixtyFourBit, &mut out);
    out.extend_from_slice(&value.to_le_bytes());
    out
}

const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;

/// A metric with these points; `temporality` makes it a sum.
fn metric(name: &str, temporality: Option<u64>, points: &[Vec<u8>]) -> Vec<u8> {
    // An attribute stands before each value: it is passed over.
    let attribute = message(7, &message(1, b"node_id"));
    let mut data: Vec<u8> = points
        .iter()
        .flat_map(|point| message(1, &[attribute.clone(), point.clone()].concat()))
        .collect();
    if let Some(temporality) = temporality {
        data.extend(varint(2, temporality));
        data.extend(varint(3, 1));
    }
    let name = message(1, format!("org.apache.kafka.{name}").as_bytes());
    let unit = message(3, b"ms");
    let kind = if temporality.is_some() { 7 } else { 5 };
    message(2, &[name, unit, message(kind, &data)].concat())
}

fn payload(metrics: &[Vec<u8>]) -> Vec<u8> {
    let scope = message(1, &message(1, b"a scope"));
    let scopes = message(2, &[scope, metrics.concat()].concat());
    let resource = message(1, &message(1, b"an attribute"));
    message(1, &[resource, scopes].concat())
}

fn everything() -> Vec<u8> {
    payload(&[
        metric(
            "producer.connection.creation.total",
            Some(DELTA),
            &[double(2.0), int(1)],
        ),
        metric(
            "producer.node.request.latency.avg",
            None,
            &[double(10.0), double(f64::NAN), double(30.0)],
        ),
        metric("producer.node.request.latency.max", None, &[int(7), double(50.0)]),
        // Once more, as librdkafka does for each broker.
        metric("producer.node.request.latency.max", None, &[double(40.0)]),
        metric("producer.record.queue.time.avg", None, &[double(f64::NAN)]),
        metric("producer.something.of.its.own", None, &[double(1.0)]),
        metric("producer.produce.throttle.time.max", None, &[double(-1.0)]),
    ])
}

fn compressed(compression: i8, payload: &[u8]) -> Vec<u8> {
    match compression {
        0 => payload.to_vec(),
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(payload).unwrap();
            encoder.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(payload).unwrap(),
        3 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(payload).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(payload, 3).unwrap(),
    }
}

fn push(payload: &[u8]) -> Push<'_> {
    Push {
        subscription: 0,
        terminating: false,
        compression: 0,
        payload,
    }
}

#[test]
fn points_become_one_reading_and_the_rest_is_counted() {
    let pushed = otlp::read(&everything()).unwrap();
    let reading = |name: &str| pushed.readings[standard::slot(name.as_bytes()).unwrap()];
    let read = [
        reading("org.apache.kafka.producer.connection.creation.total"),
        reading("org.apache.kafka.producer.node.request.latency.avg"),
        reading("org.apache.kafka.producer.node.request.latency.max"),
        reading("org.apache.kafka.producer.record.queue.time.avg"),
        reading("org.apache.kafka.producer.produce.throttle.time.max"),
    ];
    let expected = [
        Some(otlp::Reading::Increase(3.0)),
        Some(otlp::Reading::Gauge(20.0)),
        Some(otlp::Reading::Gauge(50.0)),
        None,
        None,
    ];
    assert_eq!(read, expected);
    assert_eq!(pushed.ignored, 1);
    assert_eq!(otlp::read(b""), Ok(otlp::Pushed::default()));
}

#[test]
fn hostile_payloads_are_refused_or_read_and_nothing_else() {
    let honest = everything();
    for length in 1..honest.len() {
        // Only the outermost message is there, and it says how long it is.
        assert_eq!(
            otlp::read(&honest[..length]),
            Err(TelemetryFault::Malformed),
            "{length}"
        );
    }
    for at in 0..honest.len() {
        for byte in [0, 0x0b, 0x7f, 0x80, 0xff] {
            let mut bytes = honest.clone();
            bytes[at] = byte;
            let _ = otlp::read(&bytes);
        }
    }
    for bytes in [
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
        &[0x0b],
        &[0x08, 1],
        &[0xff; 20],
    ] {
        assert_eq!(otlp::read(bytes), Err(TelemetryFault::Malformed), "{bytes:?}");
    }
}

#[test]
fn every_codec_is_read_and_a_bomb_ends_at_the_limit() {
    let honest = everything();
    let bomb = vec![0; PUSH_BYTES_MAX as usize + 1];
    for compression in 0..=4 {
        let small = compressed(compression, &honest);
        let read = payload::decompress(Push {
            compression,
            ..push(&small)
        });
        assert_eq!(read.as_ref(), Ok(&honest), "{compression}");
        let most = compressed(compression, &bomb[1..]);
        assert!(
            payload::decompress(Push {
                compression,
                ..push(&most)
            })
            .is_ok()
        );
        let large = compressed(compression, &bomb);
        let read = payload::decompress(Push {
            compression,
            ..push(&large)
        });
        assert_eq!(read, Err(TelemetryFault::TooLarge), "{compression}");
        if compression != 0 {
            let broken = payload::decompress(Push {
                compression,
                ..push(&small[..small.len() / 2])
            });
            assert_eq!(broken, Err(TelemetryFault::Malformed), "{compression}");
        }
    }
    // A snappy block that claims 4 GiB, a zstd frame that wants a window of 2 GiB.
    let snappy = Push {
        compression: 2,
        ..push(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0])
    };
    assert_eq!(payload::decompress(snappy), Err(TelemetryFault::Malformed));
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let zstd = Push {
        compression: 4,
        ..push(&zstd)
    };
    assert_eq!(payload::decompress(zstd), Err(TelemetryFault::Malformed));
}

/// One agent and one client of it.
struct House {
    telemetry: ClientTelemetry,
    metrics: Arc<Metrics>,
    asker: Asker,
}

impl House {
    /// Everybody is asked for everything, every ten seconds.
    async fn new() -> Self {
        let store = SqliteStore::open(SqliteOptions::new(Location::Memory)).unwrap();
        let metrics = Metrics::new(MetricsOptions::default());
        let house = Self {
            telemetry: ClientTelemetry::new(Arc::new(store), metrics.clone()),
            metrics,
            asker: Asker {
                instance: Uuid::from_u128(7),
                client_id: "app".to_owned(),
                software: Software::new("librdkafka", "2.12.0"),
                address: "127.0.0.1:9".parse().unwrap(),
            },
        };
        house
            .subscribe("all", &[("metrics", "*"), ("interval.ms", "10000")])
            .await;
        house
    }

    async fn subscribe(&self, name: &str, entries: &[(&str, &str)]) {
        let set = |(name, value): &(&str, &str)| ((*name).to_owned(), ConfigOp::Set((*value).to_owned()));
        let change = ConfigChange {
            replace: true,
            ops: entries.iter().map(set).collect(),
        };
        self.telemetry
            .metadata
            .alter_client_metrics(name, change, 10)
            .await
            .unwrap();
        self.telemetry.forget();
    }

    async fn push(&self, subscription: i32, payload: &[u8]) -> Result<(), TelemetryFault> {
        self.telemetry
            .push(
                &self.asker,
                Push {
                    subscription,
                    ..push(payload)
                },
            )
            .await
    }

    fn gauge(&self, gauge: ClientGauge) -> Vec<f64> {
        self.telemetry
            .gauge(gauge)
            .iter()
            .map(|sample| sample.value)
            .collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn clients_come_once_an_interval_and_with_the_subscription_they_were_given() {
    let house = House::new().await;
    let asked = house.telemetry.ask(&house.asker).await.unwrap();
    assert_eq!(
        (asked.metrics.as_slice(), asked.interval),
        (&["*".to_owned()][..], Duration::from_secs(10))
    );
    assert_eq!(
        house.telemetry.ask(&house.asker).await,
        Err(TelemetryFault::TooEarly)
    );
    // The first push after asking may come at any time, the next not.
    assert_eq!(house.push(asked.id, b"").await, Ok(()));
    assert_eq!(house.push(asked.id, b"").await, Err(TelemetryFault::TooEarly));
    pass(10).await;
    assert_eq!(
        house.push(asked.id ^ 1, b"").await,
        Err(TelemetryFault::UnknownSubscription)
    );
    // That complaint tells the client to ask again, and it may.
    assert_eq!(house.telemetry.ask(&house.asker).await.unwrap(), asked);
    pass(10).await;
    assert_eq!(
        house.push(asked.id, b"\xff").await,
        Err(TelemetryFault::Malformed)
    );
    pass(10).await;
    let strange = Push {
        subscription: asked.id,
        compression: 9,
        ..push(b"")
    };
    assert_eq!(
        house.telemetry.push(&house.asker, strange).await,
        Err(TelemetryFault::Compression(9))
    );
    pass(10).await;
    let large = vec![0; PUSH_BYTES_MAX as usize + 1];
    assert_eq!(house.push(asked.id, &large).await, Err(TelemetryFault::TooLarge));
    let nobody = Asker {
        instance: Uuid::nil(),
        ..house.asker.clone()
    };
    let refused = house.telemetry.push(&nobody, push(b"")).await;
    assert_eq!(refused, Err(TelemetryFault::InstanceId));
    let results = [
        ("ok", 1),
        ("too_early", 1),
        ("unknown_subscription", 1),
        ("unsupported_compression", 1),
        ("too_large", 1),
        ("invalid", 2),
    ];
    let text = house.metrics.render();
    for (result, count) in results {
        let line = format!("streamhouse_client_pushes_total{{result=\"{result}\"}} {count}\n");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_while_the_subscriptions_are_read_for_the_first_time_waits_for_them() {
    let house = House::new().await;
    let other = Asker {
        instance: Uuid::from_u128(8),
        ..house.asker.clone()
    };
    let (first, second) = tokio::join!(house.telemetry.ask(&house.asker), house.telemetry.ask(&other));
    assert_eq!(first.unwrap().metrics, ["*"]);
    assert_eq!(second.unwrap().metrics, ["*"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_subscription_is_told_at_once_and_only_to_whom_it_is_for() {
    let house = House::new().await;
    let before = house.telemetry.ask(&house.asker).await.unwrap();
    let other = [
        ("metrics", "x"),
        ("interval.ms", "100"),
        ("match", "client_id=somebody"),
    ];
    house.subscribe("other", &other).await;
    assert_eq!(
        house.telemetry.ask(&house.asker).await,
        Err(TelemetryFault::TooEarly)
    );
    house
        .subscribe(
            "all",
            &[
                ("metrics", "b,a"),
                ("interval.ms", "5000"),
                ("match", "client_id=a.*"),
            ],
        )
        .await;
    house
        .subscribe(
            "more",
            &[("metrics", "c,a"), ("match", "client_software_name=librdkafka")],
        )
        .await;
    let after = house.telemetry.ask(&house.asker).await.unwrap();
    assert_eq!(after.metrics, ["a", "b", "c"]);
    assert_eq!(after.interval, Duration::from_secs(5));
    assert_ne!(after.id, before.id);
    assert_eq!(
        house.push(before.id, b"").await,
        Err(TelemetryFault::UnknownSubscription)
    );
    house.subscribe("all", &[]).await;
    house.subscribe("more", &[]).await;
    let nothing = house.telemetry.ask(&house.asker).await.unwrap();
    assert_eq!(
        (nothing.metrics.len(), nothing.interval),
        (0, Duration::from_secs(300))
    );
    assert_eq!(house.telemetry.metadata.client_metrics().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn clients_become_one_figure_and_leave_it_with_their_last_push_or_when_silent() {
    let house = House::new().await;
    let id = house.telemetry.ask(&house.asker).await.unwrap().id;
    house.push(id, &everything()).await.unwrap();
    let other = Asker {
        instance: Uuid::from_u128(8),
        ..house.asker.clone()
    };
    let theirs = payload(&[
        metric("producer.node.request.latency.avg", None, &[double(40.0)]),
        metric("producer.node.request.latency.max", None, &[double(40.0)]),
        metric(
            "producer.connection.creation.total",
            Some(CUMULATIVE),
            &[double(5.0)],
        ),
    ]);
    let id = house.telemetry.ask(&other).await.unwrap().id;
    let mut last = Push {
        subscription: id,
        ..push(&theirs)
    };
    house.telemetry.push(&other, last).await.unwrap();
    assert_eq!(
        house.telemetry.clients(),
        [(ClientKind::Producer, ClientSoftware::Librdkafka, 2)]
    );
    assert_eq!(house.gauge(ClientGauge::RequestLatency), [0.03, 0.05]);
    // Increases count as they come; of a total only what it grew by since it was first seen.
    let connections = house
        .metrics
        .clients
        .connections(ClientKind::Producer, ClientSoftware::Librdkafka);
    assert_eq!(connections.value(), 3);
    assert_eq!(house.metrics.clients.ignored.value(), 1);

    let grown = payload(&[metric(
        "producer.connection.creation.total",
        Some(CUMULATIVE),
        &[double(7.0)],
    )]);
    last.payload = &grown;
    last.terminating = true;
    // A last push is taken whenever it comes, and nothing after it.
    house.telemetry.push(&other, last).await.unwrap();
    assert_eq!(connections.value(), 5);
    assert_eq!(
        house.telemetry.push(&other, last).await,
        Err(TelemetryFault::Terminated)
    );
    assert_eq!(house.gauge(ClientGauge::RequestLatency), [0.02, 0.05]);
    pass(60).await;
    assert_eq!(house.telemetry.clients(), []);
    assert_eq!(house.telemetry.state.lock().instances.len(), 0);
    assert_eq!(house.gauge(ClientGauge::RequestLatency), [0.0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_bounded_number_of_clients_is_remembered() {
    let house = House::new().await;
    let client = |number| Asker {
        instance: Uuid::from_u128(number),
        ..house.asker.clone()
    };
    for number in 0..INSTANCES_MAX as u128 {
        house.telemetry.ask(&client(100 + number)).await.unwrap();
        tokio::time::advance(Duration::from_nanos(1)).await;
    }
    house.telemetry.ask(&client(7)).await.unwrap();
    let instances = |id| {
        house
            .telemetry
            .state
            .lock()
            .instances
            .contains_key(&Uuid::from_u128(id))
    };
    assert_eq!(house.telemetry.state.lock().instances.len(), INSTANCES_MAX);
    assert!(
        !instances(100) && instances(101) && instances(7),
        "the one silent for longest has gone"
    );
}

#[test]
fn what_a_client_calls_itself_is_no_label() {
    assert_eq!(ClientSoftware::named("apache-kafka-java"), ClientSoftware::Java);
    assert_eq!(ClientSoftware::named("evil\"} 1\n"), ClientSoftware::Other);
    assert_eq!(Software::new(&"x".repeat(300), "1").name.as_ref(), "unknown");
}
