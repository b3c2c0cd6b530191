//! The rules of health, pure: what a component's reports make of it, and what the components make of
//! the agent. Times are durations since the registry's start and come in as arguments.
//!
//! A component fails after three failures in a row, or ten seconds after a failure that no success
//! followed. One success heals. Silence alone is no fault: an idle agent is healthy.

use std::time::Duration;

use serde::Serialize;

/// Failures in a row that make a component failed.
pub const FAILURES_MAX: u32 = 3;
/// How long after a first failure a component is failed, if no success came since.
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

/// What is remembered of one component.
#[derive(Clone, Debug, Default)]
pub struct Track {
    last_success: Option<Duration>,
    /// The first success after the last failure, or the first at all.
    ok_since: Option<Duration>,
    failures: u32,
    first_failure: Option<Duration>,
    /// When the failures in a row became too many.
    given_up: Option<Duration>,
    last_error: Option<String>,
}

impl Track {
    pub fn success(&mut self, now: Duration) {
        if self.failures > 0 || self.ok_since.is_none() {
            self.ok_since = Some(now);
        }
        self.last_success = Some(now);
        self.failures = 0;
        self.first_failure = None;
        self.given_up = None;
    }

    pub fn failure(&mut self, now: Duration, error: &str) {
        self.failures = self.failures.saturating_add(1);
        self.first_failure.get_or_insert(now);
        if self.failures >= FAILURES_MAX {
            self.given_up.get_or_insert(now);
        }
        self.last_error = Some(error.to_owned());
    }

    /// A fault that needs no repetition to be believed.
    pub fn down(&mut self, now: Duration, error: &str) {
        self.failure(now, error);
        self.given_up.get_or_insert(now);
    }

    /// When the failures of now became a failed component, if they have.
    fn failed_since(&self, now: Duration) -> Option<Duration> {
        let unhealed = self
            .first_failure
            .map(|first| first + UNHEALED_MAX)
            .filter(|limit| *limit <= now);
        match (self.given_up, unhealed) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
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

    /// The error of the last failure; it stays readable after the component healed.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
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
        assert_eq!(track.last_error(), Some("c"));
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
