//! Runs of background tasks: compaction, retention, orphan collection.

use crate::registry::{Counter, Family, Registry, closed_label, static_label};

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
}

impl TaskMetrics {
    #[must_use]
    pub fn runs(&self, result: TaskResult) -> &Counter {
        &self.runs[result as usize]
    }
}

pub(super) struct TaskFamilies {
    runs: Family<(TaskName, TaskResult), Counter>,
}

impl TaskFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            runs: registry.family(
                "streamhouse_task_runs_total",
                "Runs of background tasks, by how they ended.",
                (),
            ),
        }
    }

    pub(super) fn task(&self, name: TaskName) -> TaskMetrics {
        TaskMetrics {
            runs: [TaskResult::Ok, TaskResult::Error].map(|result| self.runs.get(&(name, result))),
        }
    }
}
