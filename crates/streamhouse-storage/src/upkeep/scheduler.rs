//! The one task that runs all upkeep: it sleeps until something is due or somebody nudges.
//!
//! Invariant: while nothing is due and nobody nudges, it asks neither store anything: an idle server
//! comes to rest. Tasks run one after the other; what a stop interrupts is safe to be interrupted.

mod agenda;
mod nudge;

use std::sync::Arc;

use streamhouse_observability::families::{TaskMetrics, TaskResult, VerifyMetrics, VerifyResult};
use streamhouse_observability::{Metrics, logging};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use agenda::Task;
pub use nudge::Nudge;

use super::abandoned::{Abandoned, AbandonedTask};
use super::compaction::CompactionTask;
use super::deleting::DeletingTask;
use super::expiry::{ExpireProducersTask, PurgeTask, SettleTask};
use super::orphans::OrphansTask;
use super::retention::{RetentionTask, TrimTask};
use super::verify::VerifyTask;
use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts};
use agenda::{Agenda, Step};

/// All upkeep of one agent.
pub struct Upkeep {
    parts: UpkeepParts,
    options: UpkeepOptions,
    nudge: Nudge,
    metrics: Vec<TaskMetrics>,
    settle: SettleTask,
    compaction: CompactionTask,
    purge: PurgeTask,
    trim: TrimTask,
    retention: RetentionTask,
    deleting: DeletingTask,
    abandoned: AbandonedTask,
    orphans: OrphansTask,
    expire_producers: ExpireProducersTask,
    verify: VerifyTask,
    damage: VerifyMetrics,
}

impl Upkeep {
    /// `nudge` and `abandoned` are the ones handed to the writer and to whoever deletes topics.
    pub fn new(
        parts: UpkeepParts,
        options: UpkeepOptions,
        nudge: Nudge,
        abandoned: Abandoned,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            settle: SettleTask(parts.clone()),
            compaction: CompactionTask::new(parts.clone(), options.clone(), abandoned.clone()),
            purge: PurgeTask(parts.clone()),
            trim: TrimTask(parts.clone()),
            retention: RetentionTask::new(parts.clone(), options.clone()),
            deleting: DeletingTask::new(parts.clone(), options.clone()),
            abandoned: AbandonedTask::new(parts.clone(), options.clone(), abandoned),
            orphans: OrphansTask::new(parts.clone(), options.clone(), metrics.orphan_bytes.clone()),
            expire_producers: ExpireProducersTask::new(parts.clone(), options.clone()),
            verify: VerifyTask::new(parts.clone(), options.clone(), metrics.verify.clone()),
            damage: metrics.verify.clone(),
            metrics: Task::ALL.iter().map(|task| metrics.task(task.name())).collect(),
            parts,
            options,
            nudge,
        }
    }

    /// Runs until `stop`. A run in hand is dropped then: no task's work is lost or doubled by that.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut agenda = Agenda::new(self.options.clone(), Instant::now());
        let mut writer_lives = true;
        loop {
            agenda.heard(self.nudge.hear(), Instant::now());
            match agenda.step(Instant::now()) {
                Step::Look => {
                    self.nudge.hear_commits();
                    agenda.look_after_commits(Instant::now());
                }
                Step::Run(task) => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        result = self.run_task(task) => self.conclude(&mut agenda, task, result),
                    }
                }
                Step::Sleep(until) => {
                    let due = async {
                        match until {
                            Some(until) => sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = self.nudge.rung() => {}
                        changed = self.parts.identity.changed(), if writer_lives => match changed {
                            Ok(()) => agenda.new_incarnation(Instant::now()),
                            Err(_) => writer_lives = false,
                        },
                        () = due => {}
                    }
                }
            }
        }
    }

    async fn run_task(&self, task: Task) -> Result<Next, UpkeepError> {
        match task {
            Task::Settle => self.settle.run_once().await,
            Task::Compaction => {
                let report = self.compaction.run_once().await?;
                self.damage
                    .segments(VerifyResult::Corrupt)
                    .add(report.damaged as u64);
                if let Some(object) = report.object {
                    tracing::info!(
                        object_id = %object, inputs = report.inputs,
                        swapped = report.swap.swapped, skipped = report.swap.skipped,
                        "inline objects were compacted"
                    );
                }
                Ok(report.next)
            }
            Task::Purge => self.purge.run_once().await,
            Task::Trim => self.trim.run_once().await,
            Task::Retention => {
                let report = self.retention.run_once().await?;
                if report.raised > 0 {
                    tracing::info!(partitions = report.raised, "retention moved the start of logs");
                    self.nudge.log_start_raised();
                }
                Ok(report.next)
            }
            Task::Deleting => Ok(self.deleting.run_once().await?.next),
            Task::Abandoned => self.abandoned.run_once().await,
            Task::Orphans => Ok(self.orphans.run_once().await?.next),
            Task::ExpireProducers => {
                let expired = self.expire_producers.run_once().await?;
                tracing::debug!(expired, "idle producers were forgotten");
                Ok(Next::Idle)
            }
            Task::Verify => Ok(self.verify.run_once().await?.next),
        }
    }

    fn conclude(&self, agenda: &mut Agenda, task: Task, result: Result<Next, UpkeepError>) {
        let metrics = &self.metrics[task as usize];
        match result {
            Ok(next) => {
                metrics.ran(TaskResult::Ok);
                agenda.done(task, next, Instant::now());
            }
            Err(error) => {
                metrics.ran(TaskResult::Error);
                let (task_name, error_type) = (task.name(), error.error_type());
                if let Some(suppressed) = logging::admit(task_name, error_type, "") {
                    tracing::warn!(
                        task = task_name,
                        error_type,
                        %error,
                        suppressed,
                        "upkeep failed and will be tried again"
                    );
                }
                agenda.failed(task, Instant::now());
            }
        }
    }
}
