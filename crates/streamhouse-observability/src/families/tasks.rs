//! Runs of background tasks: compaction, retention, orphan collection and the rest of upkeep.
//!
//! A task without work does not run, so the time of its last success alone does not say that it is overdue:
//! together with its backlog it does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::registry::{Counter, Family, Kind, Registry, Sample, closed_label, static_label};

static_label! {
    /// A background task by name.
    TaskName, "task"
}

closed_label! {
    /// How a run ended. A run that found nothing to do is a success.
    TaskResult, "result" {
        Ok = "ok",
        Error = "error",
    }
}

/// One task's handles, born together.
#[derive(Clone)]
pub struct TaskMetrics {
    runs: [Counter; 2],
    /// Milliseconds since 1970; 0 before the first.
    last_success: Arc<AtomicU64>,
}

impl TaskMetrics {
    /// A run has ended.
    pub fn ran(&self, result: TaskResult) {
        self.runs[result as usize].inc();
        if result == TaskResult::Ok {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.last_success.store(millis, Relaxed);
        }
    }
}

pub(super) struct TaskFamilies {
    runs: Family<(TaskName, TaskResult), Counter>,
    last_successes: Arc<Mutex<BTreeMap<TaskName, Arc<AtomicU64>>>>,
}

impl TaskFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        let last_successes: Arc<Mutex<BTreeMap<TaskName, Arc<AtomicU64>>>> = Arc::default();
        let shown = last_successes.clone();
        registry.computed(
            "streamhouse_task_last_success_timestamp_seconds",
            "When a background task last ended well, in seconds since 1970; a task without work does not run.",
            Kind::Gauge,
            &["task"],
            move || {
                let shown = shown.lock();
                let known = shown.iter().map(|(name, at)| (name, at.load(Relaxed)));
                known
                    .filter(|(_, at)| *at > 0)
                    .map(|(name, at)| Sample {
                        values: vec![name.0.to_owned()],
                        value: at as f64 / 1_000.0,
                    })
                    .collect()
            },
        );
        Self {
            runs: registry.family(
                "streamhouse_task_runs_total",
                "Runs of background tasks, by how they ended.",
                (),
            ),
            last_successes,
        }
    }

    pub(super) fn task(&self, name: TaskName) -> TaskMetrics {
        TaskMetrics {
            runs: [TaskResult::Ok, TaskResult::Error].map(|result| self.runs.get(&(name, result))),
            last_success: self.last_successes.lock().entry(name).or_default().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::{Metrics, MetricsOptions};

    #[test]
    fn only_a_success_moves_the_time_of_the_last_one() {
        let metrics = Metrics::new(MetricsOptions::default());
        let task = metrics.task("compaction");
        let shown = || {
            let text = metrics.render();
            let prefix = "streamhouse_task_last_success_timestamp_seconds{task=\"compaction\"} ";
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
            line.map(|value| value.parse::<f64>().unwrap())
        };
        task.ran(TaskResult::Error);
        assert_eq!(shown(), None, "it has never ended well");
        let before = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        task.ran(TaskResult::Ok);
        let first = shown().unwrap();
        assert!(
            (before - 0.001..before + 60.0).contains(&first),
            "{first} after {before}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
        task.ran(TaskResult::Error);
        assert_eq!(shown(), Some(first));
        task.ran(TaskResult::Ok);
        assert!(shown().unwrap() > first);
    }
}
