//! What a scrape shows: the figures after known work, and no family that nobody has described.

use std::collections::BTreeSet;

use kafka_protocol::messages::ApiVersionsRequest;
use uuid::Uuid;

use crate::support::requests::{create, fetch, produce};
use crate::support::{Server, batch, records};

/// Every family there may be: name, without the prefix `streamhouse_`, and type.
const FAMILIES: &[(&str, &str)] = &[
    // The users'.
    ("producer_records_total", "counter"),
    ("producer_bytes_total", "counter"),
    ("producer_latency_seconds", "histogram"),
    ("producer_batch_size", "histogram"),
    ("producer_errors_total", "counter"),
    ("segment_writes_total", "counter"),
    ("segment_flushes_total", "counter"),
    ("s3_requests_total", "counter"),
    ("s3_errors_total", "counter"),
    ("s3_latency_seconds", "histogram"),
    ("cache_hits_total", "counter"),
    ("cache_misses_total", "counter"),
    ("cache_size_bytes", "gauge"),
    ("connections_active", "gauge"),
    ("partitions_total", "gauge"),
    ("topics_total", "gauge"),
    ("agents_active", "gauge"),
    ("uptime_seconds", "gauge"),
    // Ours.
    ("api_requests_total", "counter"),
    ("api_seconds", "histogram"),
    ("backpressure_seconds_total", "counter"),
    ("build_info", "gauge"),
    ("cache_bytes_total", "counter"),
    ("cache_evictions_total", "counter"),
    ("cache_limit_bytes", "gauge"),
    ("client_connections_total", "counter"),
    ("client_metrics_ignored_total", "counter"),
    ("client_pushes_total", "counter"),
    ("client_rebalance_seconds_total", "counter"),
    ("cluster_snapshot_timestamp_seconds", "gauge"),
    ("connections_rejected_total", "counter"),
    ("fetch_bytes_total", "counter"),
    ("fetch_seconds", "histogram"),
    ("fetch_session_evictions_total", "counter"),
    ("fetch_session_partitions", "gauge"),
    ("fetch_sessions", "gauge"),
    ("fetch_wakeup_seconds", "histogram"),
    ("flush_object_bytes", "histogram"),
    ("flush_oldest_seconds", "gauge"),
    ("health_component", "gauge"),
    ("inflight_bytes", "gauge"),
    ("inflight_limit_bytes", "gauge"),
    ("log_events_total", "counter"),
    ("log_lines_dropped_total", "counter"),
    ("metadata_errors_total", "counter"),
    ("metadata_operation_seconds", "histogram"),
    ("object_store_attempt_seconds", "histogram"),
    ("object_store_bytes_total", "counter"),
    ("object_store_cost_usd_total", "counter"),
    ("object_store_stored_bytes", "gauge"),
    ("produce_batches_total", "counter"),
    ("produce_stage_seconds", "histogram"),
    ("runtime_stall_seconds", "histogram"),
    ("task_backlog", "gauge"),
    ("task_last_success_timestamp_seconds", "gauge"),
    ("task_runs_total", "counter"),
    ("verify_segments_total", "counter"),
];

/// The operating system's view, as every exporter names it.
const PROCESS: &[(&str, &str)] = &[
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
];

/// The async runtime's, likewise.
const RUNTIME: &[(&str, &str)] = &[
    ("tokio_alive_tasks", "gauge"),
    ("tokio_global_queue_depth", "gauge"),
    ("tokio_worker_busy_seconds_total", "counter"),
    ("tokio_worker_parks_total", "counter"),
    ("tokio_workers", "gauge"),
];

/// The series that must have exactly this value.
async fn assert_figures(server: &Server, expected: &[(&str, f64)]) {
    let metrics = &server.running.agent.metrics;
    metrics.refresh_cluster_view().await;
    let text = metrics.render();
    for (series, value) in expected {
        let shown = text.lines().find_map(|line| {
            line.strip_prefix("streamhouse_")?
                .strip_prefix(series)?
                .strip_prefix(' ')
        });
        assert_eq!(shown.map(str::parse), Some(Ok(*value)), "{series}\n{text}");
    }
}

#[tokio::test]
async fn a_scrape_shows_the_right_figures_after_known_work() {
    let server = Server::with("inline_bytes = 0\ntail_bytes = '1MiB'").await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 3)).await;
    let puts = server.metric("streamhouse_s3_requests_total{operation=\"PUT\"}");
    let gets = server.metric("streamhouse_s3_requests_total{operation=\"GET\"}");

    // Two batches that the tail cannot both hold: the first has to be loaded from its object.
    let large = "x".repeat(700_000);
    let first = batch(1, &[large.as_str(), "b", "c"]);
    let second = batch(4, &[large.as_str(), "e"]);
    for records in [&first, &second] {
        client
            .call(9, &produce(9, "orders", Uuid::nil(), 1, records.clone()))
            .await;
    }
    let mut damaged = first.to_vec();
    damaged[1_000] ^= 1;
    client
        .call(9, &produce(9, "orders", Uuid::nil(), 1, damaged.into()))
        .await;
    client
        .call(9, &produce(9, "nothing", Uuid::nil(), 0, second.clone()))
        .await;
    let mut one_batch = fetch(12, "orders", Uuid::nil(), 1, 0);
    one_batch.topics[0].partitions[0].partition_max_bytes = 1;
    for _ in 0..2 {
        let response = client.call(12, &one_batch).await;
        let fetched = response.responses[0].partitions[0].records.clone();
        assert_eq!(records(fetched).len(), 3);
    }
    let tail = client.call(12, &fetch(12, "orders", Uuid::nil(), 1, 3)).await;
    assert_eq!(records(tail.responses[0].partitions[0].records.clone()).len(), 2);
    // What is counted when a response has been written is counted before the next request is read.
    client.call(0, &ApiVersionsRequest::default()).await;

    let (first, second) = (first.len() as f64, second.len() as f64);
    assert_figures(
        &server,
        &[
            ("producer_records_total{topic=\"orders\"}", 5.0),
            ("producer_bytes_total{topic=\"orders\"}", first + second),
            ("producer_latency_seconds_count{topic=\"orders\"}", 2.0),
            ("producer_batch_size_count{topic=\"orders\"}", 2.0),
            ("producer_batch_size_sum{topic=\"orders\"}", 5.0),
            ("producer_batch_size_bucket{topic=\"orders\",le=\"1\"}", 0.0),
            ("producer_batch_size_bucket{topic=\"orders\",le=\"10\"}", 2.0),
            (
                "producer_errors_total{topic=\"orders\",error_type=\"corrupt\"}",
                1.0,
            ),
            (
                "producer_errors_total{topic=\"orders\",error_type=\"agent_error\"}",
                0.0,
            ),
            (
                "producer_errors_total{topic=\"~unknown\",error_type=\"unknown_topic\"}",
                1.0,
            ),
            ("segment_writes_total{topic=\"orders\",partition=\"1\"}", 2.0),
            ("segment_flushes_total{topic=\"orders\",partition=\"1\"}", 2.0),
            ("s3_requests_total{operation=\"PUT\"}", puts + 2.0),
            ("s3_requests_total{operation=\"GET\"}", gets + 1.0),
            ("s3_latency_seconds_count{operation=\"PUT\"}", puts + 2.0),
            ("s3_errors_total{operation=\"PUT\",error_type=\"retry\"}", 0.0),
            ("s3_errors_total{operation=\"GET\",error_type=\"failed\"}", 0.0),
            ("cache_misses_total", 1.0),
            ("cache_hits_total", 1.0),
            ("cache_evictions_total", 0.0),
            ("cache_bytes_total{result=\"miss\"}", first),
            ("cache_bytes_total{result=\"hit\"}", first),
            ("connections_active", 1.0),
            ("partitions_total{topic=\"orders\"}", 3.0),
            ("topics_total", 1.0),
            ("agents_active", 1.0),
            ("produce_batches_total{outcome=\"ok\"}", 2.0),
            ("produce_batches_total{outcome=\"client_error\"}", 2.0),
            (
                "fetch_bytes_total{topic=\"orders\",source=\"object_store\"}",
                first,
            ),
            ("fetch_bytes_total{topic=\"orders\",source=\"memory\"}", first),
            ("fetch_bytes_total{topic=\"orders\",source=\"tail\"}", second),
            ("fetch_seconds_count{source=\"object_store\"}", 1.0),
            ("fetch_seconds_count{source=\"memory\"}", 1.0),
            ("fetch_seconds_count{source=\"tail\"}", 1.0),
            ("api_requests_total{api=\"Fetch\",outcome=\"ok\"}", 3.0),
            ("metadata_operation_seconds_count{operation=\"commit\"}", 2.0),
            (
                "metadata_operation_seconds_count{operation=\"create_topic\"}",
                1.0,
            ),
            (
                "metadata_errors_total{operation=\"commit\",error_type=\"unavailable\"}",
                0.0,
            ),
            ("inflight_bytes", 0.0),
            ("object_store_stored_bytes{state=\"inline\"}", 0.0),
            ("task_backlog{task=\"deleting\"}", 0.0),
        ],
    )
    .await;
    assert!(server.metric("streamhouse_uptime_seconds") > 0.0);
    // An entry is charged what it takes beside its bytes, too.
    let held = server.metric("streamhouse_cache_size_bytes");
    assert!((first..first + 1_024.0).contains(&held), "{held} for {first}");
}

#[tokio::test]
async fn every_family_of_a_scrape_is_described_and_every_described_one_is_there() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("orders", 1)).await;
    client
        .call(9, &produce(9, "orders", Uuid::nil(), 0, batch(1, &["a"])))
        .await;
    let metrics = &server.running.agent.metrics;
    metrics.refresh_cluster_view().await;
    // Upkeep looks at everything once at start.
    while !metrics.render().contains("task_last_success_timestamp_seconds") {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let text = metrics.render();
    let shown: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    let ours = FAMILIES
        .iter()
        .map(|(name, kind)| format!("streamhouse_{name} {kind}"));
    let process = RUNTIME
        .iter()
        .chain(PROCESS)
        .map(|(name, kind)| format!("{name} {kind}"));
    let mut described: BTreeSet<String> = ours.collect();
    let has_proc = shown.iter().any(|family| family.starts_with("process_"));
    described.extend(process.filter(|family| has_proc || !family.starts_with("process_")));
    let described: BTreeSet<&str> = described.iter().map(String::as_str).collect();
    assert_eq!(shown, described);

    // What `promtool check metrics` says of the names: two gauges whose names were given.
    let misnamed: Vec<&str> = shown
        .into_iter()
        .filter(|family| family.contains("_total ") != family.ends_with(" counter"))
        .collect();
    assert_eq!(
        misnamed,
        [
            "streamhouse_partitions_total gauge",
            "streamhouse_topics_total gauge"
        ]
    );
}
