//! The metrics registry: families in, Prometheus text out.
//!
//! Families are sorted by name and series by their labels, so the same state renders to the same
//! bytes. Families that compute their samples at the scrape are closures. Why the registry is ours:
//! `docs/adr/0001-own-metrics-registry.md`.
//!
//! Not here: which metrics exist (`families/`), and serving them over HTTP.

mod cells;
mod describe;
mod family;
mod labels;
mod lanes;
mod text;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;

pub use cells::{
    Buckets, Cell, Counter, Gauge, GaugeValue, Histogram, HistogramReading, SecondsCounter, Unit,
};
pub use describe::Description;
pub use family::Family;
pub use labels::{Group, LabelValue, Labels, Partition, Topic};
pub(crate) use labels::{closed_label, static_label};
pub use lanes::{Pool, claim_lane};
pub use text::CONTENT_TYPE;

use family::AnyFamily;

/// All handles do nothing: what counting costs is measured against such a build.
const UNCOUNTED: bool = cfg!(feature = "uncounted");

/// Whether a computed family only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One sample of a computed family: label values in the order of the family's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub values: Vec<String>,
    pub value: f64,
}

/// Samples, and how many label sets were folded into others.
type Compute = Box<dyn Fn() -> (Vec<Sample>, usize) + Send + Sync>;

struct Computed {
    help: &'static str,
    kind: Kind,
    keys: &'static [&'static str],
    compute: Compute,
}

/// All metrics of one process.
pub struct Registry {
    series_max: usize,
    pool: Arc<Pool>,
    families: RwLock<BTreeMap<&'static str, Box<dyn AnyFamily>>>,
    computed: RwLock<BTreeMap<&'static str, Computed>>,
}

impl Registry {
    /// `series_max` bounds each family, counted in label sets.
    #[must_use]
    pub fn new(series_max: usize) -> Self {
        Self {
            series_max: series_max.max(1),
            pool: Arc::default(),
            families: RwLock::new(BTreeMap::new()),
            computed: RwLock::new(BTreeMap::new()),
        }
    }

    /// Registers a family. Names are written in this crate, so a second family of the same name is
    /// a mistake in it; the later one replaces the earlier.
    pub fn family<L: Labels, C: Cell>(
        &self,
        name: &'static str,
        help: &'static str,
        spec: C::Spec,
    ) -> Family<L, C> {
        let family = Family::<L, C>::new(name, help, spec, self.series_max, self.pool.clone());
        let earlier = self.families.write().insert(name, Box::new(family.clone()));
        debug_assert!(earlier.is_none(), "two families are called {name}");
        family
    }

    /// Registers a family whose samples are computed at each scrape; no samples, no family. The
    /// same name again replaces the closure. It must not block.
    pub fn computed(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        keys: &'static [&'static str],
        compute: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        self.computed_folding(name, help, kind, keys, move || (compute(), 0));
    }

    /// The same for a family that keeps to the series limit itself: it also says how many label sets it
    /// folded into others.
    pub fn computed_folding(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        keys: &'static [&'static str],
        compute: impl Fn() -> (Vec<Sample>, usize) + Send + Sync + 'static,
    ) {
        let compute = Box::new(compute);
        self.computed.write().insert(
            name,
            Computed {
                help,
                kind,
                keys,
                compute,
            },
        );
    }

    /// How many label sets a family may show one by one.
    #[must_use]
    pub fn series_max(&self) -> usize {
        self.series_max
    }

    /// Every topic that has series in some family.
    #[must_use]
    pub fn topics(&self) -> HashSet<String> {
        let mut names = HashSet::new();
        for family in self.families.read().values() {
            family.topics(&mut names);
        }
        names
    }

    /// Drops the series of every topic for which `keep` says no.
    pub fn retain_topics(&self, keep: &dyn Fn(&Topic) -> bool) {
        for family in self.families.read().values() {
            family.retain_topics(keep);
        }
    }

    /// Drops the series of every consumer group for which `keep` says no.
    pub fn retain_groups(&self, keep: &dyn Fn(&Group) -> bool) {
        for family in self.families.read().values() {
            family.retain_groups(keep);
        }
    }

    /// Every family that is registered now, by name, whether it has series or not.
    #[must_use]
    pub fn describe(&self) -> Vec<Description> {
        let mut described: BTreeMap<&'static str, Description> = BTreeMap::new();
        for family in self.families.read().values() {
            described.insert(family.name(), family.describe());
        }
        for (name, computed) in self.computed.read().iter() {
            described.insert(name, computed.describe(name));
        }
        described.insert(
            FOLDED,
            Description {
                name: FOLDED,
                kind: "gauge",
                help: FOLDED_HELP,
                labels: vec![("metric", &[])],
                buckets: None,
            },
        );
        described.into_values().collect()
    }

    /// Everything, as Prometheus text 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut blocks: BTreeMap<&'static str, String> = BTreeMap::new();
        let mut folded = Vec::new();
        for (name, family) in self.families.read().iter() {
            let block = blocks.entry(name).or_default();
            family.render(block);
            if family.folded() > 0 {
                folded.push((family.name(), family.folded()));
            }
        }
        for (name, computed) in self.computed.read().iter() {
            let folded_here = computed.render(name, blocks.entry(name).or_default());
            if folded_here > 0 {
                folded.push((*name, folded_here));
            }
        }
        render_folded(&folded, blocks.entry(FOLDED).or_default());
        let mut out = String::with_capacity(blocks.values().map(String::len).sum());
        for block in blocks.values() {
            out.push_str(block);
        }
        out
    }
}

const FOLDED: &str = "streamhouse_metrics_folded_series";
const FOLDED_HELP: &str = "Label sets that share a series because the metric reached its series limit.";

fn render_folded(folded: &[(&'static str, usize)], out: &mut String) {
    if folded.is_empty() {
        return;
    }
    text::header(out, FOLDED, FOLDED_HELP, "gauge");
    for (metric, count) in folded {
        let mut labels = String::new();
        text::label(&mut labels, "metric", metric);
        text::sample(out, FOLDED, "", &labels, |out| text::unsigned(out, *count as u64));
    }
}

impl Computed {
    fn describe(&self, name: &'static str) -> Description {
        Description {
            name,
            kind: self.kind.as_str(),
            help: self.help,
            labels: self.keys.iter().map(|key| (*key, &[][..])).collect(),
            buckets: None,
        }
    }

    /// Writes the family; how many label sets were folded.
    fn render(&self, name: &str, out: &mut String) -> usize {
        let (samples, folded) = (self.compute)();
        if samples.is_empty() {
            return folded;
        }
        text::header(out, name, self.help, self.kind.as_str());
        for sample in samples {
            let mut labels = String::new();
            for (key, value) in self.keys.iter().zip(&sample.values) {
                text::label(&mut labels, key, value);
            }
            text::sample(out, name, "", &labels, |out| text::float(out, sample.value));
        }
        folded
    }
}
