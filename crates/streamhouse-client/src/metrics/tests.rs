//! The nine series: names and kinds as the server's, born at zero, gone with their topic.

use std::time::Duration;

use streamhouse_observability::families::{Metrics, MetricsOptions};

use super::*;

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

#[test]
fn names_types_labels_and_buckets_are_the_servers() {
    let client = ClientMetrics::default();
    let server = Metrics::new(MetricsOptions::default()).describe();
    let ours: Vec<_> = client
        .registry()
        .describe()
        .into_iter()
        .filter(|family| family.name != "streamhouse_metrics_folded_series")
        .collect();
    assert_eq!(ours.len(), 9);
    for family in ours {
        let theirs = server.iter().find(|theirs| theirs.name == family.name);
        let theirs = theirs.unwrap_or_else(|| panic!("the server has no {}", family.name));
        let keys =
            |labels: &[(&'static str, &[&str])]| labels.iter().map(|label| label.0).collect::<Vec<_>>();
        assert_eq!(family.kind, theirs.kind, "{}", family.name);
        assert_eq!(keys(&family.labels), keys(&theirs.labels), "{}", family.name);
        assert_eq!(family.bounds(), theirs.bounds(), "{}", family.name);
        for (key, values) in &theirs.labels {
            let here = family.labels.iter().find(|label| label.0 == *key).unwrap().1;
            let missing: Vec<_> = values.iter().filter(|value| !here.contains(value)).collect();
            assert!(missing.is_empty(), "{}: {key} lacks {missing:?}", family.name);
        }
    }
}

#[test]
fn a_topics_series_are_born_at_zero_and_count_a_batch_as_one() {
    let metrics = ClientMetrics::default();
    let topics = metrics.topics();
    topics.meet("orders");
    let text = metrics.render();
    for line in [
        "streamhouse_producer_records_total{topic=\"orders\"} 0",
        "streamhouse_producer_bytes_total{topic=\"orders\"} 0",
        "streamhouse_producer_latency_seconds_count{topic=\"orders\"} 0",
        "streamhouse_producer_batch_size_count{topic=\"orders\"} 0",
        "streamhouse_producer_errors_total{topic=\"orders\",error_type=\"agent_error\"} 0",
    ] {
        assert!(has(&text, line), "{line} is missing in\n{text}");
    }
    topics
        .get("orders")
        .acknowledged(20, 345, Some(Duration::from_millis(7)));
    topics.get("orders").failed(ProducerErrorType::Fenced);
    let text = metrics.render();
    for line in [
        "streamhouse_producer_records_total{topic=\"orders\"} 20",
        "streamhouse_producer_bytes_total{topic=\"orders\"} 345",
        "streamhouse_producer_latency_seconds_bucket{topic=\"orders\",le=\"0.005\"} 0",
        "streamhouse_producer_latency_seconds_bucket{topic=\"orders\",le=\"0.01\"} 1",
        "streamhouse_producer_batch_size_bucket{topic=\"orders\",le=\"10\"} 0",
        "streamhouse_producer_batch_size_bucket{topic=\"orders\",le=\"50\"} 1",
        "streamhouse_producer_errors_total{topic=\"orders\",error_type=\"fenced\"} 1",
    ] {
        assert!(has(&text, line), "{line} is missing in\n{text}");
    }
    metrics.forget_topic("orders");
    assert!(!metrics.render().contains("orders"));
    topics.get("orders").acknowledged(1, 1, None);
    assert!(has(
        &metrics.render(),
        "streamhouse_producer_records_total{topic=\"orders\"} 1"
    ));
}

#[test]
fn a_group_counts_by_topic_and_failures_without_one_have_an_empty_topic() {
    let metrics = ClientMetrics::default();
    let group = metrics.group("g");
    group.topic("orders").add(3);
    group.rebalanced();
    group.failed("", ConsumerErrorType::StaleGeneration);
    let text = metrics.render();
    for line in [
        "streamhouse_consumer_records_total{topic=\"orders\",consumer_group=\"g\"} 3",
        "streamhouse_consumer_rebalances_total{consumer_group=\"g\"} 1",
        "streamhouse_consumer_errors_total{topic=\"orders\",consumer_group=\"g\",error_type=\"agent_error\"} 0",
        "streamhouse_consumer_errors_total{topic=\"\",consumer_group=\"g\",error_type=\"stale_generation\"} 1",
    ] {
        assert!(has(&text, line), "{line} is missing in\n{text}");
    }
}

struct Behind(u64);

impl LagSource for Behind {
    fn group(&self) -> &str {
        "g"
    }

    fn lags(&self) -> Vec<(Arc<str>, i32, u64)> {
        vec![(Arc::from("orders"), 1, self.0), (Arc::from("orders1"), 11, 4)]
    }
}

#[test]
fn lag_is_asked_for_at_the_scrape_and_goes_with_its_consumer() {
    let metrics = ClientMetrics::default();
    let lag = "streamhouse_consumer_lag{topic=\"orders\",partition=\"1\",consumer_group=\"g\"} ";
    let first = Arc::new(Behind(7));
    let watched: Weak<Behind> = Arc::downgrade(&first);
    metrics.watch_lag(watched);
    assert!(has(&metrics.render(), &format!("{lag}7")), "{}", metrics.render());
    // Two that know a partition while it moves: one series, not two.
    let second = Arc::new(Behind(2));
    let watched: Weak<Behind> = Arc::downgrade(&second);
    metrics.watch_lag(watched);
    assert!(has(&metrics.render(), &format!("{lag}2")));
    assert_eq!(metrics.render().matches(lag).count(), 1);
    drop(second);
    assert!(has(&metrics.render(), &format!("{lag}7")));
    drop(first);
    assert!(!metrics.render().contains("consumer_lag"));
}
