//! `docs/metrics.md` is what the registry of a running server says of itself, written out.
//!
//! The user's 22 metrics stand first, in the user's order; the rest by name. `UPDATE_DOCS=1` writes the
//! file anew; without it a difference fails.

use std::fmt::Write as _;
use std::path::Path;

use streamhouse_observability::registry::Description;

use crate::support::Server;

/// The 22 that were asked for by name, without the prefix `streamhouse_`.
const ASKED_FOR: [&str; 22] = [
    "producer_records_total",
    "producer_bytes_total",
    "producer_latency_seconds",
    "producer_batch_size",
    "producer_errors_total",
    "consumer_records_total",
    "consumer_lag",
    "consumer_rebalances_total",
    "consumer_errors_total",
    "segment_writes_total",
    "segment_flushes_total",
    "s3_requests_total",
    "s3_errors_total",
    "s3_latency_seconds",
    "cache_hits_total",
    "cache_misses_total",
    "cache_size_bytes",
    "connections_active",
    "partitions_total",
    "topics_total",
    "agents_active",
    "uptime_seconds",
];

const HEAD: &str = "\
# Metrics

`GET /metrics` on the HTTP address, Prometheus text 0.0.4. This page is generated from the registry of a
running server by the test `the_reference_of_metrics_is_what_the_registry_says`; run it with
`UPDATE_DOCS=1` after a change. Labels with a closed set of values name them. Series without a
topic or partition are born at 0 with the process, the others when their topic or partition is first
seen; a deleted topic's series go with it.
";

fn section(out: &mut String, title: &str, families: &[&Description]) {
    let _ = write!(
        out,
        "\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"
    );
    for family in families {
        let labels: Vec<String> = family
            .labels
            .iter()
            .map(|(key, values)| match values {
                [] => format!("`{key}`"),
                values => format!("`{key}` = {}", values.join(", ")),
            })
            .collect();
        let buckets = match family.buckets {
            Some(_) => format!(" Buckets: {}.", family.bounds()),
            None => String::new(),
        };
        let (name, kind, help) = (family.name, family.kind, family.help);
        let _ = writeln!(
            out,
            "| `{name}` | {kind} | {} | {help}{buckets} |",
            labels.join("; ")
        );
    }
}

#[tokio::test]
async fn the_reference_of_metrics_is_what_the_registry_says() {
    let server = Server::start().await;
    let described = server.running.agent.metrics.describe();
    let find = |name: &&str| {
        let name = format!("streamhouse_{name}");
        described.iter().find(|family| family.name == name)
    };
    let asked_for: Vec<&Description> = ASKED_FOR.iter().filter_map(find).collect();
    let is_asked_for = |family: &&Description| asked_for.iter().any(|other| other.name == family.name);
    let (ours, process): (Vec<&Description>, Vec<&Description>) = described
        .iter()
        .filter(|family| !is_asked_for(family))
        .partition(|family| family.name.starts_with("streamhouse_"));

    let mut text = HEAD.to_owned();
    section(&mut text, "The first to look at", &asked_for);
    section(&mut text, "Beyond them", &ours);
    section(&mut text, "The process", &process);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        written, text,
        "docs/metrics.md is out of date: UPDATE_DOCS=1 writes it anew"
    );
}
