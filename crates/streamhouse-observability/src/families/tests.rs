//! The contract with those who read the metrics: what is born when, with which names and buckets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::*;

fn metrics() -> Arc<Metrics> {
    Metrics::new(MetricsOptions::default())
}

fn has(text: &str, line: &str) {
    assert!(
        text.lines().any(|found| found == line),
        "{line} is missing in\n{text}"
    );
}

#[test]
fn closed_label_sets_are_born_at_zero_at_the_start() {
    let text = metrics().render();
    for operation in Operation::ALL {
        has(
            &text,
            &format!("streamhouse_s3_requests_total{{operation=\"{operation}\"}} 0"),
        );
        has(
            &text,
            &format!("streamhouse_s3_latency_seconds_count{{operation=\"{operation}\"}} 0"),
        );
        for what in ["retry", "failed"] {
            let labels = format!("operation=\"{operation}\",error_type=\"{what}\"");
            has(&text, &format!("streamhouse_s3_errors_total{{{labels}}} 0"));
        }
    }
    for line in [
        "streamhouse_cache_hits_total 0",
        "streamhouse_cache_misses_total 0",
        "streamhouse_cache_size_bytes 0",
        "streamhouse_connections_active 0",
        "streamhouse_produce_batches_total{outcome=\"server_error\"} 0",
        "streamhouse_connections_rejected_total{reason=\"frame_too_large\"} 0",
        "streamhouse_log_events_total{level=\"error\"} 0",
        "streamhouse_log_lines_dropped_total 0",
        "streamhouse_verify_segments_total{result=\"missing\"} 0",
        "streamhouse_object_store_cost_usd_total{operation=\"PUT\"} 0",
        "streamhouse_producer_errors_total{topic=\"~unknown\",error_type=\"unknown_topic\"} 0",
    ] {
        has(&text, line);
    }
}

#[test]
fn nothing_is_shown_for_which_no_code_was_ever_asked() {
    let text = metrics().render();
    for name in [
        "consumer_",
        "topics_total",
        "agents_active",
        "metadata_operation",
        "runtime",
    ] {
        assert!(!text.contains(&format!("streamhouse_{name}")), "{name}");
    }
}

#[test]
fn a_topic_is_born_with_its_producer_series_at_zero() {
    let metrics = metrics();
    let topic = metrics.topic("orders");
    let text = metrics.render();
    has(&text, "streamhouse_producer_records_total{topic=\"orders\"} 0");
    has(&text, "streamhouse_producer_bytes_total{topic=\"orders\"} 0");
    has(
        &text,
        "streamhouse_producer_latency_seconds_count{topic=\"orders\"} 0",
    );
    has(&text, "streamhouse_producer_batch_size_count{topic=\"orders\"} 0");
    for error_type in ProducerErrorType::ALL {
        let labels = format!("topic=\"orders\",error_type=\"{error_type}\"");
        has(&text, &format!("streamhouse_producer_errors_total{{{labels}}} 0"));
    }
    topic.errors(ProducerErrorType::TooLarge).inc();
    topic.fetch_bytes(FetchSource::ObjectStore).add(9);
    let text = metrics.render();
    has(
        &text,
        "streamhouse_producer_errors_total{topic=\"orders\",error_type=\"too_large\"} 1",
    );
    has(
        &text,
        "streamhouse_fetch_bytes_total{topic=\"orders\",source=\"object_store\"} 9",
    );
}

#[test]
fn a_partition_is_born_with_writes_and_flushes_together() {
    let metrics = metrics();
    metrics.partition("orders", 3).segment_writes.inc();
    let text = metrics.render();
    has(
        &text,
        "streamhouse_segment_writes_total{topic=\"orders\",partition=\"3\"} 1",
    );
    has(
        &text,
        "streamhouse_segment_flushes_total{topic=\"orders\",partition=\"3\"} 0",
    );
}

#[test]
fn the_users_buckets_are_exactly_the_users() {
    let metrics = metrics();
    let _ = metrics.topic("t");
    let text = metrics.render();
    let bounds = |name: &str, labels: &str| -> Vec<String> {
        let prefix = format!("streamhouse_{name}_bucket{{{labels},le=\"");
        let rest = text.lines().filter_map(|line| line.strip_prefix(prefix.as_str()));
        rest.map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    };
    let expected = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    assert_eq!(
        bounds("producer_latency_seconds", "topic=\"t\""),
        expected("0.001 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 +Inf")
    );
    assert_eq!(
        bounds("producer_batch_size", "topic=\"t\""),
        expected("1 10 50 100 500 1000 5000 10000 +Inf")
    );
    assert_eq!(
        bounds("s3_latency_seconds", "operation=\"PUT\""),
        expected("0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf")
    );
    assert_eq!(
        bounds("object_store_attempt_seconds", "operation=\"PUT\"")[0],
        "0.00005"
    );
}

#[test]
fn every_family_has_one_help_and_one_type_before_its_samples() {
    let metrics = metrics();
    let _ = (
        metrics.topic("t"),
        metrics.partition("t", 0),
        metrics.api("Produce"),
        metrics.task("compaction"),
    );
    let _ = (
        metrics.metadata.operation("commit"),
        metrics.runtime_stall_seconds(),
    );
    metrics.register_flush_oldest(|| Duration::from_millis(1_500));
    let text = metrics.render();
    let mut seen = std::collections::BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(seen.insert(current.clone()), "{current} comes twice");
            assert!(rest.len() > current.len() + 1, "{current} has no help");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split(' ').next(), Some(current.as_str()));
        } else {
            assert!(line.starts_with(&current), "{line} stands under {current}");
            assert!(!line.contains("job=") && !line.contains("instance="), "{line}");
        }
    }
    has(&text, "streamhouse_flush_oldest_seconds 1.5");
}

#[test]
fn an_unknown_topic_shows_errors_and_nothing_else() {
    let metrics = metrics();
    let unknown = metrics.unknown_topic();
    unknown.errors(ProducerErrorType::UnknownTopic).inc();
    unknown.records.inc();
    let text = metrics.render();
    has(
        &text,
        "streamhouse_producer_errors_total{topic=\"~unknown\",error_type=\"unknown_topic\"} 1",
    );
    assert!(!text.contains("streamhouse_producer_records_total"), "{text}");
}

#[test]
fn a_forgotten_topic_leaves_every_family_and_a_new_one_of_its_name_starts_at_zero() {
    let metrics = metrics();
    let held = metrics.topic("orders");
    let _ = (metrics.partition("orders", 0), metrics.topic("stays"));
    held.records.add(5);
    metrics.forget_topic("orders");
    held.records.add(5);
    held.errors(ProducerErrorType::Fenced).inc();
    assert!(!held.is_alive());
    let text = metrics.render();
    assert!(!text.contains("orders"), "{text}");
    has(&text, "streamhouse_producer_records_total{topic=\"stays\"} 0");
    has(
        &text,
        "streamhouse_producer_errors_total{topic=\"~unknown\",error_type=\"invalid\"} 0",
    );
    assert!(metrics.topic("orders").is_alive());
    has(
        &metrics.render(),
        "streamhouse_producer_records_total{topic=\"orders\"} 0",
    );
}

#[test]
fn series_of_a_topic_that_only_consumers_named_can_be_told_to_leave() {
    let metrics = metrics();
    metrics.consumers.meet("g");
    metrics.consumers.meet_topic("g", "read");
    metrics
        .consumers
        .refused(Some("asked"), None, ConsumerErrorType::OutOfRange);
    let _ = (metrics.topic("written"), metrics.partition("stored", 0));
    let names = metrics.topic_names();
    for topic in ["read", "asked", "written", "stored"] {
        assert!(names.contains(topic), "{topic} is missing in {names:?}");
    }
    assert_eq!(names.len(), 4, "{names:?}");
    metrics.retain_topics(&|_| false);
    assert!(metrics.topic_names().is_empty());
}

#[test]
fn an_attempt_counts_in_both_histograms_of_its_operation() {
    let metrics = metrics();
    metrics
        .object_store
        .observe(Operation::Put, Duration::from_micros(60));
    let text = metrics.render();
    has(
        &text,
        "streamhouse_s3_latency_seconds_bucket{operation=\"PUT\",le=\"0.01\"} 1",
    );
    has(
        &text,
        "streamhouse_object_store_attempt_seconds_bucket{operation=\"PUT\",le=\"0.00005\"} 0",
    );
    has(
        &text,
        "streamhouse_object_store_attempt_seconds_bucket{operation=\"PUT\",le=\"0.0001\"} 1",
    );
}

#[test]
fn scrapes_that_come_together_share_one_rendering() {
    let metrics = metrics();
    let first = metrics.exposition();
    let second = metrics.exposition();
    // The same allocation, unless the first rendering has become too old in between.
    let too_old = metrics
        .rendered
        .lock()
        .as_ref()
        .is_some_and(|(_, text)| text.as_ptr() != first.as_ptr());
    assert!(too_old || first.as_ptr() == second.as_ptr());
}

#[test]
fn the_process_is_described_where_proc_exists() {
    let text = metrics().render();
    has(
        &text,
        &format!(
            "streamhouse_build_info{{version=\"{}\",revision=\"\"}} 1",
            env!("CARGO_PKG_VERSION")
        ),
    );
    if std::path::Path::new("/proc/self/stat").exists() {
        for name in [
            "cpu_seconds_total",
            "resident_memory_bytes",
            "open_fds",
            "start_time_seconds",
        ] {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name}");
        }
    }
}

struct Source {
    asked: AtomicUsize,
    answers: Mutex<Vec<Option<ClusterView>>>,
}

#[async_trait]
impl ClusterSource for Source {
    async fn cluster_view(&self) -> Option<ClusterView> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let next = self.answers.lock().pop();
        match next {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_cluster_is_asked_once_in_ten_seconds_and_absent_when_it_does_not_answer() {
    let metrics = metrics();
    let stored_bytes = Some(StoredBytes {
        live: 7,
        ..StoredBytes::default()
    });
    let topics = vec![("b".to_owned(), 2), ("a".to_owned(), 1)];
    let view = ClusterView {
        topics,
        agents: 1,
        stored_bytes,
        backlogs: vec![("deleting", 4), ("compaction", 0)],
        groups: Vec::new(),
        open_transactions: vec![("orders".to_owned(), 1.5)],
    };
    let source = Arc::new(Source {
        asked: AtomicUsize::new(0),
        answers: Mutex::new(vec![Some(view.clone()), None, Some(view)]),
    });
    metrics.set_cluster_source(source.clone());

    for _ in 0..3 {
        metrics.refresh_cluster_view().await;
    }
    assert_eq!(source.asked.load(Ordering::Relaxed), 1);
    let text = metrics.render();
    has(&text, "streamhouse_topics_total 2");
    has(&text, "streamhouse_agents_active 1");
    has(&text, "streamhouse_object_store_stored_bytes{state=\"live\"} 7");
    has(&text, "streamhouse_task_backlog{task=\"deleting\"} 4");
    has(&text, "streamhouse_task_backlog{task=\"compaction\"} 0");
    assert!(text.contains("partitions_total{topic=\"a\"} 1\nstreamhouse_partitions_total{topic=\"b\"} 2\n"));

    tokio::time::advance(Duration::from_secs(10)).await;
    metrics.refresh_cluster_view().await;
    assert_eq!(source.asked.load(Ordering::Relaxed), 2);
    assert!(!metrics.render().contains("streamhouse_topics_total"));

    tokio::time::advance(Duration::from_secs(10)).await;
    metrics.refresh_cluster_view().await;
    assert!(metrics.render().contains("streamhouse_topics_total 2"));

    // The last time the source hangs: its two seconds pass, and what it said before is gone.
    tokio::time::advance(Duration::from_secs(10)).await;
    let before = tokio::time::Instant::now();
    metrics.refresh_cluster_view().await;
    assert_eq!(before.elapsed(), Duration::from_secs(2));
    assert!(!metrics.render().contains("streamhouse_topics_total"));
}
