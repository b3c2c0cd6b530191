//! What watches in the background: the runtime's heartbeat, and a thread that sees changes.
//!
//! The heartbeat is a task of the runtime it stands for. The watchdog is a plain thread, so that it
//! still speaks when the runtime does not; it writes one line per change of a component's state.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{ComponentState, Health, RUNTIME, RUNTIME_STALL_MAX};
use crate::families::Metrics;

/// How often the runtime shows that it runs.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(500);
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(1);

impl Health {
    /// Starts the heartbeat on the current runtime, which is also where probes run from now on. The
    /// lateness of each beat is observed as `runtime_stall_seconds`. Abort the task to stop it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_heartbeat(&self, metrics: &Metrics) -> JoinHandle<()> {
        *self.0.runtime.lock() = Some(tokio::runtime::Handle::current());
        let watch = self.watch(RUNTIME, RUNTIME_STALL_MAX);
        // There is always one thing to do: beat again.
        watch.set_queued(1);
        let stall = metrics.runtime_stall_seconds();
        tokio::spawn(async move {
            loop {
                let due = tokio::time::Instant::now() + HEARTBEAT_INTERVAL;
                tokio::time::sleep_until(due).await;
                let late = due.elapsed();
                stall.observe(late);
                watch.progress_after(late);
            }
        })
    }

    /// Starts the thread that logs changes. It ends when the last handle to this registry is gone.
    pub fn start_watchdog(&self) -> io::Result<()> {
        let inner = Arc::downgrade(&self.0);
        std::thread::Builder::new()
            .name("health-watchdog".to_owned())
            .spawn(move || {
                let mut seen = BTreeMap::new();
                while let Some(inner) = inner.upgrade() {
                    watch_once(&Health(inner), &mut seen);
                    std::thread::sleep(WATCHDOG_INTERVAL);
                }
            })?;
        Ok(())
    }
}

/// Compares the components with what was seen last, and logs what changed.
fn watch_once(health: &Health, seen: &mut BTreeMap<&'static str, ComponentState>) {
    for report in health.reports() {
        let before = seen.insert(report.component, report.state);
        let component = report.component;
        match (before, report.state) {
            (Some(ComponentState::Failed), ComponentState::Ok) => {
                tracing::info!(component, "component is healthy again");
            }
            (before, ComponentState::Failed) if before != Some(ComponentState::Failed) => {
                let error = report.last_error.as_deref().unwrap_or_default();
                tracing::warn!(component, error, "component has failed");
            }
            _ => {}
        }
    }
}
