//! What counting costs whoever counts, on two threads that count the same series at the same time, and what a
//! scrape of many partitions costs the thread that renders it; and what the spans of one produce cost while nobody
//! asks for them.
//!
//! A call here is everything that one batch, one read, one segment or one look-up counts. The clock is read
//! by the callers anyway and is not in it.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use streamhouse_observability::families::{
    BatchCount, CacheResult, ClusterView, FetchSource, GroupLag, GroupView, SealReason,
};
use streamhouse_observability::registry::claim_lane;
use streamhouse_observability::{LogOptions, Metrics, MetricsOptions, logging};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

const THREADS: usize = 2;

/// The time that `calls` calls took on each of the threads, the slower one's.
fn together(calls: u64, call: &(impl Fn(u64) + Sync)) -> Duration {
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    claim_lane();
                    start.wait();
                    let began = Instant::now();
                    (0..calls).for_each(call);
                    began.elapsed()
                })
            })
            .collect();
        let times = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_default());
        times.max().unwrap_or_default()
    })
}

fn counting(criterion: &mut Criterion) {
    let metrics = Metrics::new(MetricsOptions::default());
    let topic = metrics.topic("orders");
    let partition = metrics.partition("orders", 0);
    let mut group = criterion.benchmark_group("two threads");
    group.bench_function("produce: a batch", |bencher| {
        bencher.iter_custom(|calls| {
            together(calls, &|n| {
                topic.records.add(black_box(100));
                topic.bytes.add(black_box(10_000 + n % 7));
                topic.batch_size.observe_value(black_box(100));
                metrics.produce.batches(BatchCount::Ok).inc();
            })
        });
    });
    group.bench_function("fetch: a read", |bencher| {
        bencher.iter_custom(|calls| {
            together(calls, &|n| {
                topic
                    .fetch_bytes(FetchSource::Memory)
                    .add(black_box(10_000 + n % 7));
                let took = Duration::from_nanos(black_box(40_000 + n % 7));
                metrics.fetch.seconds(FetchSource::Memory).observe(took);
            })
        });
    });
    group.bench_function("segment: sealed and committed", |bencher| {
        bencher.iter_custom(|calls| {
            together(calls, &|n| {
                partition.segment_writes.inc();
                partition.segment_flushes.inc();
                let size = black_box(1_000_000 + n % 7);
                metrics
                    .produce
                    .flush_object_bytes(SealReason::Interval)
                    .observe_value(size);
            })
        });
    });
    group.bench_function("cache: a look-up", |bencher| {
        bencher.iter_custom(|calls| {
            together(calls, &|n| {
                metrics.cache.hits.inc();
                metrics
                    .cache
                    .bytes_total(CacheResult::Hit)
                    .add(black_box(10_000 + n % 7));
            })
        });
    });
    group.finish();
}

/// 10,000 partitions, each written and each read by three groups.
fn scrape(criterion: &mut Criterion) {
    let metrics: Arc<Metrics> = Metrics::new(MetricsOptions::default());
    let topics: Vec<String> = (0..100).map(|n| format!("topic-{n}")).collect();
    for topic in &topics {
        let _ = metrics.topic(topic);
        for number in 0..100 {
            metrics.partition(topic, number).segment_writes.add(7);
        }
    }
    let lags: Vec<GroupLag> = topics
        .iter()
        .flat_map(|topic| {
            (0..100).map(|partition| GroupLag {
                topic: topic.clone(),
                partition,
                records: 12_345,
                seconds: 1.234,
                expired: 0,
            })
        })
        .collect();
    let groups = (0..3).map(|n| GroupView {
        group: format!("group-{n}"),
        state: "Stable",
        members: 3,
        last_commit_seconds: Some(1.0),
        lags: lags.clone(),
    });
    metrics.set_cluster_view(Some(ClusterView {
        topics: topics.iter().map(|topic| (topic.clone(), 100)).collect(),
        agents: 1,
        groups: groups.collect(),
        ..ClusterView::default()
    }));
    let mut group = criterion.benchmark_group("scrape");
    group.sample_size(20);
    group.bench_function("10,000 partitions x 3 groups", |bencher| {
        bencher.iter(|| black_box(metrics.render()).len());
    });
    group.finish();
}

/// As on the way of a produce: a request with its fields, an append, an object, a commit, and a call with its
/// attempt to each store.
fn spans(criterion: &mut Criterion) {
    let metrics = Metrics::new(MetricsOptions::default());
    // With the log at its usual level and no collector.
    let Ok(_log) = logging::init(&LogOptions::default(), &metrics) else {
        return;
    };
    let mut group = criterion.benchmark_group("spans that nobody asks for");
    group.bench_function("produce: a request", |bencher| {
        bencher.iter(|| {
            let number = black_box(7);
            let request = tracing::debug_span!(
                "request",
                api = "Produce",
                correlation_id = %format_args!("agent-{number}"),
                client_id = black_box("client"),
                outcome = Empty,
                object_id = Empty,
            );
            let append = tracing::debug_span!("append", batches = number);
            let shared = match tracing::span_enabled!(tracing::Level::DEBUG) {
                true => tracing::debug_span!("flush"),
                false => Span::none(),
            };
            let calls = async {
                async {}
                    .instrument(tracing::debug_span!("metadata", operation = "commit"))
                    .await;
                async {}
                    .instrument(tracing::debug_span!("attempt", attempt = number))
                    .await;
            };
            let call = tracing::debug_span!("object_store", operation = "PUT");
            futures::executor::block_on(calls.instrument(call).instrument(request.clone()));
            request.record("outcome", "ok");
            black_box((append, shared)).0.is_disabled()
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = counting, scrape, spans
}
criterion_main!(benches);
