use super::{
    ConfigChange, ConfigOp, ENTRIES, Retention, TimestampType, TopicConfig, TopicConfigError, entry,
};

#[test]
fn configs_are_checked_by_name_and_value() {
    let mut config = TopicConfig::default();
    assert_eq!(
        (config.max_message_bytes(), config.timestamp_type()),
        (1_048_588, TimestampType::CreateTime)
    );
    for (name, value) in [
        ("max.message.bytes", "2000"),
        ("message.timestamp.type", "LogAppendTime"),
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("retention.ms", "-1"),
        ("min.cleanable.dirty.ratio", "0.5"),
        ("preallocate", "True"),
    ] {
        assert_eq!(config.set(name, value), Ok(()), "{name}={value}");
    }
    assert_eq!(
        (config.max_message_bytes(), config.timestamp_type()),
        (2_000, TimestampType::LogAppendTime)
    );
    let before = config.clone();
    for (name, value) in [
        ("max.message.bytes", "-1"),
        ("max.message.bytes", "2147483648"),
        ("retention.ms", "-2"),
        ("segment.ms", "0"),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("preallocate", "yes"),
        ("retention.bytes", "many"),
    ] {
        let refused = config.set(name, value);
        assert!(
            matches!(refused, Err(TopicConfigError::Invalid { .. })),
            "{name}={value}: {refused:?}"
        );
    }
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("cleanup.policy", "compact,delete"),
        ("compression.type", "gzip"),
    ] {
        let refused = config.set(name, value);
        assert!(
            matches!(refused, Err(TopicConfigError::Unsupported { .. })),
            "{name}={value}: {refused:?}"
        );
    }
    assert_eq!(
        config.set("no.such", "1"),
        Err(TopicConfigError::Unknown("no.such".to_owned()))
    );
    assert_eq!(config, before, "what is refused changes nothing");
}

#[test]
fn the_table_is_sorted_and_its_defaults_are_valid() {
    assert!(ENTRIES.windows(2).all(|pair| pair[0].name < pair[1].name));
    for known in ENTRIES {
        assert_eq!(known.check(known.default), Ok(()), "{}", known.name);
        assert_eq!(entry(known.name).map(|found| found.name), Some(known.name));
    }
}

#[test]
fn retention_is_a_week_unless_said_otherwise_and_minus_one_is_no_limit() {
    let mut config = TopicConfig::default();
    let week = Retention {
        age_ms_max: Some(604_800_000),
        bytes_max: None,
    };
    assert_eq!(config.retention(), week);
    config.set("retention.ms", "-1").unwrap();
    config.set("retention.bytes", "1000").unwrap();
    let bytes = Retention {
        age_ms_max: None,
        bytes_max: Some(1_000),
    };
    assert_eq!(config.retention(), bytes);
    assert_eq!(config.timestamp_before_after_max_ms(), (i64::MAX, 3_600_000));
}

fn op(name: &str, op: ConfigOp) -> (String, ConfigOp) {
    (name.to_owned(), op)
}

fn set(name: &str, value: &str) -> (String, ConfigOp) {
    op(name, ConfigOp::Set(value.to_owned()))
}

#[test]
fn a_change_is_applied_whole_or_not_at_all() {
    let mut config = TopicConfig::default();
    config.set("retention.ms", "1").unwrap();
    let change = |replace, ops: &[(String, ConfigOp)]| ConfigChange {
        replace,
        ops: ops.to_vec(),
    };
    let both = config
        .changed(&change(false, &[set("retention.bytes", "5")]))
        .unwrap();
    assert_eq!(both.entries.len(), 2);
    let replaced = config
        .changed(&change(true, &[set("retention.bytes", "5")]))
        .unwrap();
    assert_eq!(replaced.entries.keys().collect::<Vec<_>>(), ["retention.bytes"]);
    let back = both.changed(&change(false, &[op("retention.ms", ConfigOp::Delete)]));
    assert_eq!(back, Ok(replaced));
    let refused = config.changed(&change(
        false,
        &[set("retention.bytes", "5"), set("no.such", "1")],
    ));
    assert_eq!(refused, Err(TopicConfigError::Unknown("no.such".to_owned())));
}

#[test]
fn only_lists_are_appended_to_and_the_result_is_checked() {
    let config = TopicConfig::default();
    let one = |name, op_: ConfigOp| {
        config.changed(&ConfigChange {
            replace: false,
            ops: vec![op(name, op_)],
        })
    };
    let same = one("cleanup.policy", ConfigOp::Append("delete".to_owned())).unwrap();
    assert_eq!(same.entries["cleanup.policy"], "delete");
    for refused in [
        ConfigOp::Append("compact".to_owned()),
        ConfigOp::Subtract("delete".to_owned()),
    ] {
        let refused = one("cleanup.policy", refused);
        assert!(
            matches!(refused, Err(TopicConfigError::Unsupported { .. })),
            "{refused:?}"
        );
    }
    let refused = one("retention.ms", ConfigOp::Append("5".to_owned()));
    assert_eq!(refused, Err(TopicConfigError::NoList("retention.ms".to_owned())));
}
