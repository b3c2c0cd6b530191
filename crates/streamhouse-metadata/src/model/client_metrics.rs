//! Which metrics clients are asked to push (KIP-714): named subscriptions, their entries, and whom they match.
//!
//! A subscription holds what was set for it under Kafka's three names; one without any entry does not exist.
//! Entries are checked here before they are stored, so that what is stored can be read. Not here: what a
//! client is told, and what happens with what it pushes; the server knows.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::topic_config::{ConfigChange, ConfigOp, Kind};

/// All subscriptions: what was set, by the subscription's name and the entry's.
pub type ClientMetrics = BTreeMap<String, BTreeMap<String, String>>;

/// One entry that a subscription may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub doc: &'static str,
}

pub const METRICS: &str = "metrics";
pub const INTERVAL_MS: &str = "interval.ms";
pub const MATCH: &str = "match";

/// Sorted by name.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: INTERVAL_MS,
        kind: Kind::Int,
        default: "300000",
        doc: "How often clients push, milliseconds.",
    },
    Entry {
        name: MATCH,
        kind: Kind::List,
        default: "",
        doc: "Whom the subscription is for: name=pattern, each of which has to match; all clients without any.",
    },
    Entry {
        name: METRICS,
        kind: Kind::List,
        default: "",
        doc: "Prefixes of the names of metrics that clients push; * for all.",
    },
];

/// Kafka's bounds of `interval.ms`.
const INTERVAL_MS_MIN: i32 = 100;
const INTERVAL_MS_MAX: i32 = 3_600_000;
/// An entry's value, bytes.
const VALUE_BYTES_MAX: usize = 4_096;
/// What a compiled pattern may take, bytes.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// Why a subscription stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientMetricsError {
    #[error("a subscription needs a name of at most {max} bytes")]
    Name { max: usize },
    #[error("unknown client metrics config {0}")]
    Unknown(String),
    #[error("interval.ms={0}: a number from 100 to 3600000 expected")]
    Interval(String),
    #[error("match={0}: name=pattern expected, where the name is one of {names}", names = MatchKey::names())]
    Match(String),
    #[error("{0} is longer than 4096 bytes")]
    TooLong(&'static str),
    #[error("nothing can be appended to or subtracted from {0}: it is set or deleted as a whole")]
    Whole(&'static str),
}

/// What of a client a pattern is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchKey {
    InstanceId,
    ClientId,
    SoftwareName,
    SoftwareVersion,
    SourceAddress,
    SourcePort,
}

impl MatchKey {
    const ALL: [(Self, &'static str); 6] = [
        (Self::InstanceId, "client_instance_id"),
        (Self::ClientId, "client_id"),
        (Self::SoftwareName, "client_software_name"),
        (Self::SoftwareVersion, "client_software_version"),
        (Self::SourceAddress, "client_source_address"),
        (Self::SourcePort, "client_source_port"),
    ];

    fn names() -> String {
        Self::ALL.map(|(_, name)| name).join(", ")
    }
}

/// A subscription as it is applied.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub metrics: Vec<String>,
    pub interval: Duration,
    /// Every pattern has to match the whole value.
    matches: Vec<(MatchKey, Regex)>,
}

impl Subscription {
    /// # Errors
    /// An entry that cannot be read.
    pub fn parse(entries: &BTreeMap<String, String>) -> Result<Self, ClientMetricsError> {
        let value = |entry: &Entry| entries.get(entry.name).map_or(entry.default, String::as_str);
        let mut subscription = Self {
            metrics: Vec::new(),
            interval: Duration::ZERO,
            matches: Vec::new(),
        };
        if let Some(name) = entries.keys().find(|name| entry(name).is_none()) {
            return Err(ClientMetricsError::Unknown(name.clone()));
        }
        for entry in ENTRIES {
            let value = value(entry);
            if value.len() > VALUE_BYTES_MAX {
                return Err(ClientMetricsError::TooLong(entry.name));
            }
            match entry.name {
                METRICS => subscription.metrics = split(value).map(ToOwned::to_owned).collect(),
                MATCH => subscription.matches = split(value).map(pattern).collect::<Result<_, _>>()?,
                _ => subscription.interval = interval(value)?,
            }
        }
        Ok(subscription)
    }

    /// Whether the subscription is for the client of which `value` tells.
    pub fn is_for(&self, value: impl Fn(MatchKey) -> String) -> bool {
        self.matches
            .iter()
            .all(|(key, pattern)| pattern.is_match(&value(*key)))
    }
}

fn entry(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn interval(value: &str) -> Result<Duration, ClientMetricsError> {
    let ms = value.parse::<i32>().ok();
    ms.filter(|ms| (INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(ms))
        .map(|ms| Duration::from_millis(u64::from(ms.unsigned_abs())))
        .ok_or_else(|| ClientMetricsError::Interval(value.to_owned()))
}

fn pattern(part: &str) -> Result<(MatchKey, Regex), ClientMetricsError> {
    let wrong = || ClientMetricsError::Match(part.to_owned());
    let (name, pattern) = part.split_once('=').ok_or_else(wrong)?;
    let known = MatchKey::ALL.into_iter().find(|(_, known)| *known == name.trim());
    let (key, _) = known.ok_or_else(wrong)?;
    // As Kafka reads it: exactly two parts.
    if pattern.is_empty() || pattern.contains('=') {
        return Err(wrong());
    }
    // Alone first: parentheses that only balance inside ours are no pattern.
    let compile = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    compile(pattern.trim()).map_err(|_| wrong())?;
    let whole = compile(&format!("^(?:{})$", pattern.trim())).map_err(|_| wrong())?;
    Ok((key, whole))
}

/// The entries after `change`; none of them means that the subscription goes.
///
/// # Errors
/// The first operation that is refused; nothing is changed then.
pub fn changed(
    entries: &BTreeMap<String, String>,
    change: &ConfigChange,
) -> Result<BTreeMap<String, String>, ClientMetricsError> {
    let mut after = if change.replace {
        BTreeMap::new()
    } else {
        entries.clone()
    };
    for (name, op) in &change.ops {
        let entry = entry(name).ok_or_else(|| ClientMetricsError::Unknown(name.clone()))?;
        match op {
            ConfigOp::Set(value) => {
                after.insert(name.clone(), value.trim().to_owned());
            }
            ConfigOp::Delete => {
                after.remove(name);
            }
            // As in Kafka, though two of the entries are lists.
            ConfigOp::Append(_) | ConfigOp::Subtract(_) => {
                return Err(ClientMetricsError::Whole(entry.name));
            }
        }
    }
    Subscription::parse(&after)?;
    Ok(after)
}

/// The longest name of a subscription, bytes.
const NAME_BYTES_MAX: usize = 249;

/// # Errors
/// No name, or one that is too long.
pub fn check_name(name: &str) -> Result<(), ClientMetricsError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(ClientMetricsError::Name { max: NAME_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(ops: &[(&str, ConfigOp)]) -> ConfigChange {
        ConfigChange {
            replace: false,
            ops: ops
                .iter()
                .map(|(name, op)| ((*name).to_owned(), op.clone()))
                .collect(),
        }
    }

    fn set(name: &str, value: &str) -> Result<BTreeMap<String, String>, ClientMetricsError> {
        changed(
            &BTreeMap::new(),
            &change(&[(name, ConfigOp::Set(value.to_owned()))]),
        )
    }

    #[test]
    fn the_last_entry_takes_the_subscription_with_it() {
        let entries = set(METRICS, "org.apache.kafka.producer., b").unwrap();
        let subscription = Subscription::parse(&entries).unwrap();
        assert_eq!(subscription.metrics, ["org.apache.kafka.producer.", "b"]);
        assert_eq!(subscription.interval, Duration::from_secs(300));
        assert!(
            changed(&entries, &change(&[(METRICS, ConfigOp::Delete)]))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_kafka_refuses_is_refused() {
        for interval in ["99", "3600001", "-1", "", "soon"] {
            assert!(
                matches!(set(INTERVAL_MS, interval), Err(ClientMetricsError::Interval(_))),
                "{interval}"
            );
        }
        assert!(set(INTERVAL_MS, "100").is_ok() && set(INTERVAL_MS, "3600000").is_ok());
        for pattern in [
            "client_id",
            "client_id=",
            "who=x",
            "client_id=a=b",
            "client_id=(",
            "client_id=a)(b",
            "=x",
        ] {
            assert!(
                matches!(set(MATCH, pattern), Err(ClientMetricsError::Match(_))),
                "{pattern}"
            );
        }
        // A pattern whose automaton would be huge.
        assert!(set(MATCH, "client_id=(((a{100}){100}){100})").is_err());
        assert_eq!(
            set("no.such", "1"),
            Err(ClientMetricsError::Unknown("no.such".to_owned()))
        );
        for op in [
            ConfigOp::Append("b".to_owned()),
            ConfigOp::Subtract("b".to_owned()),
        ] {
            let refused = changed(&BTreeMap::new(), &change(&[(METRICS, op)]));
            assert_eq!(refused, Err(ClientMetricsError::Whole(METRICS)));
        }
        assert_eq!(
            set(METRICS, &"x".repeat(VALUE_BYTES_MAX + 1)),
            Err(ClientMetricsError::TooLong(METRICS))
        );
        assert!(
            check_name("").is_err() && check_name(&"x".repeat(250)).is_err() && check_name("a b").is_ok()
        );
    }

    #[test]
    fn every_pattern_has_to_match_the_whole_value() {
        let entries = set(MATCH, "client_id=app-.*, client_software_name=librdkafka").unwrap();
        let subscription = Subscription::parse(&entries).unwrap();
        let client = |id: &'static str, software: &'static str| {
            move |key| match key {
                MatchKey::ClientId => id.to_owned(),
                MatchKey::SoftwareName => software.to_owned(),
                _ => String::new(),
            }
        };
        assert!(subscription.is_for(client("app-1", "librdkafka")));
        assert!(!subscription.is_for(client("my-app-1", "librdkafka")));
        assert!(!subscription.is_for(client("app-1", "apache-kafka-java")));
        assert!(
            Subscription::parse(&BTreeMap::new())
                .unwrap()
                .is_for(client("", ""))
        );
    }
}
