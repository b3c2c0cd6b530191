//! Gauges about consumer groups, from the same snapshot as the other cluster gauges.
//!
//! Lag is the high watermark less the committed offset, both of one moment: right also while every
//! consumer is dead. A partition without a committed offset has no series. When there are more label sets
//! than the limit, the topics that save the most by it are shown as their maximum in `partition="~max"`, one
//! a group: a maximum is what an alert asks for, and a sum of lags is nobody's lag. What is beyond the limit
//! even so (many groups, many topics of one partition) shares one maximum in `~other`.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Cluster, bounded, sample};
use crate::registry::{Registry, Sample};

/// The states a group can be shown in, as Kafka names them.
pub const GROUP_STATES: [&str; 6] = [
    "Empty",
    "PreparingRebalance",
    "CompletingRebalance",
    "Assigning",
    "Reconciling",
    "Stable",
];

/// One consumer group at the moment of the snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupView {
    pub group: String,
    /// One of [`GROUP_STATES`].
    pub state: &'static str,
    pub members: u32,
    /// Seconds since 1970; `None` while nothing was committed.
    pub last_commit_seconds: Option<f64>,
    pub lags: Vec<GroupLag>,
}

/// A partition in which a group has committed an offset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupLag {
    pub topic: String,
    pub partition: i32,
    /// Records between the committed offset and the high watermark.
    pub records: u64,
    /// Age of the oldest record not yet consumed, by the store's clock; 0 without lag.
    pub seconds: f64,
    /// Records below the log's start that the group never consumed.
    pub expired: u64,
}

pub(super) fn register(cluster: &Cluster, registry: &Registry) {
    let lag_keys = &["topic", "partition", "consumer_group"];
    let series_max = registry.series_max();
    cluster.folding_gauge(
        registry,
        "streamhouse_consumer_lag",
        "Records between a group's committed offset and the high watermark; markers of transactions count, as in Kafka's tools.",
        lag_keys,
        move |view| lags(&view.groups, series_max, |lag| lag.records as f64),
    );
    cluster.folding_gauge(
        registry,
        "streamhouse_consumer_lag_seconds",
        "Age of the oldest record that a group has not consumed; 0 where there is none, markers of transactions being none.",
        lag_keys,
        move |view| lags(&view.groups, series_max, |lag| lag.seconds),
    );
    cluster.folding_gauge(
        registry,
        "streamhouse_consumer_expired_records",
        "Records that were deleted before a group consumed them, since its last commit.",
        &["topic", "consumer_group"],
        move |view| bounded(expired(&view.groups), series_max, 1, |a, b| a + b),
    );
    cluster.folding_gauge(
        registry,
        "streamhouse_consumer_group_members",
        "Members of a group.",
        &["consumer_group"],
        move |view| {
            let groups = view.groups.iter();
            let members = groups.map(|group| sample(&[&group.group], f64::from(group.members)));
            bounded(members.collect(), series_max, 1, |a, b| a + b)
        },
    );
    cluster.folding_gauge(
        registry,
        "streamhouse_consumer_group_state",
        "1 for the state a group is in, else 0.",
        &["consumer_group", "state"],
        move |view| {
            let states = view.groups.iter().flat_map(|group| {
                GROUP_STATES
                    .iter()
                    .map(|state| sample(&[&group.group, state], f64::from(u8::from(group.state == *state))))
            });
            bounded(states.collect(), series_max, GROUP_STATES.len(), |a, b| a + b)
        },
    );
    cluster.folding_gauge(
        registry,
        "streamhouse_consumer_last_commit_timestamp_seconds",
        "When a group last committed an offset.",
        &["consumer_group"],
        move |view| {
            let groups = view.groups.iter();
            let commits = groups.filter_map(|g| Some(sample(&[&g.group], g.last_commit_seconds?)));
            bounded(commits.collect(), series_max, 1, f64::max)
        },
    );
}

/// At most `series_max` samples, and how many lags have none of their own.
fn lags(groups: &[GroupView], series_max: usize, value: impl Fn(&GroupLag) -> f64) -> (Vec<Sample>, usize) {
    let folded = topics_to_fold(groups, series_max);
    let mut own = Vec::new();
    let mut maxima: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    let mut folded_sets = 0;
    for group in groups {
        for lag in &group.lags {
            if folded.contains(lag.topic.as_str()) {
                folded_sets += 1;
                let maximum = maxima.entry((&lag.topic, &group.group)).or_default();
                *maximum = maximum.max(value(lag));
            } else {
                let partition = lag.partition.to_string();
                own.push(sample(&[&lag.topic, &partition, &group.group], value(lag)));
            }
        }
    }
    let maxima = maxima.into_iter();
    let maxima = maxima.map(|((topic, group), maximum)| sample(&[topic, "~max", group], maximum));
    let own_count = own.len();
    // Maxima first, so that they are the last to go: each stands for many.
    let (samples, beyond) = bounded(maxima.chain(own).collect(), series_max, 1, f64::max);
    (samples, folded_sets + beyond.min(own_count))
}

/// The topics that save the most series, until the rest fits or no topic saves any more.
fn topics_to_fold(groups: &[GroupView], series_max: usize) -> BTreeSet<&str> {
    let mut left: usize = groups.iter().map(|group| group.lags.len()).sum();
    if left <= series_max {
        return BTreeSet::new();
    }
    // Every partition but one, of every group.
    let mut savings: BTreeMap<&str, usize> = BTreeMap::new();
    for group in groups {
        let mut seen = BTreeSet::new();
        for lag in &group.lags {
            if !seen.insert(lag.topic.as_str()) {
                *savings.entry(&lag.topic).or_default() += 1;
            }
        }
    }
    let mut largest: Vec<(usize, &str)> = savings
        .into_iter()
        .map(|(topic, saving)| (saving, topic))
        .collect();
    largest.sort_unstable();
    let mut folded = BTreeSet::new();
    while left > series_max
        && let Some((saving, topic)) = largest.pop()
    {
        left -= saving;
        folded.insert(topic);
    }
    folded
}

fn expired(groups: &[GroupView]) -> Vec<Sample> {
    let mut totals: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for group in groups {
        for lag in &group.lags {
            *totals.entry((&lag.topic, &group.group)).or_default() += lag.expired;
        }
    }
    let totals = totals.into_iter();
    totals
        .map(|((topic, group), records)| sample(&[topic, group], records as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::{ClusterView, Metrics, MetricsOptions};

    fn group(name: &str, lags: &[(&str, i32, u64)]) -> GroupView {
        let lags = lags.iter().map(|(topic, partition, records)| GroupLag {
            topic: (*topic).to_owned(),
            partition: *partition,
            records: *records,
            seconds: *records as f64 / 10.0,
            expired: 1,
        });
        GroupView {
            group: name.to_owned(),
            state: "Stable",
            members: 2,
            last_commit_seconds: Some(1.5),
            lags: lags.collect(),
        }
    }

    fn rendered(groups: Vec<GroupView>, series_max: usize) -> String {
        let metrics = Metrics::new(MetricsOptions {
            series_max,
            ..MetricsOptions::default()
        });
        metrics.set_cluster_view(Some(ClusterView {
            groups,
            ..ClusterView::default()
        }));
        metrics.render()
    }

    #[test]
    fn topics_and_partitions_whose_names_run_together_stay_apart() {
        let text = rendered(vec![group("g", &[("orders", 11, 5), ("orders1", 1, 7)])], 100);
        for line in [
            "streamhouse_consumer_lag{topic=\"orders\",partition=\"11\",consumer_group=\"g\"} 5",
            "streamhouse_consumer_lag{topic=\"orders1\",partition=\"1\",consumer_group=\"g\"} 7",
            "streamhouse_consumer_lag_seconds{topic=\"orders1\",partition=\"1\",consumer_group=\"g\"} 0.7",
            "streamhouse_consumer_expired_records{topic=\"orders\",consumer_group=\"g\"} 1",
            "streamhouse_consumer_group_members{consumer_group=\"g\"} 2",
            "streamhouse_consumer_group_state{consumer_group=\"g\",state=\"Stable\"} 1",
            "streamhouse_consumer_group_state{consumer_group=\"g\",state=\"Empty\"} 0",
            "streamhouse_consumer_last_commit_timestamp_seconds{consumer_group=\"g\"} 1.5",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in\n{text}"
            );
        }
    }

    #[test]
    fn beyond_the_limit_the_largest_topic_is_shown_as_its_maximum_and_says_so() {
        let many: Vec<_> = (0..8)
            .map(|partition| ("wide", partition, partition as u64))
            .collect();
        let text = rendered(vec![group("g", &[&many[..], &[("narrow", 0, 3)]].concat())], 4);
        for line in [
            "streamhouse_consumer_lag{topic=\"wide\",partition=\"~max\",consumer_group=\"g\"} 7",
            "streamhouse_consumer_lag{topic=\"narrow\",partition=\"0\",consumer_group=\"g\"} 3",
            "streamhouse_metrics_folded_series{metric=\"streamhouse_consumer_lag\"} 8",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in\n{text}"
            );
        }
        assert!(!text.contains("topic=\"wide\",partition=\"3\""));
    }

    fn series_count(text: &str, metric: &str) -> usize {
        text.matches(&format!("\n{metric}{{")).count()
    }

    fn folded_sets(text: &str, metric: &str) -> usize {
        let prefix = format!("streamhouse_metrics_folded_series{{metric=\"{metric}\"}} ");
        let shown = text.lines().find_map(|line| line.strip_prefix(prefix.as_str()));
        shown
            .unwrap_or_else(|| panic!("{metric} says nothing of what it folds"))
            .parse()
            .unwrap()
    }

    #[test]
    fn a_topic_is_folded_for_what_that_saves_and_not_for_its_size() {
        // Six lags of one partition in as many groups, and four partitions of one group.
        let mut groups: Vec<GroupView> = (0..6)
            .map(|n| group(&format!("g{n}"), &[("flat", 0, n)]))
            .collect();
        groups.push(group(
            "w",
            &[("wide", 0, 1), ("wide", 1, 9), ("wide", 2, 3), ("wide", 3, 4)],
        ));
        let text = rendered(groups, 8);
        assert_eq!(series_count(&text, "streamhouse_consumer_lag"), 7);
        assert_eq!(folded_sets(&text, "streamhouse_consumer_lag"), 4);
        for line in [
            "streamhouse_consumer_lag{topic=\"wide\",partition=\"~max\",consumer_group=\"w\"} 9",
            "streamhouse_consumer_lag{topic=\"flat\",partition=\"0\",consumer_group=\"g5\"} 5",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in\n{text}"
            );
        }
    }

    #[test]
    fn lags_that_no_fold_of_a_topic_saves_keep_to_the_limit_and_none_is_forgotten() {
        let limit = 50_000;
        let names: Vec<String> = (0..60_000).map(|n| format!("t{n}")).collect();
        let topics: Vec<_> = names.iter().map(|topic| (topic.as_str(), 0, 1)).collect();
        let many_topics = vec![group("g", &topics)];
        let three = [("a", 0, 1), ("b", 0, 1), ("c", 0, 1)];
        let many_groups = (0..20_000).map(|n| group(&format!("g{n:05}"), &three)).collect();
        // Folding the one topic that saves something is not enough.
        let four = [("a", 0, 1), ("a", 1, 1), ("b", 0, 1), ("c", 0, 1)];
        let foldable = (0..20_000).map(|n| group(&format!("g{n:05}"), &four)).collect();
        for (case, groups, lags) in [
            ("topics", many_topics, 60_000),
            ("groups", many_groups, 60_000),
            ("folded", foldable, 80_000),
        ] {
            let mut groups: Vec<GroupView> = groups;
            if let Some(last) = groups.last_mut().and_then(|group| group.lags.last_mut()) {
                (last.records, last.seconds) = (77, 7.5);
            }
            let text = rendered(groups, limit);
            for (metric, largest) in [
                ("streamhouse_consumer_lag", "77"),
                ("streamhouse_consumer_lag_seconds", "7.5"),
            ] {
                assert_eq!(series_count(&text, metric), limit, "{metric}, many {case}");
                let others = "topic=\"~other\",partition=\"~other\",consumer_group=\"~other\"";
                assert!(
                    text.contains(&format!("\n{metric}{{{others}}} {largest}\n")),
                    "{metric}, many {case}"
                );
                let shown = text.lines().filter(|line| {
                    line.starts_with(&format!("{metric}{{"))
                        && !line.contains("~max")
                        && !line.contains("~other")
                });
                assert_eq!(
                    folded_sets(&text, metric),
                    lags - shown.count(),
                    "{metric}, many {case}"
                );
            }
        }
    }

    #[test]
    fn groups_beyond_the_limit_are_shown_together_state_by_state() {
        let groups: Vec<GroupView> = (0..10).map(|n| group(&format!("g{n}"), &[("t", 0, 1)])).collect();
        let text = rendered(groups, 20);
        for line in [
            "streamhouse_consumer_group_state{consumer_group=\"g1\",state=\"Stable\"} 1",
            "streamhouse_consumer_group_state{consumer_group=\"~other\",state=\"Stable\"} 8",
            "streamhouse_consumer_group_state{consumer_group=\"~other\",state=\"Empty\"} 0",
            "streamhouse_metrics_folded_series{metric=\"streamhouse_consumer_group_state\"} 48",
            "streamhouse_consumer_group_members{consumer_group=\"g9\"} 2",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in\n{text}"
            );
        }
        assert_eq!(text.matches("\nstreamhouse_consumer_group_state{").count(), 18);
    }
}
