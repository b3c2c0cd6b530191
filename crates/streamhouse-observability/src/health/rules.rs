//! The rules of health, pure: what a component's reports make of it, and what the components make of
//! the agent. Times are durations since the registry's start and come in as arguments.
//!
//! A component fails after three failures in a row, or ten seconds after it was first tried in vain: an
//! attempt that failed or has no answer yet, and no success since. One success heals, after a failed write
//! only that of a write. Silence alone is no fault: an idle agent is healthy.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Failures in a row that make a component failed.
pub const FAILURES_MAX: u32 = 3;
/// How long after a first attempt in vain a component is failed, if no success came since.
pub const UNHEALED_MAX: Duration = Duration::from_secs(10);

/// Whom a failed component concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// This agent only: its clients do better elsewhere.
    Agent,
    /// A dependency of all agents: elsewhere is no better.
    Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentState {
    /// It has not succeeded yet.
    Starting,
    Ok,
    Failed,
}

/// What was tried. A write that went well shows that reads would, not the other way round: a full disk and
/// a bucket that takes nothing more can still be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Names an attempt until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId(u64);

/// What is remembered of one component.
#[derive(Clone, Debug, Default)]
pub struct Track {
    last_success: Option<Duration>,
    last_write: Option<Duration>,
    /// Of the last success whose time was taken.
    latency: Option<Duration>,
    /// The first success after the last failure, or the first at all.
    ok_since: Option<Duration>,
    failures: u32,
    /// A write is among the failures: only a write heals.
    write_failed: bool,
    first_failure: Option<Duration>,
    /// When the failures in a row became too many.
    given_up: Option<Duration>,
    last_error: Option<(String, Duration)>,
    next_attempt: u64,
    /// Attempts without an answer so far, and when they began.
    underway: BTreeMap<AttemptId, (Access, Duration)>,
}

impl Track {
    /// An attempt begins. While it has no answer it counts as one that fails.
    pub fn begin(&mut self, now: Duration, access: Access) -> AttemptId {
        let id = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        self.underway.insert(id, (access, now));
        id
    }

    /// Nobody waits for the attempt any more: it says nothing.
    pub fn forget(&mut self, id: AttemptId) {
        self.underway.remove(&id);
    }

    /// The attempt went well; `access` is what it turned out to be.
    pub fn attempt_succeeded(&mut self, now: Duration, id: AttemptId, access: Access) {
        let began = self.underway.remove(&id).map(|(_, began)| began);
        self.succeeded(now, access, began.map(|began| now.saturating_sub(began)));
    }

    /// The attempt failed. What went well since it began counts more than how long it took.
    pub fn attempt_failed(&mut self, now: Duration, id: AttemptId, error: &str) {
        let (access, began) = self.underway.remove(&id).unwrap_or((Access::Write, now));
        let since = began.max(self.covered(access).unwrap_or_default());
        self.failed(now, since, access, error);
    }

    pub fn success(&mut self, now: Duration) {
        self.succeeded(now, Access::Write, None);
    }

    pub fn failure(&mut self, now: Duration, error: &str) {
        self.failed(now, now, Access::Read, error);
    }

    /// A fault that needs no repetition to be believed.
    pub fn down(&mut self, now: Duration, error: &str) {
        self.failure(now, error);
        self.given_up.get_or_insert(now);
    }

    fn succeeded(&mut self, now: Duration, access: Access, took: Option<Duration>) {
        if self.write_failed && access == Access::Read {
            return;
        }
        if self.failures > 0 || self.ok_since.is_none() {
            self.ok_since = Some(now);
        }
        self.last_success = Some(now);
        if access == Access::Write {
            self.last_write = Some(now);
        }
        self.latency = took.or(self.latency);
        self.failures = 0;
        self.write_failed = false;
        self.first_failure = None;
        self.given_up = None;
    }

    fn failed(&mut self, now: Duration, since: Duration, access: Access, error: &str) {
        self.failures = self.failures.saturating_add(1);
        self.write_failed |= access == Access::Write;
        self.first_failure = Some(self.first_failure.map_or(since, |first| first.min(since)));
        if self.failures >= FAILURES_MAX {
            self.given_up.get_or_insert(now);
        }
        self.last_error = Some((error.to_owned(), now));
    }

    /// The last success that shows that such an access works.
    fn covered(&self, access: Access) -> Option<Duration> {
        match access {
            Access::Read => self.last_success,
            Access::Write => self.last_write,
        }
    }

    /// Since when something has been tried and nothing like it went well.
    fn unanswered_since(&self) -> Option<Duration> {
        let each = self.underway.values();
        each.map(|(access, began)| self.covered(*access).map_or(*began, |last| last.max(*began)))
            .min()
    }

    /// When the failures of now became a failed component, if they have.
    fn failed_since(&self, now: Duration) -> Option<Duration> {
        let unhealed = [self.first_failure, self.unanswered_since()]
            .into_iter()
            .flatten()
            .map(|first| first + UNHEALED_MAX)
            .filter(|limit| *limit <= now);
        unhealed.chain(self.given_up).min()
    }

    #[must_use]
    pub fn state(&self, now: Duration) -> ComponentState {
        if self.failed_since(now).is_some() {
            ComponentState::Failed
        } else if self.last_success.is_some() {
            ComponentState::Ok
        } else {
            ComponentState::Starting
        }
    }

    /// How long the component has been in its state.
    #[must_use]
    pub fn in_state_for(&self, now: Duration) -> Duration {
        now.saturating_sub(self.failed_since(now).or(self.ok_since).unwrap_or_default())
    }

    #[must_use]
    pub fn last_success(&self) -> Option<Duration> {
        self.last_success
    }

    /// What a probe has to try for its success to heal.
    #[must_use]
    pub fn to_probe(&self) -> Access {
        if self.write_failed {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// How long the last success took.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.latency
    }

    /// The error of the last failure and when it was; it stays readable after the component healed. An
    /// answer that has been waited for too long is an error of now.
    #[must_use]
    pub fn last_error(&self, now: Duration) -> Option<(String, Duration)> {
        let waited = now.saturating_sub(self.unanswered_since().unwrap_or(now));
        if waited >= UNHEALED_MAX {
            return Some((format!("no answer for {} s", waited.as_secs()), now));
        }
        self.last_error.clone()
    }
}

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    #[default]
    Starting,
    Running,
    Stopping,
}

/// The answer to a readiness question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// A dependency of all agents failed: this agent is as good as any.
    Degraded,
    Starting,
    Stopping,
    Failed,
}

impl Status {
    /// Whether traffic should come here.
    #[must_use]
    pub fn is_ready(self) -> bool {
        matches!(self, Status::Ok | Status::Degraded)
    }
}

/// Which question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Can this agent serve? Any failed component says no.
    Ready,
    /// Is this agent worse than its peers? Shared dependencies only degrade it.
    ReadyAgentScope,
}

/// The readiness of an agent in `phase` with these components.
#[must_use]
pub fn readiness(
    phase: Phase,
    components: impl IntoIterator<Item = (Scope, ComponentState)>,
    question: Question,
) -> Status {
    match phase {
        Phase::Starting => return Status::Starting,
        Phase::Stopping => return Status::Stopping,
        Phase::Running => {}
    }
    let mut status = Status::Ok;
    for (scope, state) in components {
        status = match (state, scope, question) {
            (ComponentState::Ok, _, _) => status,
            (ComponentState::Failed, Scope::Shared, Question::ReadyAgentScope) => {
                worse(status, Status::Degraded)
            }
            (ComponentState::Failed, _, _) => Status::Failed,
            (ComponentState::Starting, _, _) => worse(status, Status::Starting),
        };
    }
    status
}

/// Failed beats starting, starting beats degraded, degraded beats ok.
fn worse(a: Status, b: Status) -> Status {
    let rank = |status| match status {
        Status::Ok => 0,
        Status::Degraded => 1,
        Status::Starting => 2,
        Status::Stopping => 3,
        Status::Failed => 4,
    };
    if rank(b) > rank(a) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_component_starts_until_its_first_success() {
        let mut track = Track::default();
        assert_eq!(track.state(at(100)), ComponentState::Starting);
        track.success(at(101));
        assert_eq!(track.state(at(101)), ComponentState::Ok);
    }

    #[test]
    fn three_failures_in_a_row_fail_it_and_one_success_heals() {
        let mut track = Track::default();
        track.success(at(1));
        track.failure(at(2), "a");
        track.failure(at(3), "b");
        assert_eq!(track.state(at(3)), ComponentState::Ok);
        track.failure(at(4), "c");
        assert_eq!(track.state(at(4)), ComponentState::Failed);
        assert_eq!(track.in_state_for(at(9)), at(5));
        track.success(at(10));
        assert_eq!(track.state(at(10)), ComponentState::Ok);
        assert_eq!(track.in_state_for(at(12)), at(2));
        assert_eq!(track.last_error(at(12)), Some(("c".to_owned(), at(4))));
    }

    #[test]
    fn failures_between_successes_do_not_add_up() {
        let mut track = Track::default();
        for second in 0..20 {
            track.failure(at(second), "now and then");
            track.success(at(second));
        }
        assert_eq!(track.state(at(60)), ComponentState::Ok);
    }

    #[test]
    fn one_failure_fails_it_after_exactly_ten_seconds_without_success() {
        let mut track = Track::default();
        track.success(at(1));
        track.failure(at(20), "lost");
        assert_eq!(track.state(at(29)), ComponentState::Ok);
        assert_eq!(track.state(at(30)), ComponentState::Failed);
        assert_eq!(track.in_state_for(at(33)), at(3));
    }

    #[test]
    fn an_attempt_without_an_answer_fails_it_after_ten_seconds() {
        let mut track = Track::default();
        track.success(at(1));
        let hanging = track.begin(at(20), Access::Write);
        assert_eq!(track.state(at(29)), ComponentState::Ok);
        assert_eq!(track.state(at(30)), ComponentState::Failed);
        assert_eq!(track.in_state_for(at(33)), at(3));
        assert_eq!(
            track.last_error(at(33)),
            Some(("no answer for 13 s".to_owned(), at(33)))
        );
        // It ends at last, and not well: the component does not come back for it.
        track.attempt_failed(at(34), hanging, "timed out");
        assert_eq!(track.state(at(34)), ComponentState::Failed);
        assert_eq!(track.last_error(at(35)), Some(("timed out".to_owned(), at(34))));
        let next = track.begin(at(35), Access::Write);
        track.attempt_succeeded(at(37), next, Access::Write);
        assert_eq!(track.state(at(37)), ComponentState::Ok);
        assert_eq!(track.latency(), Some(at(2)));
    }

    #[test]
    fn an_attempt_that_nobody_waits_for_says_nothing() {
        let mut track = Track::default();
        track.success(at(1));
        let gone = track.begin(at(2), Access::Read);
        track.forget(gone);
        assert_eq!(track.state(at(1_000)), ComponentState::Ok);
    }

    #[test]
    fn writes_that_hang_are_not_excused_by_reads_but_by_writes() {
        let mut track = Track::default();
        track.success(at(1));
        track.begin(at(2), Access::Write);
        for second in 3..12 {
            let read = track.begin(at(second), Access::Read);
            track.attempt_succeeded(at(second), read, Access::Read);
        }
        assert_eq!(track.state(at(12)), ComponentState::Failed);
        let write = track.begin(at(12), Access::Write);
        track.attempt_succeeded(at(13), write, Access::Write);
        assert_eq!(track.state(at(22)), ComponentState::Ok);
        assert_eq!(track.state(at(23)), ComponentState::Failed);
    }

    #[test]
    fn after_a_failed_write_only_a_write_heals() {
        let mut track = Track::default();
        track.success(at(1));
        assert_eq!(track.to_probe(), Access::Read);
        let write = track.begin(at(2), Access::Write);
        track.attempt_failed(at(2), write, "no room");
        assert_eq!(track.to_probe(), Access::Write);
        let read = track.begin(at(5), Access::Read);
        track.attempt_succeeded(at(5), read, Access::Read);
        assert_eq!(track.last_success(), Some(at(1)), "a probe stays due");
        assert_eq!(track.state(at(12)), ComponentState::Failed);
        let write = track.begin(at(13), Access::Write);
        track.attempt_succeeded(at(13), write, Access::Write);
        assert_eq!(track.state(at(13)), ComponentState::Ok);
        assert_eq!(track.to_probe(), Access::Read);
    }

    #[test]
    fn silence_is_no_fault() {
        let mut track = Track::default();
        track.success(at(1));
        assert_eq!(track.state(at(100_000)), ComponentState::Ok);
    }

    #[test]
    fn what_is_down_is_failed_at_once() {
        let mut track = Track::default();
        track.success(at(1));
        track.down(at(2), "fenced");
        assert_eq!(track.state(at(2)), ComponentState::Failed);
    }

    #[test]
    fn readiness_follows_the_table_of_faults() {
        use ComponentState::{Failed, Ok, Starting};
        let fine = (Scope::Agent, Ok);
        for (phase, component, ready, agent) in [
            (Phase::Starting, fine, Status::Starting, Status::Starting),
            (Phase::Stopping, fine, Status::Stopping, Status::Stopping),
            (Phase::Running, fine, Status::Ok, Status::Ok),
            (Phase::Running, (Scope::Shared, Ok), Status::Ok, Status::Ok),
            (
                Phase::Running,
                (Scope::Shared, Failed),
                Status::Failed,
                Status::Degraded,
            ),
            (
                Phase::Running,
                (Scope::Agent, Failed),
                Status::Failed,
                Status::Failed,
            ),
            (
                Phase::Running,
                (Scope::Agent, Starting),
                Status::Starting,
                Status::Starting,
            ),
            (
                Phase::Running,
                (Scope::Shared, Starting),
                Status::Starting,
                Status::Starting,
            ),
        ] {
            for components in [[fine, component], [component, fine]] {
                assert_eq!(readiness(phase, components, Question::Ready), ready);
                assert_eq!(readiness(phase, components, Question::ReadyAgentScope), agent);
            }
        }
    }

    #[test]
    fn a_failed_agent_component_is_not_hidden_by_a_degraded_one() {
        let both = [
            (Scope::Shared, ComponentState::Failed),
            (Scope::Agent, ComponentState::Failed),
        ];
        assert_eq!(
            readiness(Phase::Running, both, Question::ReadyAgentScope),
            Status::Failed
        );
        let reversed = [both[1], both[0]];
        assert_eq!(
            readiness(Phase::Running, reversed, Question::ReadyAgentScope),
            Status::Failed
        );
    }
}
