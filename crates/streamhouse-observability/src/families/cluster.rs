//! Gauges about the whole system, from one snapshot of the metadata store.
//!
//! They come from one agent; the others, and an agent whose last snapshot failed, show nothing: absent
//! beats stale. A snapshot is taken at most every ten seconds, and only while somebody scrapes. What
//! takes it is behind [`ClusterSource`], so nothing here knows a metadata store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::groups::{self, GroupView};
use crate::registry::{Kind, Registry, Sample, Topic};

/// How old a snapshot may be before a scrape takes a new one.
pub(super) const CLUSTER_VIEW_AGE_MAX: Duration = Duration::from_secs(10);
/// How long a scrape waits for a snapshot before the gauges go absent.
pub(super) const CLUSTER_VIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// The system at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// Each topic's name and number of partitions.
    pub topics: Vec<(String, u32)>,
    /// Live agents.
    pub agents: u32,
    /// Bytes in the object store, where the source counts them.
    pub stored_bytes: Option<StoredBytes>,
    /// What waits for each background task, in pieces of its own kind.
    pub backlogs: Vec<(&'static str, u64)>,
    pub groups: Vec<GroupView>,
    /// Topics that open transactions hold back, and the age of the oldest in seconds.
    pub open_transactions: Vec<(String, f64)>,
}

/// Object bytes by what keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoredBytes {
    pub live: u64,
    pub inline: u64,
    pub orphan: u64,
    pub deleting: u64,
}

/// Takes a snapshot. `None` when another agent speaks for the cluster, or when it cannot be had; the
/// source logs why.
#[async_trait]
pub trait ClusterSource: Send + Sync + 'static {
    async fn cluster_view(&self) -> Option<ClusterView>;
}

struct Taken {
    view: ClusterView,
    at: SystemTime,
}

/// A source and the runtime that owns the connections it uses; scrapes come from another one.
#[derive(Clone)]
struct Wired {
    source: Arc<dyn ClusterSource>,
    runtime: Option<Handle>,
}

#[derive(Default)]
pub(super) struct Cluster {
    taken: Arc<Mutex<Option<Taken>>>,
    source: Mutex<Option<Wired>>,
    /// When the last snapshot was asked for. Held while one is taken: scrapes that come together
    /// share it.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl Cluster {
    pub(super) fn new(registry: &Registry) -> Self {
        let cluster = Self::default();
        let series_max = registry.series_max();
        cluster.folding_gauge(
            registry,
            "streamhouse_partitions_total",
            "Partitions of each topic.",
            &["topic"],
            move |view| {
                let topics = view.topics.iter();
                let samples = topics.map(|(topic, count)| sample(&[topic], f64::from(*count)));
                bounded(samples.collect(), series_max, 1, |a, b| a + b)
            },
        );
        cluster.gauge(registry, "streamhouse_topics_total", "Topics.", &[], |taken| {
            vec![sample(&[], taken.view.topics.len() as f64)]
        });
        cluster.gauge(
            registry,
            "streamhouse_agents_active",
            "Live agents.",
            &[],
            |taken| vec![sample(&[], f64::from(taken.view.agents))],
        );
        cluster.gauge(
            registry,
            "streamhouse_object_store_stored_bytes",
            "Object bytes by state: live, inline in the metadata, orphan, waiting for deletion.",
            &["state"],
            |taken| {
                let Some(bytes) = taken.view.stored_bytes else {
                    return Vec::new();
                };
                [
                    ("live", bytes.live),
                    ("inline", bytes.inline),
                    ("orphan", bytes.orphan),
                    ("deleting", bytes.deleting),
                ]
                .map(|(state, count)| sample(&[state], count as f64))
                .into()
            },
        );
        cluster.gauge(
            registry,
            "streamhouse_task_backlog",
            "What waits for a background task: segments to settle, inline objects to compact, topics to purge, \
             partitions to trim, objects to delete, prefixes of dead agents to sweep.",
            &["task"],
            |taken| {
                let backlogs = taken.view.backlogs.iter();
                backlogs.map(|(task, count)| sample(&[task], *count as f64)).collect()
            },
        );
        cluster.folding_gauge(
            registry,
            "streamhouse_transaction_oldest_open_seconds",
            "Age of the oldest transaction that is open in a topic: its last stable offset stands still.",
            &["topic"],
            move |view| {
                let open = view.open_transactions.iter();
                let samples = open.map(|(topic, age)| sample(&[topic], *age));
                bounded(samples.collect(), series_max, 1, f64::max)
            },
        );
        cluster.gauge(
            registry,
            "streamhouse_cluster_snapshot_timestamp_seconds",
            "When the cluster gauges were read.",
            &[],
            |taken| {
                let since = taken.at.duration_since(UNIX_EPOCH).unwrap_or_default();
                vec![sample(&[], since.as_secs_f64())]
            },
        );
        groups::register(&cluster, registry);
        cluster
    }

    /// A gauge that may show fewer series than there are; see [`Registry::computed_folding`].
    pub(super) fn folding_gauge(
        &self,
        registry: &Registry,
        name: &'static str,
        help: &'static str,
        keys: &'static [&'static str],
        samples: impl Fn(&ClusterView) -> (Vec<Sample>, usize) + Send + Sync + 'static,
    ) {
        let taken = self.taken.clone();
        registry.computed_folding(name, help, Kind::Gauge, keys, move || {
            let taken = taken.lock();
            taken
                .as_ref()
                .map(|taken| samples(&taken.view))
                .unwrap_or_default()
        });
    }

    fn gauge(
        &self,
        registry: &Registry,
        name: &'static str,
        help: &'static str,
        keys: &'static [&'static str],
        samples: impl Fn(&Taken) -> Vec<Sample> + Send + Sync + 'static,
    ) {
        let taken = self.taken.clone();
        registry.computed(name, help, Kind::Gauge, keys, move || {
            taken.lock().as_ref().map(&samples).unwrap_or_default()
        });
    }

    pub(super) fn set(&self, view: Option<ClusterView>) {
        *self.taken.lock() = view.map(|mut view| {
            view.topics.sort_unstable();
            view.backlogs.sort_unstable();
            view.groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
            Taken {
                view,
                at: SystemTime::now(),
            }
        });
    }

    pub(super) fn set_source(&self, source: Arc<dyn ClusterSource>) {
        *self.source.lock() = Some(Wired {
            source,
            runtime: Handle::try_current().ok(),
        });
    }

    pub(super) async fn refresh(&self) {
        let Some(wired) = self.source.lock().clone() else {
            return;
        };
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < CLUSTER_VIEW_AGE_MAX) {
            return;
        }
        let runtime = wired.runtime.unwrap_or_else(Handle::current);
        let mut task = runtime.spawn(async move { wired.source.cluster_view().await });
        let view = match tokio::time::timeout(CLUSTER_VIEW_TIMEOUT, &mut task).await {
            Ok(Ok(view)) => view,
            // The source panicked: the runtime has reported it.
            Ok(Err(_)) => None,
            Err(_) => {
                task.abort();
                None
            }
        };
        self.set(view);
        *asked = Some(Instant::now());
    }
}

/// Keeps to the series limit: what is beyond it shares one series of `~other` a closed label's value. Samples
/// come by name, `each` a name; the last label is the closed one where a name has several.
pub(super) fn bounded(
    mut samples: Vec<Sample>,
    series_max: usize,
    each: usize,
    combine: fn(f64, f64) -> f64,
) -> (Vec<Sample>, usize) {
    if samples.len() <= series_max {
        return (samples, 0);
    }
    let kept = series_max.saturating_sub(each) / each * each;
    let mut others: BTreeMap<Vec<String>, f64> = BTreeMap::new();
    let folded = samples.split_off(kept);
    for mut sample in folded.iter().cloned() {
        let names = match each {
            1 => sample.values.len(),
            _ => sample.values.len() - 1,
        };
        sample.values[..names].fill(Topic::OTHER.to_owned());
        let other = others.entry(sample.values);
        other
            .and_modify(|value| *value = combine(*value, sample.value))
            .or_insert(sample.value);
    }
    let others = others.into_iter();
    samples.extend(others.map(|(values, value)| Sample { values, value }));
    (samples, folded.len())
}

pub(super) fn sample(values: &[&str], value: f64) -> Sample {
    Sample {
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        value,
    }
}
