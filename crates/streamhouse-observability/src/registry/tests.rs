//! The registry's promises: exact text, exact keys, exact sums, and a limit that loses no count.

use std::time::Duration;

use super::*;

static SECONDS: Buckets = Buckets {
    unit: Unit::Seconds,
    bounds: &[50_000, 1_000_000, 1_000_000_000, 2_500_000_000],
};
static SIZES: Buckets = Buckets {
    unit: Unit::Value,
    bounds: &[1, 10],
};

fn topic_partition(topic: &str, partition: i32) -> (Topic, Partition) {
    (Topic::new(topic), Partition::Number(partition))
}

#[test]
fn the_text_is_exact_sorted_by_name_and_by_labels() {
    let registry = Registry::new(100);
    let requests: Family<(Topic, Partition), Counter> = registry.family("b_total", "Writes.", ());
    let seconds: Family<(), Histogram> = registry.family("a_seconds", "Time.", &SECONDS);
    let waited: Family<(), SecondsCounter> = registry.family("c_seconds_total", "Waited.", ());
    registry.computed("d", "Computed.", Kind::Gauge, &["component"], || {
        vec![Sample {
            values: vec!["x\"y".to_owned()],
            value: 0.5,
        }]
    });
    requests.get(&topic_partition("t", 10)).add(3);
    requests.get(&topic_partition("t", 9)).inc();
    let seconds = seconds.get(&());
    seconds.observe(Duration::from_millis(1));
    seconds.observe(Duration::from_secs(3));
    waited.get(&()).add(Duration::from_micros(1_500_000));

    let expected = r#"# HELP a_seconds Time.
# TYPE a_seconds histogram
a_seconds_bucket{le="0.00005"} 0
a_seconds_bucket{le="0.001"} 1
a_seconds_bucket{le="1"} 1
a_seconds_bucket{le="2.5"} 1
a_seconds_bucket{le="+Inf"} 2
a_seconds_sum 3.001
a_seconds_count 2
# HELP b_total Writes.
# TYPE b_total counter
b_total{topic="t",partition="9"} 1
b_total{topic="t",partition="10"} 3
# HELP c_seconds_total Waited.
# TYPE c_seconds_total counter
c_seconds_total 1.5
# HELP d Computed.
# TYPE d gauge
d{component="x\"y"} 0.5
"#;
    assert_eq!(registry.render(), expected);
    assert_eq!(registry.render(), expected);
}

#[test]
fn label_values_that_read_alike_when_joined_are_different_series() {
    let registry = Registry::new(100);
    let writes: Family<(Topic, Partition), Counter> = registry.family("w_total", "W.", ());
    writes.get(&topic_partition("orders1", 1)).add(5);
    writes.get(&topic_partition("orders", 11)).add(7);
    let text = registry.render();
    assert!(
        text.contains("w_total{topic=\"orders1\",partition=\"1\"} 5\n"),
        "{text}"
    );
    assert!(
        text.contains("w_total{topic=\"orders\",partition=\"11\"} 7\n"),
        "{text}"
    );
}

#[test]
fn the_same_labels_give_the_same_cell() {
    let registry = Registry::new(100);
    let writes: Family<(Topic,), Counter> = registry.family("w_total", "W.", ());
    writes.get(&(Topic::new("a"),)).inc();
    let again = writes.get(&(Topic::new("a"),));
    again.clone().add(2);
    assert_eq!(again.value(), 3);
}

#[test]
fn a_bucket_holds_what_equals_its_bound_and_not_a_nanosecond_more() {
    let registry = Registry::new(100);
    let histogram: Family<(), Histogram> = registry.family("h", "H.", &SECONDS);
    let histogram = histogram.get(&());
    histogram.observe(Duration::from_millis(1));
    histogram.observe(Duration::from_nanos(1_000_001));
    let text = registry.render();
    assert!(text.contains("h_bucket{le=\"0.001\"} 1\n"), "{text}");
    assert!(text.contains("h_bucket{le=\"1\"} 2\n"), "{text}");
}

#[test]
fn sizes_are_whole_numbers_and_zero_belongs_to_the_first_bucket() {
    let registry = Registry::new(100);
    let sizes: Family<(Topic,), Histogram> = registry.family("h", "H.", &SIZES);
    let sizes = sizes.get(&(Topic::new("t"),));
    for size in [0, 1, 2, 10, 11] {
        sizes.observe_value(size);
    }
    let text = registry.render();
    let expected = "h_bucket{topic=\"t\",le=\"1\"} 2\nh_bucket{topic=\"t\",le=\"10\"} 4\n\
                    h_bucket{topic=\"t\",le=\"+Inf\"} 5\nh_sum{topic=\"t\"} 24\nh_count{topic=\"t\"} 5\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn sums_of_many_threads_are_exact() {
    let registry = Registry::new(100);
    let count: Family<(Topic,), Counter> = registry.family("n_total", "N.", ());
    let sizes: Family<(), Histogram> = registry.family("h", "H.", &SIZES);
    let level: Family<(), Gauge> = registry.family("g", "G.", ());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (count, sizes, level) = (count.get(&(Topic::new("t"),)), sizes.get(&()), level.get(&()));
                for n in 0..10_000_u64 {
                    count.inc();
                    sizes.observe_value(n % 20);
                    level.add(3_u64);
                    level.sub(3_u64);
                }
            });
        }
    });
    let text = registry.render();
    assert!(text.contains("n_total{topic=\"t\"} 80000\n"), "{text}");
    assert!(text.contains("h_count 80000\n"), "{text}");
    assert!(text.contains("h_sum 760000\n"), "{text}");
    assert!(text.contains("h_bucket{le=\"10\"} 44000\n"), "{text}");
    assert!(text.contains("g 0\n"), "{text}");
}

#[test]
fn a_gauge_takes_what_does_not_fit_at_its_limit() {
    let registry = Registry::new(100);
    let gauge: Family<(), Gauge> = registry.family("g", "G.", ());
    gauge.get(&()).set(u64::MAX);
    assert_eq!(gauge.get(&()).value(), i64::MAX);
    gauge.get(&()).set(-5_i64);
    assert!(registry.render().ends_with("g -5\n"));
}

#[test]
fn a_removed_topic_leaves_with_all_its_series_and_a_held_handle_does_not_bring_it_back() {
    let registry = Registry::new(100);
    let writes: Family<(Topic, Partition), Counter> = registry.family("w_total", "W.", ());
    let held = writes.get(&topic_partition("gone", 0));
    writes.get(&topic_partition("gone", 1)).inc();
    writes.get(&topic_partition("stays", 0)).inc();
    registry.retain_topics(&|topic| topic.name() != "gone");
    held.inc();
    let text = registry.render();
    assert!(!text.contains("gone"), "{text}");
    assert!(
        text.contains("w_total{topic=\"stays\",partition=\"0\"} 1\n"),
        "{text}"
    );
    let _reborn = writes.get(&topic_partition("gone", 0));
    assert!(
        registry
            .render()
            .contains("w_total{topic=\"gone\",partition=\"0\"} 0\n")
    );
}

#[test]
fn reserved_topics_outlive_the_removal_of_topics() {
    let registry = Registry::new(100);
    let errors: Family<(Topic,), Counter> = registry.family("e_total", "E.", ());
    errors.get(&(Topic::new(Topic::UNKNOWN),)).inc();
    registry.retain_topics(&|_| false);
    assert!(registry.render().contains("e_total{topic=\"~unknown\"} 1\n"));
}

#[test]
fn above_the_limit_the_largest_topic_folds_and_no_count_is_lost() {
    let registry = Registry::new(10);
    let writes: Family<(Topic, Partition), Counter> = registry.family("w_total", "W.", ());
    let small = writes.get(&topic_partition("small", 0));
    small.add(100);
    let large: Vec<Counter> = (0..9).map(|n| writes.get(&topic_partition("large", n))).collect();
    large.iter().for_each(Counter::inc);
    assert!(!registry.render().contains("~other"));

    let tenth = writes.get(&topic_partition("large", 9));
    tenth.add(10);
    // Handles given out before the fold still count.
    large.iter().for_each(Counter::inc);
    small.inc();
    writes.get(&topic_partition("large", 3)).add(1_000);
    let text = registry.render();
    let expected = "w_total{topic=\"large\",partition=\"~other\"} 1028\n\
                    w_total{topic=\"small\",partition=\"0\"} 101\n";
    assert!(text.ends_with(expected), "{text}");
    assert!(
        text.contains("streamhouse_metrics_folded_series{metric=\"w_total\"} 10\n"),
        "{text}"
    );

    registry.retain_topics(&|topic| topic.name() != "large");
    let text = registry.render();
    assert!(!text.contains("folded") && !text.contains("large"), "{text}");
}

#[test]
fn topics_beyond_the_limit_share_one_series() {
    let registry = Registry::new(3);
    let records: Family<(Topic,), Counter> = registry.family("r_total", "R.", ());
    for n in 0..100 {
        records.get(&(Topic::new(&format!("t{n}")),)).inc();
    }
    let text = registry.render();
    assert!(text.contains("r_total{topic=\"~other\"} 97\n"), "{text}");
    assert!(
        text.contains("streamhouse_metrics_folded_series{metric=\"r_total\"} 97\n"),
        "{text}"
    );
    assert_eq!(
        text.lines().filter(|line| line.starts_with("r_total{")).count(),
        4
    );
}

#[test]
fn a_family_without_series_and_a_computed_one_without_samples_say_nothing() {
    let registry = Registry::new(3);
    let _: Family<(Topic,), Counter> = registry.family("r_total", "R.", ());
    registry.computed("d", "D.", Kind::Gauge, &[], Vec::new);
    assert_eq!(registry.render(), "");
}
