//! The async runtime: how late its timers come, and how busy its workers are. Born when somebody watches it.

use tokio::runtime::{Handle, RuntimeMetrics};

use super::buckets;
use crate::registry::{Family, Histogram, Kind, Registry, Sample};

pub(super) struct RuntimeFamilies {
    stall: Family<(), Histogram>,
}

impl RuntimeFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            stall: registry.family(
                "streamhouse_runtime_stall_seconds",
                "How much later than asked for the runtime woke a timer.",
                &buckets::STALL,
            ),
        }
    }

    pub(super) fn stall(&self) -> Histogram {
        self.stall.get(&())
    }
}

/// What tokio says of a runtime, under its own prefix as other exporters have it.
pub(super) fn watch(registry: &Registry, runtime: &Handle) {
    let gauge = |name, help, value: fn(&RuntimeMetrics) -> usize| {
        let metrics = runtime.metrics();
        registry.computed(name, help, Kind::Gauge, &[], move || {
            vec![sample(Vec::new(), value(&metrics) as f64)]
        });
    };
    gauge(
        "tokio_workers",
        "Worker threads of the runtime.",
        RuntimeMetrics::num_workers,
    );
    gauge(
        "tokio_alive_tasks",
        "Tasks that have begun and not ended.",
        RuntimeMetrics::num_alive_tasks,
    );
    gauge(
        "tokio_global_queue_depth",
        "Tasks that are ready and that no worker has taken yet.",
        RuntimeMetrics::global_queue_depth,
    );
    let metrics = runtime.metrics();
    registry.computed(
        "tokio_worker_busy_seconds_total",
        "Time that each worker was not parked; at one second a second it is saturated.",
        Kind::Counter,
        &["worker"],
        move || {
            per_worker(&metrics, |worker| {
                metrics.worker_total_busy_duration(worker).as_secs_f64()
            })
        },
    );
    let metrics = runtime.metrics();
    registry.computed(
        "tokio_worker_parks_total",
        "How often each worker had nothing to do and was parked.",
        Kind::Counter,
        &["worker"],
        move || per_worker(&metrics, |worker| metrics.worker_park_count(worker) as f64),
    );
}

fn per_worker(metrics: &RuntimeMetrics, value: impl Fn(usize) -> f64) -> Vec<Sample> {
    let workers = 0..metrics.num_workers();
    workers
        .map(|worker| sample(vec![worker.to_string()], value(worker)))
        .collect()
}

fn sample(values: Vec<String>, value: f64) -> Sample {
    Sample { values, value }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::families::{Metrics, MetricsOptions};

    #[test]
    fn tasks_queues_and_busy_time_are_the_runtimes() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let metrics = Metrics::new(MetricsOptions::default());
        metrics.watch_runtime(runtime.handle());
        let value = |series: &str| {
            let text = metrics.render();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.map(|value| value.parse::<f64>().unwrap())
        };
        assert_eq!(value("tokio_workers"), Some(2.0));
        assert_eq!(value("tokio_alive_tasks"), Some(0.0));
        assert_eq!(value("tokio_global_queue_depth"), Some(0.0));
        let sleeping: Vec<_> = (0..3)
            .map(|_| runtime.spawn(async { tokio::time::sleep(Duration::from_secs(60)).await }))
            .collect();
        assert_eq!(value("tokio_alive_tasks"), Some(3.0));
        let busy = || {
            let of = |worker| value(&format!("tokio_worker_busy_seconds_total{{worker=\"{worker}\"}}"));
            of(0).unwrap() + of(1).unwrap()
        };
        let before = busy();
        let work = runtime.spawn(async { std::thread::sleep(Duration::from_millis(50)) });
        runtime.block_on(work).unwrap();
        // The worker adds its time when it parks.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while busy() - before < 0.05 {
            assert!(
                std::time::Instant::now() < deadline,
                "the busy time stays at {}",
                busy()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(value("tokio_worker_parks_total{worker=\"0\"}").unwrap() > 0.0);
        sleeping.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
