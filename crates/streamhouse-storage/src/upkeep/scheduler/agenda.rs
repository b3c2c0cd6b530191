//! Which task is due when: a pure table, given every "now".
//!
//! Invariant: a task that has nothing to do has no date, and no date means no wake-up. Commits do not
//! wake anything by themselves: the first one after a quiet time fixes one look for all that follow. A task that
//! is due again at once waits until every other one that is due had its turn.

use std::time::Duration;

use tokio::time::Instant;

use super::nudge::Heard;
use crate::upkeep::{Next, UpkeepOptions};

/// A failed task is tried again after this, then after twice as long, and so on.
const FAILURE_PAUSE_FIRST: Duration = Duration::from_secs(1);
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(300);

/// How often producers are looked through while something is committed.
const EXPIRE_EVERY: Duration = Duration::from_secs(3_600);

/// What upkeep does, in the order in which tasks that are due together run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Settle,
    Compaction,
    Purge,
    Trim,
    Retention,
    Deleting,
    Abandoned,
    Orphans,
    ExpireProducers,
    Verify,
}

impl Task {
    pub const ALL: [Self; 10] = [
        Self::Settle,
        Self::Compaction,
        Self::Purge,
        Self::Trim,
        Self::Retention,
        Self::Deleting,
        Self::Abandoned,
        Self::Orphans,
        Self::ExpireProducers,
        Self::Verify,
    ];

    /// The `task` label of its metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Settle => "settle",
            Self::Compaction => "compaction",
            Self::Purge => "purge",
            Self::Trim => "trim",
            Self::Retention => "retention",
            Self::Deleting => "deleting",
            Self::Abandoned => "abandoned",
            Self::Orphans => "orphans",
            Self::ExpireProducers => "expire_producers",
            Self::Verify => "verify",
        }
    }
}

/// See the module's head.
pub(super) struct Agenda {
    options: UpkeepOptions,
    due: [Option<Instant>; Task::ALL.len()],
    failures: [u32; Task::ALL.len()],
    /// The task that ran last.
    last: Task,
    /// When to look for what commits have left.
    commit_look: Option<Instant>,
    committed_since_expiry: bool,
    /// Commits do not have retention looked at before this.
    retention_not_before: Instant,
}

/// What the scheduler is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Hear commits anew, then call [`Agenda::look_after_commits`].
    Look,
    Run(Task),
    /// Sleep until then, or until nudged.
    Sleep(Option<Instant>),
}

impl Agenda {
    /// At start everything is looked at once; predecessors' prefixes when their PUTs cannot land any
    /// more.
    pub(super) fn new(options: UpkeepOptions, now: Instant) -> Self {
        let mut agenda = Self {
            due: [Some(now); Task::ALL.len()],
            failures: [0; Task::ALL.len()],
            last: Task::Verify,
            commit_look: None,
            committed_since_expiry: true,
            retention_not_before: now + options.retention_check_interval,
            options,
        };
        // As in Kafka a process that has just come up lets consumers come up first.
        agenda.due[Task::Retention as usize] = Some(agenda.retention_not_before);
        if agenda.options.verify_bytes_per_second == 0 {
            agenda.due[Task::Verify as usize] = None;
        }
        agenda.new_incarnation(now);
        agenda
    }

    pub(super) fn step(&self, now: Instant) -> Step {
        if self.commit_look.is_some_and(|look| look <= now) {
            return Step::Look;
        }
        let (before, after) = Task::ALL.split_at(self.last as usize + 1);
        for task in after.iter().chain(before) {
            if self.due[*task as usize].is_some_and(|due| due <= now) {
                return Step::Run(*task);
            }
        }
        Step::Sleep(self.due.iter().flatten().chain(&self.commit_look).min().copied())
    }

    pub(super) fn heard(&mut self, heard: Heard, now: Instant) {
        if heard.committed {
            self.commit_look.get_or_insert(now + self.options.settle_after);
        }
        if heard.topic_deleted {
            self.earliest(Task::Purge, now);
        }
        if heard.log_start_raised {
            self.earliest(Task::Trim, now);
        }
        if heard.retention_changed {
            self.earliest(Task::Retention, now + self.options.settle_after);
        }
        if heard.abandoned {
            self.earliest(Task::Abandoned, now);
        }
    }

    pub(super) fn look_after_commits(&mut self, now: Instant) {
        self.commit_look = None;
        self.committed_since_expiry = true;
        for task in [Task::Settle, Task::Compaction, Task::Deleting] {
            self.earliest(task, now);
        }
        if self.options.verify_bytes_per_second > 0 {
            self.earliest(Task::Verify, now);
        }
        self.earliest(Task::Retention, self.retention_not_before.max(now));
        self.earliest(Task::ExpireProducers, now + EXPIRE_EVERY);
    }

    /// The previous incarnation is a tombstone since about now.
    pub(super) fn new_incarnation(&mut self, now: Instant) {
        // A tombstone is due when it is older than the deadline, not when it is as old.
        let margin = Duration::from_secs(1);
        self.due[Task::Orphans as usize] = Some(now + self.options.put_deadline + margin);
    }

    pub(super) fn done(&mut self, task: Task, next: Next, now: Instant) {
        self.last = task;
        self.failures[task as usize] = 0;
        self.due[task as usize] = match next {
            Next::Idle => None,
            Next::Now => Some(now),
            Next::In(rest) => now.checked_add(rest),
        };
        match task {
            // What they took rows from may be named by nothing any more.
            Task::Purge | Task::Trim | Task::Compaction => self.earliest(Task::Deleting, now),
            Task::Retention => self.retention_not_before = now + self.options.retention_check_interval,
            // The last producer seen expires when it has been idle for that long, and nobody will say so.
            Task::ExpireProducers if std::mem::take(&mut self.committed_since_expiry) => {
                self.earliest(task, now + self.options.producer_expiry + EXPIRE_EVERY);
            }
            _ => {}
        }
    }

    pub(super) fn failed(&mut self, task: Task, now: Instant) {
        self.last = task;
        let failures = &mut self.failures[task as usize];
        let pause = FAILURE_PAUSE_FIRST
            .saturating_mul(1 << (*failures).min(16))
            .min(FAILURE_PAUSE_MAX);
        *failures += 1;
        self.due[task as usize] = Some(now + pause);
    }

    fn earliest(&mut self, task: Task, at: Instant) {
        // A failing task keeps its pause.
        if self.failures[task as usize] > 0 {
            return;
        }
        let due = &mut self.due[task as usize];
        *due = Some(due.map_or(at, |due| due.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(now: Instant) -> Agenda {
        let mut agenda = Agenda::new(UpkeepOptions::default(), now);
        agenda.committed_since_expiry = false;
        for task in Task::ALL {
            agenda.done(task, Next::Idle, now);
        }
        agenda.done(Task::Deleting, Next::Idle, now);
        agenda
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_nothing_to_do_is_never_woken() {
        let now = Instant::now();
        assert_eq!(
            settled(now).step(now + Duration::from_secs(1 << 30)),
            Step::Sleep(None)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn many_commits_share_one_look() {
        let now = Instant::now();
        let mut agenda = settled(now);
        let committed = Heard {
            committed: true,
            ..Heard::default()
        };
        let look = now + UpkeepOptions::default().settle_after;
        for second in 0..4 {
            agenda.heard(committed, now + Duration::from_secs(second));
            assert_eq!(
                agenda.step(now + Duration::from_secs(second)),
                Step::Sleep(Some(look))
            );
        }
        assert_eq!(agenda.step(look), Step::Look);
        agenda.look_after_commits(look);
        assert_eq!(agenda.step(look), Step::Run(Task::Settle));
        agenda.done(Task::Settle, Next::Idle, look);
        assert_eq!(agenda.step(look), Step::Run(Task::Compaction));
    }

    #[tokio::test(start_paused = true)]
    async fn commits_have_retention_looked_at_once_in_an_interval() {
        let now = Instant::now();
        let mut agenda = settled(now);
        let interval = UpkeepOptions::default().retention_check_interval;
        let quiet = [Task::Settle, Task::Compaction, Task::Deleting];
        for _ in 0..2 {
            agenda.look_after_commits(now);
            for task in quiet {
                agenda.done(task, Next::Idle, now);
            }
            agenda.due[Task::ExpireProducers as usize] = None;
            assert_eq!(agenda.step(now), Step::Sleep(Some(now + interval)));
        }
        let due = now + interval;
        assert_eq!(agenda.step(due), Step::Run(Task::Retention));
        agenda.done(Task::Retention, Next::Idle, due);
        assert_eq!(agenda.step(due), Step::Sleep(None));
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_are_due_again_at_once_take_turns_with_all_others() {
        let now = Instant::now();
        let mut agenda = settled(now);
        agenda.look_after_commits(now);
        agenda.due[Task::Retention as usize] = Some(now);
        let mut ran = Vec::new();
        for _ in 0..8 {
            let Step::Run(task) = agenda.step(now) else {
                panic!("something is due");
            };
            ran.push(task.name());
            let busy = matches!(task, Task::Settle | Task::Retention);
            agenda.done(task, if busy { Next::Now } else { Next::Idle }, now);
        }
        let first = ["settle", "compaction", "retention", "deleting"];
        let again = ["settle", "retention", "settle", "retention"];
        assert_eq!(ran, [first, again].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_task_waits_twice_as_long_each_time_whatever_is_nudged() {
        let now = Instant::now();
        let mut agenda = settled(now);
        for pause in [1, 2, 4, 8] {
            agenda.failed(Task::Deleting, now);
            agenda.look_after_commits(now);
            for task in [
                Task::Settle,
                Task::Compaction,
                Task::Retention,
                Task::ExpireProducers,
            ] {
                agenda.done(task, Next::Idle, now);
            }
            agenda.due[Task::ExpireProducers as usize] = None;
            assert_eq!(
                agenda.step(now),
                Step::Sleep(Some(now + Duration::from_secs(pause)))
            );
        }
        for _ in 0..20 {
            agenda.failed(Task::Deleting, now);
        }
        assert_eq!(agenda.step(now), Step::Sleep(Some(now + FAILURE_PAUSE_MAX)));
    }
}
