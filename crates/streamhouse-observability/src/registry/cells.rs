//! The cells that hold numbers, and the handles through which the code counts.
//!
//! A handle is resolved once and then costs a plain load and store of a word that the thread owns: no lock,
//! no allocation, no label lookup. Cloning a handle shares its cell. Durations are integer nanoseconds
//! inside, so that sums stay exact; they become seconds only when written out. How a cell spreads over
//! threads (`lanes.rs`) is hidden behind the handle types.
//!
//! Not here: names, labels, and who owns which series (`family.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use super::lanes::{Pool, Words};
use super::text;

/// What a family stores for one set of labels, and how it is read and written out.
pub trait Cell: Clone + Send + Sync + 'static {
    /// What a new cell needs to know; for histograms the bucket bounds.
    type Spec: Copy + Send + Sync + 'static;
    /// Several cells read into one reading: folded series are the sum of their cells.
    type Reading;
    /// The word after `# TYPE`.
    const TYPE: &'static str;

    /// The bounds, where it is a histogram.
    fn buckets(_spec: Self::Spec) -> Option<&'static Buckets> {
        None
    }

    fn new(spec: Self::Spec, pool: &Arc<Pool>) -> Self;
    fn empty(spec: Self::Spec) -> Self::Reading;
    fn read_into(&self, reading: &mut Self::Reading);
    /// `labels` is either empty or `a="b",c="d"`, already escaped.
    fn write(reading: &Self::Reading, name: &str, labels: &str, out: &mut String);
}

/// A count that only grows.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Words>);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0.add(0, n);
    }

    /// For tests and for figures derived from a counter; not for the hot path.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.sum(0)
    }
}

impl Cell for Counter {
    type Spec = ();
    type Reading = u64;
    const TYPE: &'static str = "counter";

    fn new((): (), pool: &Arc<Pool>) -> Self {
        Self(Arc::new(pool.take(1)))
    }

    fn empty((): ()) -> u64 {
        0
    }

    fn read_into(&self, reading: &mut u64) {
        *reading = reading.wrapping_add(self.value());
    }

    fn write(reading: &u64, name: &str, labels: &str, out: &mut String) {
        text::sample(out, name, "", labels, |out| text::unsigned(out, *reading));
    }
}

/// A growing amount of time: nanoseconds inside, seconds when written out.
#[derive(Clone, Debug)]
pub struct SecondsCounter(Arc<Words>);

impl SecondsCounter {
    pub fn add(&self, elapsed: Duration) {
        self.0.add(0, nanos(elapsed));
    }

    #[must_use]
    pub fn value(&self) -> Duration {
        Duration::from_nanos(self.0.sum(0))
    }
}

impl Cell for SecondsCounter {
    type Spec = ();
    type Reading = u64;
    const TYPE: &'static str = "counter";

    fn new((): (), pool: &Arc<Pool>) -> Self {
        Self(Arc::new(pool.take(1)))
    }

    fn empty((): ()) -> u64 {
        0
    }

    fn read_into(&self, reading: &mut u64) {
        *reading = reading.wrapping_add(self.0.sum(0));
    }

    fn write(reading: &u64, name: &str, labels: &str, out: &mut String) {
        text::sample(out, name, "", labels, |out| text::nanos_as_seconds(out, *reading));
    }
}

/// Integers a gauge accepts. What does not fit an `i64` is held at its limit.
pub trait GaugeValue {
    fn into_gauge(self) -> i64;
}

macro_rules! gauge_values {
    ($($int:ty),*) => {$(
        impl GaugeValue for $int {
            fn into_gauge(self) -> i64 {
                i64::try_from(self).unwrap_or(i64::MAX)
            }
        }
    )*};
}
gauge_values!(i32, i64, u32, u64, usize);

/// A whole number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    pub fn set(&self, value: impl GaugeValue) {
        if !super::UNCOUNTED {
            self.0.store(value.into_gauge(), Relaxed);
        }
    }

    pub fn add(&self, n: impl GaugeValue) {
        if !super::UNCOUNTED {
            self.0.fetch_add(n.into_gauge(), Relaxed);
        }
    }

    pub fn sub(&self, n: impl GaugeValue) {
        if !super::UNCOUNTED {
            self.0.fetch_sub(n.into_gauge(), Relaxed);
        }
    }

    pub fn inc(&self) {
        self.add(1_i64);
    }

    pub fn dec(&self) {
        self.sub(1_i64);
    }

    #[must_use]
    pub fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Cell for Gauge {
    type Spec = ();
    type Reading = i64;
    const TYPE: &'static str = "gauge";

    /// A gauge is set as a whole, so all threads share its one number.
    fn new((): (), _: &Arc<Pool>) -> Self {
        Self::default()
    }

    fn empty((): ()) -> i64 {
        0
    }

    fn read_into(&self, reading: &mut i64) {
        *reading = reading.wrapping_add(self.value());
    }

    fn write(reading: &i64, name: &str, labels: &str, out: &mut String) {
        text::sample(out, name, "", labels, |out| text::signed(out, *reading));
    }
}

/// What a histogram measures; decides how bounds and sums are written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds inside, seconds outside.
    Seconds,
    /// Whole numbers: bytes, records.
    Value,
}

/// The upper bounds of a histogram's buckets, inclusive and ascending, without `+Inf`.
#[derive(Debug)]
pub struct Buckets {
    pub unit: Unit,
    /// In nanoseconds for [`Unit::Seconds`].
    pub bounds: &'static [u64],
}

#[derive(Debug)]
struct HistogramCell {
    buckets: &'static Buckets,
    /// The sum, one count per bound, and one for what lies above the last. Not cumulative: an observation
    /// touches one bucket and the sum.
    words: Words,
}

const SUM: usize = 0;
const FIRST_COUNT: usize = 1;

/// A distribution over fixed buckets.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<HistogramCell>);

impl Histogram {
    /// One duration, in a histogram of seconds.
    pub fn observe(&self, elapsed: Duration) {
        debug_assert_eq!(self.0.buckets.unit, Unit::Seconds);
        self.record(nanos(elapsed));
    }

    /// One size or count, in a histogram of whole numbers.
    pub fn observe_value(&self, value: u64) {
        debug_assert_eq!(self.0.buckets.unit, Unit::Value);
        self.record(value);
    }

    fn record(&self, value: u64) {
        if super::UNCOUNTED {
            return;
        }
        let cell = &*self.0;
        // A bucket holds what is at most its bound, as `le` says.
        let bucket = cell.buckets.bounds.partition_point(|bound| *bound < value);
        cell.words.add(FIRST_COUNT + bucket, 1);
        cell.words.add(SUM, value);
    }

    /// How many observations were made.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = 0..=self.0.buckets.bounds.len();
        counts.map(|bucket| self.0.words.sum(FIRST_COUNT + bucket)).sum()
    }
}

/// The state of one or several histograms with the same buckets.
pub struct HistogramReading {
    buckets: &'static Buckets,
    counts: Vec<u64>,
    sum: u64,
}

impl Cell for Histogram {
    type Spec = &'static Buckets;
    type Reading = HistogramReading;
    const TYPE: &'static str = "histogram";

    fn buckets(buckets: &'static Buckets) -> Option<&'static Buckets> {
        Some(buckets)
    }

    fn new(buckets: &'static Buckets, pool: &Arc<Pool>) -> Self {
        let words = pool.take(FIRST_COUNT + buckets.bounds.len() + 1);
        Self(Arc::new(HistogramCell { buckets, words }))
    }

    fn empty(buckets: &'static Buckets) -> HistogramReading {
        HistogramReading {
            buckets,
            counts: vec![0; buckets.bounds.len() + 1],
            sum: 0,
        }
    }

    fn read_into(&self, reading: &mut HistogramReading) {
        for (bucket, total) in reading.counts.iter_mut().enumerate() {
            *total = total.wrapping_add(self.0.words.sum(FIRST_COUNT + bucket));
        }
        reading.sum = reading.sum.wrapping_add(self.0.words.sum(SUM));
    }

    fn write(reading: &HistogramReading, name: &str, labels: &str, out: &mut String) {
        let number = |out: &mut String, value: u64| match reading.buckets.unit {
            Unit::Seconds => text::nanos_as_seconds(out, value),
            Unit::Value => text::unsigned(out, value),
        };
        let separator = if labels.is_empty() { "" } else { "," };
        // The total is the sum of the buckets, not a cell of its own: `+Inf` and `_count` can then
        // never disagree, however many threads observe during the scrape.
        let mut total = 0;
        let mut le = String::with_capacity(labels.len() + 24);
        for (index, count) in reading.counts.iter().enumerate() {
            total += count;
            le.clear();
            le.push_str(labels);
            le.push_str(separator);
            le.push_str("le=\"");
            match reading.buckets.bounds.get(index) {
                Some(bound) => number(&mut le, *bound),
                None => le.push_str("+Inf"),
            }
            le.push('"');
            text::sample(out, name, "_bucket", &le, |out| text::unsigned(out, total));
        }
        text::sample(out, name, "_sum", labels, |out| number(out, reading.sum));
        text::sample(out, name, "_count", labels, |out| text::unsigned(out, total));
    }
}

/// 584 years fit; what is longer is held at the limit.
fn nanos(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
