//! Precedence, refusals by name, defaults.

use std::path::PathBuf;

use super::*;

fn layer(toml: &str) -> Layer {
    toml::from_str(toml).unwrap()
}

fn refusal(toml: &str) -> String {
    Config::resolve(layer(toml)).unwrap_err().to_string()
}

#[test]
fn nothing_said_is_a_working_local_server() {
    let config = Config::resolve(Layer::default()).unwrap();
    assert_eq!(config.kafka_listen.to_string(), "127.0.0.1:9092");
    assert_eq!(config.http_listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.object_store, "file:streamhouse-data/objects");
    assert_eq!(config.metadata, "sqlite:streamhouse-data/metadata.db");
    assert_eq!(config.flush_interval, Duration::ZERO);
    assert_eq!(config.frame_bytes_max, 100 << 20);
    assert!(config.local_sync && config.auto_create_topics);
}

#[test]
fn a_remote_store_is_written_at_most_four_times_a_second_by_default() {
    let config = Config::resolve(layer("object_store = 's3://bucket/prefix'")).unwrap();
    assert_eq!(config.flush_interval, Duration::from_millis(250));
    let config = Config::resolve(layer("object_store = 's3://bucket'\nflush_interval = '1s'")).unwrap();
    assert_eq!(config.flush_interval, Duration::from_secs(1));
}

#[test]
fn impossible_combinations_are_refused_by_name() {
    for (toml, named) in [
        ("object_store = 'memory:'", "metadata=memory:"),
        ("inflight_bytes = '4MiB'", "inflight_bytes"),
        ("kafka_listen = '0.0.0.0:9092'", "kafka_advertise"),
        ("kafka_advertise = '0.0.0.0:9092'", "kafka_advertise"),
        ("kafka_advertise = 'host:0'", "kafka_advertise"),
        ("kafka_advertise = 'host'", "kafka_advertise"),
        ("http_listen = 'here'", "http_listen"),
        ("object_store = 'ftp://x'", "object_store"),
        ("object_store = 'file:'", "object_store"),
        ("metadata = 'postgres://x'", "metadata"),
        ("flush_bytes = '8KiB'\ninline_bytes = '16KiB'", "inline_bytes"),
        (
            "message_bytes_max = '100MiB'\ninflight_bytes = '1GiB'",
            "frame_bytes_max",
        ),
        ("s3_endpoint = 'http://localhost'", "s3_endpoint"),
        ("stop_timeout = 0", "stop_timeout"),
        ("idle_timeout = 0", "idle_timeout"),
        ("upload_slots = 0", "upload_slots"),
        ("default_partitions = 0", "default_partitions"),
        ("frame_bytes_max = '3GiB'", "frame_bytes_max"),
    ] {
        let said = refusal(toml);
        assert!(said.contains(named), "{toml}: {said}");
    }
}

#[test]
fn memory_for_both_stores_is_allowed() {
    Config::resolve(layer("object_store = 'memory:'\nmetadata = 'memory:'")).unwrap();
}

#[test]
fn unknown_keys_of_a_file_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("streamhouse.toml");
    std::fs::write(&path, "flush_bytez = 1\n").unwrap();
    let said = Config::load(Some(&path), &Layer::default())
        .unwrap_err()
        .to_string();
    assert!(said.contains("flush_bytez"), "{said}");
}

#[test]
fn a_wrong_value_names_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("streamhouse.toml");
    std::fs::write(&path, "flush_bytes = 'many'\n").unwrap();
    let said = Config::load(Some(&path), &Layer::default())
        .unwrap_err()
        .to_string();
    assert!(said.contains("flush_bytes") && said.contains("many"), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let path = PathBuf::from("/no/such/streamhouse.toml");
    let said = Config::load(Some(&path), &Layer::default())
        .unwrap_err()
        .to_string();
    assert!(said.contains("/no/such/streamhouse.toml"), "{said}");
}

#[test]
#[allow(clippy::result_large_err)] // figment's own closure type
fn flags_win_over_variables_over_the_file_over_defaults() {
    figment::Jail::expect_with(|jail| {
        jail.create_file(
            "s.toml",
            "topics_max = 1\npartitions_max = 1\nconnections_max = 1\nflush_bytes = '1MiB'",
        )?;
        jail.set_env("STREAMHOUSE_PARTITIONS_MAX", "2");
        jail.set_env("STREAMHOUSE_CONNECTIONS_MAX", "2");
        jail.set_env("STREAMHOUSE_INLINE_BYTES", "4KiB");
        jail.set_env("STREAMHOUSE_LOCAL_SYNC", "false");
        jail.set_env("STREAMHOUSE_CONFIG", "s.toml");
        let flags = Layer {
            connections_max: Some(3),
            ..Layer::default()
        };
        let config = Config::load(Some(&PathBuf::from("s.toml")), &flags).unwrap();
        assert_eq!(
            (config.topics_max, config.partitions_max, config.connections_max),
            (1, 2, 3)
        );
        assert_eq!((config.flush_bytes, config.inline_bytes), (1 << 20, 4 << 10));
        assert!(!config.local_sync);
        assert_eq!(config.inflight_bytes, 64 << 20);

        jail.set_env("STREAMHOUSE_FLUSH_BYTEZ", "1");
        let said = Config::load(None, &Layer::default()).unwrap_err().to_string();
        assert!(said.to_lowercase().contains("flush_bytez"), "{said}");
        Ok(())
    });
}

#[test]
fn every_key_is_a_flag() {
    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        layer: Layer,
    }
    let command = <Flags as clap::CommandFactory>::command();
    let flags: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    for key in layer::KEYS {
        assert!(flags.contains(&key.replace('_', "-").as_str()), "{key}");
    }
    let parsed = <Flags as clap::Parser>::parse_from(["x", "--flush-bytes", "2MiB", "--local-sync", "false"]);
    assert_eq!(parsed.layer.flush_bytes, Some(units::Size(2 << 20)));
    assert_eq!(parsed.layer.local_sync, Some(false));
}
