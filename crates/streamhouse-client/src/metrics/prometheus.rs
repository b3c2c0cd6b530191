//! The client's series for a program that uses the crate `prometheus`.
//!
//! The collector hands on what the registry would write itself: the text of a scrape is the registry's one
//! public form, so series that are computed, folded or gone are here as they are there, and this file knows no
//! metric by name. What is read is our own writing; a line that does not hold is left out.
//!
//! Not here: what the series mean (`docs/client.md`).

use std::collections::HashMap;

use ::prometheus::core::{Collector, Desc};
use ::prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use streamhouse_observability::registry::Description;

use super::ClientMetrics;

/// Register it once with the program's `prometheus::Registry`.
pub struct PrometheusCollector {
    metrics: ClientMetrics,
    descriptions: Vec<Desc>,
}

impl PrometheusCollector {
    /// # Errors
    /// The crate `prometheus` refuses a name, which none of ours gives it cause to.
    pub fn new(metrics: &ClientMetrics) -> Result<Self, ::prometheus::Error> {
        let describe = |family: Description| {
            let labels = family.labels.iter().map(|(key, _)| (*key).to_owned()).collect();
            Desc::new(
                family.name.to_owned(),
                family.help.to_owned(),
                labels,
                HashMap::new(),
            )
        };
        let descriptions = metrics.registry().describe().into_iter().map(describe);
        Ok(Self {
            metrics: metrics.clone(),
            descriptions: descriptions.collect::<Result<_, _>>()?,
        })
    }
}

impl Collector for PrometheusCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let text = self.metrics.render();
        let mut reading = Reading::default();
        text.lines().for_each(|line| reading.line(line));
        reading.families
    }
}

/// Keys and values.
type Labels = Vec<(String, String)>;

/// The families read so far; lines belong to the last one.
#[derive(Default)]
struct Reading {
    families: Vec<MetricFamily>,
}

impl Reading {
    fn line(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix("# ") {
            self.comment(comment);
        } else if let Some((name, labels, value)) = sample(line) {
            self.sample(name, labels, value);
        }
    }

    fn comment(&mut self, comment: &str) {
        let mut words = comment.splitn(3, ' ');
        let (Some(keyword), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        match keyword {
            "HELP" => {
                let mut family = MetricFamily::default();
                family.set_name(name.to_owned());
                family.set_help(rest.replace("\\n", "\n").replace("\\\\", "\\"));
                self.families.push(family);
            }
            "TYPE" => {
                if let Some(family) = self.families.last_mut() {
                    family.set_field_type(match rest {
                        "counter" => MetricType::COUNTER,
                        "histogram" => MetricType::HISTOGRAM,
                        _ => MetricType::GAUGE,
                    });
                }
            }
            _ => {}
        }
    }

    fn sample(&mut self, name: &str, mut labels: Labels, value: f64) {
        let Some(family) = self.families.last_mut() else {
            return;
        };
        let mut metric = Metric::default();
        match family.get_field_type() {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            MetricType::HISTOGRAM => {
                let part = name.strip_prefix(family.name()).unwrap_or_default().to_owned();
                let bound = (part == "_bucket").then(|| labels.pop()).flatten();
                let pairs = pairs(labels);
                let metrics = family.mut_metric();
                if metrics.last().is_none_or(|last| last.get_label() != pairs) {
                    let mut metric = Metric::default();
                    metric.set_label(pairs);
                    metric.set_histogram(Histogram::default());
                    metrics.push(metric);
                }
                if let Some(metric) = metrics.last_mut() {
                    histogram_part(metric, &part, bound, value);
                }
                return;
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        metric.set_label(pairs(labels));
        family.mut_metric().push(metric);
    }
}

/// One line of a histogram; `bound` is its label `le`.
fn histogram_part(metric: &mut Metric, part: &str, bound: Option<(String, String)>, value: f64) {
    let mut histogram = metric.get_histogram().clone();
    match (part, bound) {
        ("_bucket", Some((_, bound))) => {
            // `+Inf` is the count, which the crate writes itself.
            if let Ok(bound) = bound.parse::<f64>()
                && bound.is_finite()
            {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(value as u64);
                let mut buckets = histogram.get_bucket().to_vec();
                buckets.push(bucket);
                histogram.set_bucket(buckets);
            }
        }
        ("_sum", None) => histogram.set_sample_sum(value),
        ("_count", None) => histogram.set_sample_count(value as u64),
        _ => {}
    }
    metric.set_histogram(histogram);
}

fn pairs(labels: Labels) -> Vec<LabelPair> {
    let pair = |(key, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(key);
        pair.set_value(value);
        pair
    };
    labels.into_iter().map(pair).collect()
}

/// `name{key="value",…} number`.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((key.to_owned(), value));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}')?;
    }
    Some((name, labels, rest.trim_start().parse().ok()?))
}

/// A label's value up to its closing quote, and what comes after.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::prometheus::{Encoder as _, TextEncoder};

    use super::*;

    #[test]
    fn the_collector_says_what_the_registry_says() {
        let metrics = ClientMetrics::default();
        let topics = metrics.topics();
        topics
            .get("orders")
            .acknowledged(7, 700, Some(Duration::from_millis(3)));
        topics
            .get("orders")
            .acknowledged(60, 6_000, Some(Duration::from_secs(9)));
        topics.get("orders1").failed(crate::ProducerErrorType::TimedOut);
        metrics.group("g\"\\\n}").topic("orders").add(5);
        metrics.group("g\"\\\n}").rebalanced();

        let theirs = ::prometheus::Registry::new();
        theirs
            .register(Box::new(PrometheusCollector::new(&metrics).unwrap()))
            .unwrap();
        let mut text = Vec::new();
        TextEncoder::new().encode(&theirs.gather(), &mut text).unwrap();
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        let ours = metrics.render();
        assert!(
            ours.contains("producer_batch_size_bucket{topic=\"orders\",le=\"10\"} 1"),
            "{ours}"
        );
        assert_eq!(sorted(&String::from_utf8(text).unwrap()), sorted(&ours));
    }

    #[test]
    fn a_line_that_does_not_hold_is_left_out() {
        for line in [
            "",
            "name",
            "name{",
            "name{a=\"b} 1",
            "name{a} 1",
            "name x",
            "name{a=\"b\\",
        ] {
            assert!(sample(line).is_none(), "{line:?}");
        }
        let labels = vec![
            ("a".to_owned(), "x,\"y".to_owned()),
            ("b".to_owned(), String::new()),
        ];
        assert_eq!(sample("n{a=\"x,\\\"y\",b=\"\"} 0.5"), Some(("n", labels, 0.5)));
    }
}
