//! Probes: how a component is tried when no traffic has tried it.
//!
//! At most one probe of a component runs at a time and at most one a second, however many ask; each
//! has a time limit. It runs on the runtime that the agent works on, so that connections it opens
//! belong there, while the asking side keeps its own time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Access, ComponentState, Health, HealthHandle};

/// A component whose last success is younger than this is not probed.
pub const SUCCESS_AGE_MAX: Duration = Duration::from_secs(5);
/// A probe that takes longer has failed.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const PROBE_SPACING: Duration = Duration::from_secs(1);

/// The cheapest use of a component that shows whether it works.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// Asked to write only after a write failed: nothing else would show that it is well again. The error
    /// is shown to operators in the health report.
    async fn probe(&self, access: Access) -> Result<(), String>;
}

#[derive(Default)]
pub(super) struct ProbeSlot(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    probe: Option<Arc<dyn Probe>>,
    last_begun: Option<Duration>,
    running: bool,
}

impl ProbeSlot {
    pub(super) fn set(&self, probe: Arc<dyn Probe>) {
        self.0.lock().probe = Some(probe);
    }

    /// The probe, if one is due; the caller runs it and says when it has ended.
    fn begin(&self, now: Duration, last_success: Option<Duration>) -> Option<Arc<dyn Probe>> {
        let mut slot = self.0.lock();
        let probe = slot.probe.clone()?;
        let fresh = last_success.is_some_and(|at| now.saturating_sub(at) <= SUCCESS_AGE_MAX);
        let just_now = slot
            .last_begun
            .is_some_and(|at| now.saturating_sub(at) < PROBE_SPACING);
        if fresh || just_now || slot.running {
            return None;
        }
        slot.last_begun = Some(now);
        slot.running = true;
        Some(probe)
    }

    fn end(&self) {
        self.0.lock().running = false;
    }
}

impl Health {
    /// Runs the probes that are due, before a readiness answer. Takes at most [`PROBE_TIMEOUT`].
    pub async fn probe_stale(&self) {
        futures::future::join_all(self.due(|_| true)).await;
    }

    /// Starts the probes of what is not well and waits for none: the next look at the metrics sees what they
    /// found. Else a component that nobody uses any more would stay failed for as long as only metrics are
    /// asked for. What is well is left alone, so that an idle agent asks nothing of its stores.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn probe_unwell(&self) {
        let due = self.due(|state| state != ComponentState::Ok);
        if !due.is_empty() {
            tokio::spawn(futures::future::join_all(due));
        }
    }

    /// The probes that are due, of components in these states. Each takes its slot until it ends or is dropped.
    fn due(&self, wanted: fn(ComponentState) -> bool) -> Vec<impl Future<Output = ()> + Send + use<>> {
        let now = (self.0.clock)();
        let heard = now.saturating_sub(self.runtime_silence());
        let mut due = Vec::new();
        for component in self.0.components.lock().values() {
            let (state, last_success) = {
                let track = component.track.lock();
                (track.state(heard), track.last_success())
            };
            if !wanted(state) {
                continue;
            }
            if let Some(probe) = component.probe.begin(now, last_success) {
                due.push(self.run_probe(&HealthHandle(component.clone()), probe));
            }
        }
        due
    }

    fn run_probe(
        &self,
        handle: &HealthHandle,
        probe: Arc<dyn Probe>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let runtime = self.0.runtime.lock().clone();
        // Not awaited in place: an asker who hangs up must not leave the slot taken.
        let ended = EndOnDrop(handle.clone());
        let access = handle.0.track.lock().to_probe();
        let attempt = handle.begin(access);
        let health = self.clone();
        async move {
            let runtime = runtime.unwrap_or_else(tokio::runtime::Handle::current);
            let mut task = runtime.spawn(async move { probe.probe(access).await });
            let outcome = tokio::time::timeout(PROBE_TIMEOUT, &mut task).await;
            match outcome {
                Ok(Ok(Ok(()))) => attempt.succeeded(),
                Ok(Ok(Err(error))) => attempt.failed(&error),
                Ok(Err(panicked)) => attempt.failed(&panicked.to_string()),
                Err(_) => {
                    task.abort();
                    // Else the runtime had no time for it, which says nothing about the component.
                    if health.runtime_silence() < PROBE_TIMEOUT / 2 {
                        attempt.failed("the probe timed out");
                    }
                }
            }
            drop(ended);
        }
    }
}

struct EndOnDrop(HealthHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.0.probe.end();
    }
}
