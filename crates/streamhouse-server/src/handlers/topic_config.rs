//! What a topic can be configured with, under Kafka's names (4.3, `TopicConfig`).
//!
//! A name Kafka does not have is refused; so is a value of the wrong shape, and one that asks for
//! something this server does not do, as log compaction. Names that only concern how Kafka lays out
//! files are checked and kept, but change nothing here: there are no files of one partition.

use std::collections::BTreeMap;

use streamhouse_metadata::model::topic::{TimestampType, TopicConfig, TopicConfigError};

enum Shape {
    /// A number with its smallest value.
    Number(i64),
    /// A fraction between 0 and 1.
    Fraction,
    Boolean,
    /// One of these.
    Word(&'static [&'static str]),
    /// One of the first; those of the second exist in Kafka but not here, and why.
    Limited(&'static [&'static str], &'static [&'static str], &'static str),
    /// A list whose elements Kafka checks against its replicas; we have none to throttle.
    Text,
}

use Shape::{Boolean, Fraction, Limited, Number, Text, Word};

const CODECS: &[&str] = &["producer"];
const NO_RECODING: &str = "batches are stored as the producer compressed them";

const TABLE: &[(&str, Shape)] = &[
    (
        "cleanup.policy",
        Limited(
            &["delete"],
            &["compact", "compact,delete", "delete,compact"],
            "log compaction is not available",
        ),
    ),
    ("compression.gzip.level", Number(-1)),
    ("compression.lz4.level", Number(1)),
    (
        "compression.type",
        Limited(
            CODECS,
            &["uncompressed", "zstd", "lz4", "snappy", "gzip"],
            NO_RECODING,
        ),
    ),
    ("compression.zstd.level", Number(-131_072)),
    ("delete.retention.ms", Number(0)),
    ("file.delete.delay.ms", Number(0)),
    ("flush.messages", Number(1)),
    ("flush.ms", Number(0)),
    ("follower.replication.throttled.replicas", Text),
    ("index.interval.bytes", Number(0)),
    ("leader.replication.throttled.replicas", Text),
    ("local.retention.bytes", Number(-2)),
    ("local.retention.ms", Number(-2)),
    ("max.compaction.lag.ms", Number(1)),
    ("max.message.bytes", Number(0)),
    ("message.timestamp.after.max.ms", Number(0)),
    ("message.timestamp.before.max.ms", Number(0)),
    ("message.timestamp.type", Word(&["CreateTime", "LogAppendTime"])),
    ("min.cleanable.dirty.ratio", Fraction),
    ("min.compaction.lag.ms", Number(0)),
    ("min.insync.replicas", Number(1)),
    ("preallocate", Boolean),
    (
        "remote.storage.enable",
        Limited(&["false"], &["true"], "all data is in the object store already"),
    ),
    ("retention.bytes", Number(-1)),
    ("retention.ms", Number(-1)),
    ("segment.bytes", Number(14)),
    ("segment.index.bytes", Number(4)),
    ("segment.jitter.ms", Number(0)),
    ("segment.ms", Number(1)),
    ("unclean.leader.election.enable", Boolean),
];

/// Checks what a client asked for. A null value means the default, as in Kafka's own requests.
pub fn check<'a>(
    entries: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<TopicConfig, TopicConfigError> {
    let mut checked = BTreeMap::new();
    for (name, value) in entries {
        let Some((_, shape)) = TABLE.iter().find(|(known, _)| *known == name) else {
            return Err(TopicConfigError::Unknown(name.to_owned()));
        };
        if let Some(value) = value {
            check_value(name, value.trim(), shape)?;
            checked.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    Ok(TopicConfig { entries: checked })
}

fn check_value(name: &str, value: &str, shape: &Shape) -> Result<(), TopicConfigError> {
    let expected = match shape {
        Text => return Ok(()),
        Number(min) => match value.parse::<i64>() {
            Ok(number) if number >= *min => return Ok(()),
            _ => "a number in range",
        },
        Fraction => match value.parse::<f64>() {
            Ok(number) if (0.0..=1.0).contains(&number) => return Ok(()),
            _ => "a number between 0 and 1",
        },
        Boolean if matches!(value, "true" | "false") => return Ok(()),
        Boolean => "true or false",
        Word(words) if words.contains(&value) => return Ok(()),
        Word(_) => "one of Kafka's words",
        Limited(words, _, _) if words.contains(&value) => return Ok(()),
        Limited(_, elsewhere, why) if elsewhere.contains(&value) => {
            return Err(TopicConfigError::Unsupported {
                name: name.to_owned(),
                value: value.to_owned(),
                why,
            });
        }
        Limited(..) => "one of Kafka's words",
    };
    Err(TopicConfigError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        expected,
    })
}

/// Which clock the records' timestamps come from.
pub fn timestamp_type(config: &TopicConfig) -> TimestampType {
    match config.entries.get("message.timestamp.type").map(String::as_str) {
        Some("LogAppendTime") => TimestampType::LogAppendTime,
        _ => TimestampType::CreateTime,
    }
}

/// The topic's limit for one batch: its own where it has one, as in Kafka, but never above what the
/// writer can hold.
pub fn message_bytes_max(config: &TopicConfig, default: u32, ceiling: u32) -> u32 {
    config
        .entries
        .get("max.message.bytes")
        .and_then(|value| value.parse::<u64>().ok())
        .map_or(default, |own| u32::try_from(own).unwrap_or(u32::MAX))
        .min(ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, value: &str) -> Result<TopicConfig, TopicConfigError> {
        check([(name, Some(value))].into_iter())
    }

    #[test]
    fn what_kafka_has_is_taken_and_what_it_has_not_is_refused_by_name() {
        assert!(checked("retention.ms", "-1").is_ok());
        assert!(checked("cleanup.policy", "delete").is_ok());
        assert_eq!(
            checked("retention", "1").unwrap_err(),
            TopicConfigError::Unknown("retention".to_owned())
        );
        assert!(matches!(
            checked("retention.ms", "-2"),
            Err(TopicConfigError::Invalid { .. })
        ));
        assert!(matches!(
            checked("preallocate", "yes"),
            Err(TopicConfigError::Invalid { .. })
        ));
    }

    #[test]
    fn what_is_not_done_here_is_refused_and_not_ignored() {
        for (name, value) in [
            ("cleanup.policy", "compact"),
            ("compression.type", "zstd"),
            ("remote.storage.enable", "true"),
        ] {
            assert!(
                matches!(checked(name, value), Err(TopicConfigError::Unsupported { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn a_topics_message_limit_replaces_the_default_below_the_ceiling() {
        for (own, expected) in [("500", 500), ("5000", 5000), ("50000", 8000)] {
            let config = checked("max.message.bytes", own).unwrap();
            assert_eq!(message_bytes_max(&config, 1000, 8000), expected);
        }
        assert_eq!(message_bytes_max(&TopicConfig::default(), 1000, 8000), 1000);
    }
}
