//! A family: one metric name, and one cell per set of labels.
//!
//! The map is behind a lock that is taken when a handle is resolved, when series leave, and at a
//! scrape; never when something is counted. A family stays within its series limit: when the limit
//! is reached, the topics with the most partitions are shown as one series each, and topics for
//! which even that leaves no room share one series. Folding moves cells, not numbers: handles given
//! out before stay right, and the folded series is the sum of what it took over.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;

use super::cells::Cell;
use super::describe::Description;
use super::labels::{Group, Labels, Topic};
use super::lanes::Pool;
use super::text;

/// One metric. Cloning shares it.
pub struct Family<L: Labels, C: Cell>(Arc<Inner<L, C>>);

impl<L: Labels, C: Cell> Clone for Family<L, C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<L: Labels, C: Cell> {
    name: &'static str,
    help: &'static str,
    spec: C::Spec,
    series_max: usize,
    pool: Arc<Pool>,
    state: RwLock<State<L, C>>,
}

struct State<L: Labels, C: Cell> {
    series: BTreeMap<L, Series<C>>,
    folded_topics: BTreeSet<Topic>,
    /// Label sets that have no series of their own any more.
    folded: BTreeSet<L>,
    /// No topic is left whose partitions could be folded: nobody needs to look again until series leave.
    nothing_to_fold: bool,
}

struct Series<C> {
    cell: C,
    /// Cells of series that were folded into this one; their handles are still in use.
    taken_over: Vec<C>,
}

impl<L: Labels, C: Cell> Family<L, C> {
    pub(crate) fn new(
        name: &'static str,
        help: &'static str,
        spec: C::Spec,
        series_max: usize,
        pool: Arc<Pool>,
    ) -> Self {
        let state = State {
            series: BTreeMap::new(),
            folded_topics: BTreeSet::new(),
            folded: BTreeSet::new(),
            nothing_to_fold: false,
        };
        Self(Arc::new(Inner {
            name,
            help,
            spec,
            series_max,
            pool,
            state: RwLock::new(state),
        }))
    }

    /// The cell of these labels; it is born at zero if it does not exist.
    #[must_use]
    pub fn get(&self, labels: &L) -> C {
        if let Some(series) = self.0.state.read().series.get(labels) {
            return series.cell.clone();
        }
        let mut state = self.0.state.write();
        let key = state.key_for(labels, self.0.series_max);
        let series = state.series.entry(key).or_insert_with(|| Series {
            cell: self.detached(),
            taken_over: Vec::new(),
        });
        series.cell.clone()
    }

    /// A cell that no series shows: for what must be counted without being exported.
    #[must_use]
    pub fn detached(&self) -> C {
        C::new(self.0.spec, &self.0.pool)
    }

    /// Removes every series of the groups for which `keep` says no. Handles still held count on, unseen.
    pub fn retain_groups(&self, keep: &dyn Fn(&Group) -> bool) {
        let mut state = self.0.state.write();
        let stays = |labels: &L| {
            let group = labels.group();
            group.is_none_or(|group| is_reserved(group.name()) || keep(group))
        };
        state.series.retain(|labels, _| stays(labels));
        state.folded.retain(stays);
        state.nothing_to_fold = false;
    }

    /// Removes every series of the topics for which `keep` says no. Handles still held count on,
    /// unseen.
    pub fn retain_topics(&self, keep: &dyn Fn(&Topic) -> bool) {
        let mut state = self.0.state.write();
        let stays = |labels: &L| {
            labels
                .topic()
                .is_none_or(|topic| is_reserved(topic.name()) || keep(topic))
        };
        state.series.retain(|labels, _| stays(labels));
        state.folded.retain(stays);
        state.nothing_to_fold = false;
        state.folded_topics.retain(|topic| keep(topic));
    }

    /// Adds the topics that have series here.
    pub(crate) fn topics(&self, names: &mut HashSet<String>) {
        for labels in self.0.state.read().series.keys() {
            if let Some(topic) = labels.topic().filter(|topic| !is_reserved(topic.name()))
                && !names.contains(topic.name())
            {
                names.insert(topic.name().to_owned());
            }
        }
    }

    /// How many label sets share a series because of the limit.
    #[must_use]
    pub fn folded(&self) -> usize {
        self.0.state.read().folded.len()
    }
}

/// Stands for many or for none.
fn is_reserved(name: &str) -> bool {
    name.is_empty() || name.starts_with('~')
}

impl<L: Labels, C: Cell> State<L, C> {
    /// Under which labels a new series goes, after making room where the limit asks for it.
    fn key_for(&mut self, labels: &L, series_max: usize) -> L {
        if self.series.contains_key(labels) {
            return labels.clone();
        }
        if self.series.len() >= series_max && !self.nothing_to_fold && labels.folded().is_some() {
            self.fold_largest(series_max);
        }
        let folded = match labels.folded() {
            Some(folded) if labels.topic().is_some_and(|t| self.folded_topics.contains(t)) => folded,
            _ if self.series.len() < series_max => return labels.clone(),
            _ => match labels.overflow() {
                Some(overflow) => overflow,
                // Closed sets are never folded: their size is known when they are written.
                None => return labels.clone(),
            },
        };
        self.folded.insert(labels.clone());
        folded
    }

    /// Folds the topics with the most series until a tenth of the limit is free: one pass over the
    /// map pays for many new series.
    fn fold_largest(&mut self, series_max: usize) {
        let mut sizes: BTreeMap<&Topic, usize> = BTreeMap::new();
        for labels in self.series.keys() {
            if let (Some(topic), Some(_)) = (labels.topic(), labels.folded()) {
                *sizes.entry(topic).or_default() += 1;
            }
        }
        let mut largest: Vec<(usize, Topic)> = sizes
            .into_iter()
            .filter(|(_, n)| *n > 1)
            .map(|(t, n)| (n, t.clone()))
            .collect();
        largest.sort_unstable_by(|a, b| b.cmp(a));

        let target = series_max - series_max.div_ceil(10);
        let mut left = self.series.len();
        let mut chosen = BTreeSet::new();
        for (size, topic) in largest {
            if left <= target {
                break;
            }
            left -= size - 1;
            chosen.insert(topic);
        }
        let moved: Vec<L> = self
            .series
            .keys()
            .filter(|labels| labels.topic().is_some_and(|topic| chosen.contains(topic)))
            .cloned()
            .collect();
        for labels in moved {
            let Some(target) = labels.folded() else { continue };
            let Some(series) = self.series.remove(&labels) else {
                continue;
            };
            match self.series.get_mut(&target) {
                Some(other) => {
                    other.taken_over.push(series.cell);
                    other.taken_over.extend(series.taken_over);
                }
                None => {
                    self.series.insert(target, series);
                }
            }
            self.folded.insert(labels);
        }
        self.nothing_to_fold = chosen.is_empty();
        self.folded_topics.append(&mut chosen);
    }
}

/// What the registry knows of a family: how to write it, and how to drop topics and groups from it.
pub(crate) trait AnyFamily: Send + Sync {
    fn name(&self) -> &'static str;
    fn describe(&self) -> Description;
    fn render(&self, out: &mut String);
    fn retain_topics(&self, keep: &dyn Fn(&Topic) -> bool);
    fn retain_groups(&self, keep: &dyn Fn(&Group) -> bool);
    fn topics(&self, names: &mut HashSet<String>);
    fn folded(&self) -> usize;
}

impl<L: Labels, C: Cell> AnyFamily for Family<L, C> {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn describe(&self) -> Description {
        Description {
            name: self.0.name,
            kind: C::TYPE,
            help: self.0.help,
            labels: L::KEYS.to_vec(),
            buckets: C::buckets(self.0.spec),
        }
    }

    fn render(&self, out: &mut String) {
        let inner = &*self.0;
        let state = inner.state.read();
        // A family without series says nothing, rather than announcing what nothing feeds.
        if state.series.is_empty() {
            return;
        }
        text::header(out, inner.name, inner.help, C::TYPE);
        let mut label_text = String::new();
        for (labels, series) in &state.series {
            label_text.clear();
            labels.write(&mut label_text);
            let mut reading = C::empty(inner.spec);
            series.cell.read_into(&mut reading);
            for cell in &series.taken_over {
                cell.read_into(&mut reading);
            }
            C::write(&reading, inner.name, &label_text, out);
        }
    }

    fn retain_topics(&self, keep: &dyn Fn(&Topic) -> bool) {
        Family::retain_topics(self, keep);
    }

    fn retain_groups(&self, keep: &dyn Fn(&Group) -> bool) {
        Family::retain_groups(self, keep);
    }

    fn topics(&self, names: &mut HashSet<String>) {
        Family::topics(self, names);
    }

    fn folded(&self) -> usize {
        Family::folded(self)
    }
}
