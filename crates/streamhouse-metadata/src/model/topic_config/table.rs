//! The table of topic configuration entries: type, default and values, as Kafka 4.3 documents them.
//!
//! Sorted by name. An entry that is missing here does not exist: compression levels, because nothing is
//! compressed anew; tiered storage and replication throttles, because there are neither tiers nor replicas.

use super::TopicConfigError;

/// How a value is written. The names are those of Kafka's `ConfigDef`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Text,
    Int,
    Long,
    Double,
    List,
}

/// Whether anything depends on the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Honoured,
    /// Kept and reported; what it tunes does not exist here.
    Kept,
}

#[derive(Clone, Copy, Debug)]
enum Check {
    /// A whole number from here on, within the range of its kind.
    From(i64),
    /// 0.0 ..= 1.0.
    Ratio,
    Boolean,
    /// Only these are supported; why others are not.
    OneOf(&'static [&'static str], &'static str),
}

/// One entry that a topic's configuration may have.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub used: Use,
    /// One sentence for people.
    pub doc: &'static str,
    check: Check,
}

const LONG_MAX: &str = "9223372036854775807";

const fn at(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    used: Use,
    check: Check,
    doc: &'static str,
) -> Entry {
    Entry {
        name,
        kind,
        default,
        used,
        doc,
        check,
    }
}

/// Every entry, ascending by name.
pub const ENTRIES: &[Entry] = &[
    at(
        "cleanup.policy",
        Kind::List,
        "delete",
        Use::Honoured,
        Check::OneOf(&["delete"], "topics are not compacted yet"),
        "What happens to old records: they are deleted.",
    ),
    at(
        "compression.type",
        Kind::Text,
        "producer",
        Use::Honoured,
        Check::OneOf(
            &["producer"],
            "batches are stored as the producer compressed them",
        ),
        "Batches are stored as the producer compressed them.",
    ),
    at(
        "delete.retention.ms",
        Kind::Long,
        "86400000",
        Use::Kept,
        Check::From(0),
        "Kept for compacted topics.",
    ),
    at(
        "file.delete.delay.ms",
        Kind::Long,
        "60000",
        Use::Kept,
        Check::From(0),
        "Tunes files that do not exist here.",
    ),
    at(
        "flush.messages",
        Kind::Long,
        LONG_MAX,
        Use::Kept,
        Check::From(1),
        "What is acknowledged is stored, whatever this says.",
    ),
    at(
        "flush.ms",
        Kind::Long,
        LONG_MAX,
        Use::Kept,
        Check::From(0),
        "What is acknowledged is stored, whatever this says.",
    ),
    at(
        "index.interval.bytes",
        Kind::Int,
        "4096",
        Use::Kept,
        Check::From(0),
        "Tunes files that do not exist here.",
    ),
    at(
        "max.compaction.lag.ms",
        Kind::Long,
        LONG_MAX,
        Use::Kept,
        Check::From(1),
        "Kept for compacted topics.",
    ),
    at(
        "max.message.bytes",
        Kind::Int,
        "1048588",
        Use::Honoured,
        Check::From(0),
        "The largest record batch that is accepted, bytes.",
    ),
    at(
        "message.timestamp.after.max.ms",
        Kind::Long,
        "3600000",
        Use::Honoured,
        Check::From(0),
        "How far a record's timestamp may lie ahead of the server's clock.",
    ),
    at(
        "message.timestamp.before.max.ms",
        Kind::Long,
        LONG_MAX,
        Use::Honoured,
        Check::From(0),
        "How far a batch's first timestamp may lie behind the server's clock.",
    ),
    at(
        "message.timestamp.type",
        Kind::Text,
        "CreateTime",
        Use::Honoured,
        Check::OneOf(
            &["CreateTime", "LogAppendTime"],
            "there are CreateTime and LogAppendTime",
        ),
        "Whose clock gives records their timestamp.",
    ),
    at(
        "min.cleanable.dirty.ratio",
        Kind::Double,
        "0.5",
        Use::Kept,
        Check::Ratio,
        "Kept for compacted topics.",
    ),
    at(
        "min.compaction.lag.ms",
        Kind::Long,
        "0",
        Use::Kept,
        Check::From(0),
        "Kept for compacted topics.",
    ),
    at(
        "min.insync.replicas",
        Kind::Int,
        "1",
        Use::Kept,
        Check::From(1),
        "The object store replicates; what is acknowledged is stored.",
    ),
    at(
        "preallocate",
        Kind::Boolean,
        "false",
        Use::Kept,
        Check::Boolean,
        "Tunes files that do not exist here.",
    ),
    at(
        "retention.bytes",
        Kind::Long,
        "-1",
        Use::Honoured,
        Check::From(-1),
        "A partition's oldest segments are deleted while the others hold this many bytes; -1: never.",
    ),
    at(
        "retention.ms",
        Kind::Long,
        "604800000",
        Use::Honoured,
        Check::From(-1),
        "Segments whose records are all older are deleted; -1: never.",
    ),
    at(
        "segment.bytes",
        Kind::Int,
        "1073741824",
        Use::Kept,
        Check::From(14),
        "Segments end with the object that holds them.",
    ),
    at(
        "segment.index.bytes",
        Kind::Int,
        "10485760",
        Use::Kept,
        Check::From(4),
        "Tunes files that do not exist here.",
    ),
    at(
        "segment.jitter.ms",
        Kind::Long,
        "0",
        Use::Kept,
        Check::From(0),
        "Segments end with the object that holds them.",
    ),
    at(
        "segment.ms",
        Kind::Long,
        "604800000",
        Use::Kept,
        Check::From(1),
        "Segments end with the object that holds them.",
    ),
    at(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        Use::Kept,
        Check::Boolean,
        "There are no leaders to be elected.",
    ),
];

/// The entry of this name.
#[must_use]
pub fn entry(name: &str) -> Option<&'static Entry> {
    let found = ENTRIES.binary_search_by(|entry| entry.name.cmp(name));
    found.ok().map(|at| &ENTRIES[at])
}

impl Entry {
    /// Checks a value whose outer blanks were removed.
    pub(super) fn check(&self, value: &str) -> Result<(), TopicConfigError> {
        let invalid = |expected| {
            Err(TopicConfigError::Invalid {
                name: self.name.to_owned(),
                value: value.to_owned(),
                expected,
            })
        };
        match self.check {
            Check::From(least) => {
                let most = if self.kind == Kind::Int {
                    i64::from(i32::MAX)
                } else {
                    i64::MAX
                };
                if !value.parse().is_ok_and(|n: i64| (least..=most).contains(&n)) {
                    return invalid(match least {
                        -1 => "a whole number from -1 on",
                        0 => "a whole number from 0 on, within range,",
                        1 => "a whole number from 1 on, within range,",
                        4 => "a whole number from 4 on, within range,",
                        _ => "a whole number from 14 on, within range,",
                    });
                }
            }
            Check::Ratio => {
                if !value.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio)) {
                    return invalid("a number from 0 to 1");
                }
            }
            Check::Boolean => {
                if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") {
                    return invalid("true or false");
                }
            }
            Check::OneOf(values, why) => {
                if !values.contains(&value) {
                    return Err(TopicConfigError::Unsupported {
                        name: self.name.to_owned(),
                        value: value.to_owned(),
                        why,
                    });
                }
            }
        }
        Ok(())
    }
}
