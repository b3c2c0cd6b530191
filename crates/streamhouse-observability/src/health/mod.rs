//! The health of the agent: components that report, watches that must progress, verdicts for probes.
//!
//! Real traffic is the probe: whoever uses a component says when an attempt begins and how it ends. Only
//! when somebody asks for readiness and the last success is older than five seconds is a registered probe
//! run, or when somebody looks at the metrics and a component is not well, so an idle agent costs nothing.
//! Liveness depends on nothing but this process's own watches and can be answered while the runtime hangs.
//!
//! The rules are in `rules.rs`; serving them over HTTP is the server's.

mod background;
mod disk;
mod probe;
mod progress;
pub mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::families::Metrics;
use crate::registry::Sample;

pub use background::HEARTBEAT_INTERVAL;
pub use disk::{Disk, RoomHandle};
pub use probe::{PROBE_TIMEOUT, Probe, SUCCESS_AGE_MAX};
pub use progress::ProgressWatch;
pub use rules::{Access, ComponentState, Phase, Question, Scope, Status};

use probe::ProbeSlot;
use rules::{AttemptId, Track};

/// Time since some fixed moment.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The component that the runtime's heartbeat stands for.
const RUNTIME: &str = "runtime";
/// Dependencies that all agents share. Everything else concerns one agent.
const SHARED: [&str; 2] = ["object_store", "metadata"];
/// A runtime that has run no task for this long is stalled.
const RUNTIME_STALL_MAX: Duration = Duration::from_secs(10);
/// A writer with queued work and no progress for this long is stalled.
pub const WRITER_STALL_MAX: Duration = Duration::from_secs(60);

/// The registry. Cloning shares it.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    clock: Clock,
    phase: Mutex<Phase>,
    components: Mutex<BTreeMap<&'static str, Arc<Component>>>,
    watches: Mutex<BTreeMap<&'static str, ProgressWatch>>,
    /// Where probes run: the runtime that owns the connections they use.
    runtime: Mutex<Option<tokio::runtime::Handle>>,
}

struct Component {
    clock: Clock,
    scope: Scope,
    track: Mutex<Track>,
    probe: ProbeSlot,
}

/// What the user of a component reports through. Cloning shares it.
#[derive(Clone)]
pub struct HealthHandle(Arc<Component>);

impl HealthHandle {
    /// It worked. Heals the component.
    pub fn success(&self) {
        let now = (self.0.clock)();
        self.0.track.lock().success(now);
    }

    /// It did not work. Three in a row, or ten seconds without a success, fail the component.
    pub fn failure(&self, error: &str) {
        let now = (self.0.clock)();
        self.0.track.lock().failure(now, error);
    }

    /// It cannot work (fenced, disk full, listener gone): failed at once, until a success.
    pub fn down(&self, error: &str) {
        let now = (self.0.clock)();
        self.0.track.lock().down(now, error);
    }

    /// It is tried now. What is returned has to be told how it ended; dropped before, it says nothing.
    pub fn begin(&self, access: Access) -> Attempt {
        let now = (self.0.clock)();
        let id = self.0.track.lock().begin(now, access);
        Attempt {
            component: self.0.clone(),
            id,
            access,
        }
    }

    /// What to run when somebody asks and no traffic has shown success lately.
    pub fn set_probe(&self, probe: Arc<dyn Probe>) {
        self.0.probe.set(probe);
    }
}

/// A component that is being tried. For as long as it has no answer the component is suspected.
#[must_use = "dropped, it says nothing"]
pub struct Attempt {
    component: Arc<Component>,
    id: AttemptId,
    access: Access,
}

impl Attempt {
    /// It worked, and took the time since [`HealthHandle::begin`].
    pub fn succeeded(self) {
        let access = self.access;
        self.succeeded_as(access);
    }

    /// It worked, but showed only this: a write that had nothing to write is a read.
    pub fn succeeded_as(self, access: Access) {
        let now = (self.component.clock)();
        self.component
            .track
            .lock()
            .attempt_succeeded(now, self.id, access);
    }

    /// See [`HealthHandle::failure`].
    pub fn failed(self, error: &str) {
        let now = (self.component.clock)();
        self.component.track.lock().attempt_failed(now, self.id, error);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.component.track.lock().forget(self.id);
    }
}

/// One component in a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComponentReport {
    pub component: &'static str,
    pub state: ComponentState,
    pub scope: Scope,
    /// How long it has been in this state.
    pub since_seconds: u64,
    /// How long the last success took, traffic's or a probe's; `null` before the first.
    pub latency_seconds: Option<f64>,
    /// How long ago that was.
    pub last_success_age_seconds: Option<f64>,
    /// Of the last failure; it stays after the component has healed.
    pub last_error: Option<String>,
    pub last_error_age_seconds: Option<f64>,
}

/// Whole microseconds: more digits than anybody reads.
fn seconds(duration: Duration) -> f64 {
    Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// A verdict and what it rests on. Serialises to the body of the answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub status: Status,
    /// Whether the answer is a success (200) or not (503).
    #[serde(skip)]
    pub healthy: bool,
    pub components: Vec<ComponentReport>,
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    #[must_use]
    pub fn new() -> Self {
        let started = Instant::now();
        Self::with_clock(Arc::new(move || started.elapsed()))
    }

    #[must_use]
    pub fn with_clock(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            phase: Mutex::default(),
            components: Mutex::default(),
            watches: Mutex::default(),
            runtime: Mutex::default(),
        }))
    }

    /// The component of this name; the agent is not ready before it has succeeded once.
    /// `object_store` and `metadata` are dependencies that all agents share.
    #[must_use]
    pub fn component(&self, name: &'static str) -> HealthHandle {
        let scope = if SHARED.contains(&name) {
            Scope::Shared
        } else {
            Scope::Agent
        };
        let mut components = self.0.components.lock();
        let component = components.entry(name).or_insert_with(|| {
            Arc::new(Component {
                clock: self.0.clock.clone(),
                scope,
                track: Mutex::default(),
                probe: ProbeSlot::default(),
            })
        });
        HealthHandle(component.clone())
    }

    /// Work that must progress while it is queued; a stall of `stall_max` fails liveness. For the
    /// writer: name `writer` and [`WRITER_STALL_MAX`].
    #[must_use]
    pub fn watch(&self, name: &'static str, stall_max: Duration) -> ProgressWatch {
        let mut watches = self.0.watches.lock();
        watches
            .entry(name)
            .or_insert_with(|| ProgressWatch::new(self.0.clock.clone(), stall_max))
            .clone()
    }

    /// Everything is up: from now on the components decide.
    pub fn running(&self) {
        let mut phase = self.0.phase.lock();
        // A stop asked for during the start stands.
        if *phase == Phase::Starting {
            *phase = Phase::Running;
        }
    }

    /// The agent goes down: unready from now on, before its listener closes.
    pub fn stopping(&self) {
        *self.0.phase.lock() = Phase::Stopping;
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.phase.lock()
    }

    /// Can this agent serve? Any failed component says no.
    #[must_use]
    pub fn ready(&self) -> Report {
        self.readiness(Question::Ready)
    }

    /// Should this agent be taken out of the service? A dependency that is down for all only
    /// degrades it.
    #[must_use]
    pub fn ready_agent_scope(&self) -> Report {
        self.readiness(Question::ReadyAgentScope)
    }

    fn readiness(&self, question: Question) -> Report {
        let components = self.reports();
        let states = components.iter().map(|report| (report.scope, report.state));
        let status = rules::readiness(self.phase(), states, question);
        Report {
            status,
            healthy: status.is_ready(),
            components,
        }
    }

    /// Does the process still move? No dependency has a say in it.
    #[must_use]
    pub fn live(&self) -> Report {
        let components = self.watch_reports();
        let healthy = components
            .iter()
            .all(|report| report.state != ComponentState::Failed);
        let status = if healthy { Status::Ok } else { Status::Failed };
        Report {
            status,
            healthy,
            components,
        }
    }

    /// The readiness of every component; a success unless liveness fails.
    #[must_use]
    pub fn summary(&self) -> Report {
        Report {
            healthy: self.live().healthy,
            ..self.ready()
        }
    }

    /// Components and watches, sorted by name.
    fn reports(&self) -> Vec<ComponentReport> {
        let now = (self.0.clock)();
        // A runtime that stands still hears no answers: that is its fault, not theirs who answer.
        let heard = now.saturating_sub(self.runtime_silence());
        let mut reports: Vec<ComponentReport> = self
            .0
            .components
            .lock()
            .iter()
            .map(|(name, component)| {
                let track = component.track.lock();
                let age = |at: Duration| seconds(now.saturating_sub(at));
                let (last_error, last_error_at) = track.last_error(heard).unzip();
                ComponentReport {
                    component: name,
                    state: track.state(heard),
                    scope: component.scope,
                    since_seconds: track.in_state_for(heard).as_secs(),
                    latency_seconds: track.latency().map(seconds),
                    last_success_age_seconds: track.last_success().map(age),
                    last_error,
                    last_error_age_seconds: last_error_at.map(age),
                }
            })
            .collect();
        for watch in self.watch_reports() {
            // A name may be both: the writer reports failures and is watched. The stall decides.
            match reports
                .iter_mut()
                .find(|report| report.component == watch.component)
            {
                Some(report) if watch.state == ComponentState::Failed => *report = watch,
                Some(_) => {}
                None => reports.push(watch),
            }
        }
        reports.sort_by_key(|report| report.component);
        reports
    }

    /// How long ago the runtime last showed that it runs; nothing where no heartbeat was ever started.
    fn runtime_silence(&self) -> Duration {
        let watches = self.0.watches.lock();
        watches
            .get(RUNTIME)
            .map(ProgressWatch::since_progress)
            .unwrap_or_default()
    }

    fn watch_reports(&self) -> Vec<ComponentReport> {
        let watches = self.0.watches.lock();
        let report = |(name, watch): (&&'static str, &ProgressWatch)| {
            let stalled = watch.stalled_for();
            let last = stalled
                .map(|silent| (silent, Duration::ZERO))
                .or(watch.last_stall());
            ComponentReport {
                component: name,
                state: if stalled.is_some() {
                    ComponentState::Failed
                } else {
                    ComponentState::Ok
                },
                scope: Scope::Agent,
                since_seconds: watch.in_state_for().as_secs(),
                latency_seconds: watch.took().map(seconds),
                last_success_age_seconds: Some(seconds(watch.since_progress())),
                last_error: last.map(|(silent, _)| format!("no progress for {} s", silent.as_secs())),
                last_error_age_seconds: last.map(|(_, ago)| seconds(ago)),
            }
        };
        watches.iter().map(report).collect()
    }

    /// Exports `health_component`: 1 while a component is ok, 0 while it starts or has failed.
    pub fn export_to(&self, metrics: &Metrics) {
        let health = self.clone();
        metrics.register_labelled_gauge_fn(
            "streamhouse_health_component",
            "1 while the component is healthy, else 0.",
            &["component"],
            move || {
                let value = |report: &ComponentReport| f64::from(report.state == ComponentState::Ok);
                let sample = |report: ComponentReport| Sample {
                    value: value(&report),
                    values: vec![report.component.to_owned()],
                };
                health.reports().into_iter().map(sample).collect()
            },
        );
    }
}
