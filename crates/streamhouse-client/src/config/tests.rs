//! Contradictions are named, and what holds together is what librdkafka accepts.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn producer() -> ProducerSettings {
    let mut settings = ProducerSettings::default();
    settings.common.bootstrap = "127.0.0.1:1".to_owned();
    settings
}

fn consumer() -> ConsumerSettings {
    let mut settings = ConsumerSettings {
        group: "g".to_owned(),
        topics: vec!["t".to_owned()],
        ..ConsumerSettings::default()
    };
    settings.common.bootstrap = "127.0.0.1:1".to_owned();
    settings
}

fn refused(change: impl FnOnce(&mut ProducerSettings)) -> String {
    let mut settings = producer();
    change(&mut settings);
    settings.validate(None).unwrap_err().to_string()
}

fn consumer_refused(change: impl FnOnce(&mut ConsumerSettings)) -> String {
    let mut settings = consumer();
    change(&mut settings);
    settings.validate().unwrap_err().to_string()
}

#[test]
fn the_defaults_lose_and_reorder_nothing() {
    let config = producer().validate(None).unwrap();
    for (key, value) in [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("partitioner", "murmur2_random"),
        ("message.timeout.ms", "120000"),
    ] {
        assert_eq!(config.get(key), Some(value), "{key}");
    }
    let config = consumer().validate().unwrap();
    for (key, value) in [
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "earliest"),
        ("session.timeout.ms", "45000"),
        ("heartbeat.interval.ms", "3000"),
    ] {
        assert_eq!(config.get(key), Some(value), "{key}");
    }
}

#[test]
fn a_producer_that_contradicts_itself_is_refused_by_name() {
    for (message, names) in [
        (refused(|s| s.common.bootstrap.clear()), "bootstrap"),
        (refused(|s| s.acks = Acks::Leader), "idempotent"),
        (
            refused(|s| s.record_bytes_max = s.queue_bytes_max + 1),
            "queue_bytes_max",
        ),
        (refused(|s| s.linger = s.delivery_timeout), "linger"),
        (
            refused(|s| s.request_timeout = s.delivery_timeout),
            "request_timeout",
        ),
        (refused(|s| s.batch_bytes_max = 0), "batch_bytes_max"),
        (refused(|s| s.record_bytes_max = 10), "record_bytes_max"),
        (
            refused(|s| s.delivery_timeout = Duration::MAX),
            "delivery_timeout",
        ),
    ] {
        assert!(message.contains(names), "{message}");
    }
}

#[test]
fn a_transaction_bounds_its_records_and_needs_idempotence() {
    let config = producer().validate(Some("id")).unwrap();
    assert_eq!(config.get("transaction.timeout.ms"), Some("60000"));
    assert_eq!(config.get("message.timeout.ms"), Some("60000"));
    assert_eq!(producer().validate(None).unwrap().get("transactional.id"), None);

    let mut plain = producer();
    plain.idempotent = false;
    assert_eq!(
        plain.validate(Some("id")).unwrap_err(),
        ConfigError::TransactionalNotIdempotent
    );
    assert!(plain.validate(None).is_ok());
    let missing = producer().validate(Some("")).unwrap_err();
    assert!(matches!(missing, ConfigError::Missing { .. }));
    let mut short = producer();
    short.transaction_timeout = 10 * SECOND;
    let error = short.validate(Some("id")).unwrap_err().to_string();
    assert!(
        error.contains("request_timeout") && error.contains("transaction_timeout"),
        "{error}"
    );
}

#[test]
fn a_consumer_that_contradicts_itself_is_refused_by_name() {
    for (message, names) in [
        (consumer_refused(|s| s.group.clear()), "group"),
        (consumer_refused(|s| s.topics.clear()), "topics"),
        (consumer_refused(|s| s.topics.push(String::new())), "topics"),
        (
            consumer_refused(|s| s.heartbeat_interval = Some(50 * SECOND)),
            "heartbeat_interval",
        ),
        (
            consumer_refused(|s| s.poll_interval_max = 30 * SECOND),
            "poll_interval_max",
        ),
        (
            consumer_refused(|s| s.commits = Commits::Every(Duration::ZERO)),
            "commits",
        ),
        (
            consumer_refused(|s| s.prefetch_records_max = 0),
            "prefetch_records_max",
        ),
    ] {
        assert!(message.contains(names), "{message}");
    }
}

#[test]
fn what_the_broker_decides_cannot_be_set_beside_it() {
    let mut settings = consumer();
    settings.protocol = GroupProtocol::Consumer;
    let config = settings.validate().unwrap();
    assert_eq!(config.get("group.protocol"), Some("consumer"));
    assert_eq!(config.get("session.timeout.ms"), None);
    for (setting, change) in [
        (
            "assignor",
            (|s| s.assignor = Some(Assignor::Range)) as fn(&mut ConsumerSettings),
        ),
        ("session_timeout", |s| s.session_timeout = Some(SECOND)),
        ("heartbeat_interval", |s| s.heartbeat_interval = Some(SECOND)),
    ] {
        let mut contradicting = settings.clone();
        change(&mut contradicting);
        assert_eq!(
            contradicting.validate().unwrap_err(),
            ConfigError::ClassicOnly { setting }
        );
    }
}

#[test]
fn what_this_crate_sets_is_no_property_and_everything_else_is() {
    for (key, instead) in [
        ("acks", "acks"),
        ("linger.ms", "linger"),
        ("client.id", "client_id"),
    ] {
        let message = refused(|s| drop(s.common.properties.insert(key.to_owned(), "1".to_owned())));
        assert!(message.contains(key) && message.contains(instead), "{message}");
    }
    let message = consumer_refused(|s| {
        s.common
            .properties
            .insert("enable.auto.commit".to_owned(), "true".to_owned());
    });
    assert!(message.contains("commits"), "{message}");
    let mut settings = producer();
    settings
        .common
        .properties
        .insert("retry.backoff.ms".to_owned(), "20".to_owned());
    assert_eq!(
        settings.validate(None).unwrap().get("retry.backoff.ms"),
        Some("20")
    );
}

#[test]
fn librdkafka_accepts_what_is_valid_with_every_codec_and_names_what_it_does_not() {
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let built = crate::Producer::builder()
            .bootstrap("127.0.0.1:1")
            .compression(compression)
            .build();
        assert!(built.is_ok(), "{compression:?}: {:?}", built.err());
    }
    let consumer = crate::Consumer::builder()
        .bootstrap("127.0.0.1:1")
        .group("g")
        .topics(["t"])
        .build();
    assert!(consumer.is_ok(), "{:?}", consumer.err());
    let unknown = crate::Producer::builder()
        .bootstrap("127.0.0.1:1")
        .property("no.such.thing", "1")
        .build();
    let Err(ConfigError::Refused { reason }) = unknown.map(drop) else {
        panic!("an unknown property was accepted");
    };
    assert!(reason.contains("no.such.thing"), "{reason}");
}
