//! HTTP for probes, scrapes and people: `/metrics`, `/health`, `/health/live`, `/health/ready`,
//! `/log/level`, `/`.
//!
//! The whole server lives on one thread with a runtime of its own, so that `/health/live` answers while
//! the runtime that does the work hangs. Nothing here waits for that runtime without a time limit.
//!
//! What is measured and what makes the agent healthy is decided in `streamhouse-observability`; here
//! are only routes, bounds and words of the protocol.

mod body;
mod correlation;
mod log_level;
mod routes;
mod serve;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use streamhouse_observability::{Health, LevelControl, Metrics};

pub use routes::router;
pub use serve::{HttpLimits, HttpServer, serve, serve_with};

use body::Scrapes;
use correlation::Correlation;

/// What the routes answer from. Cloning shares it.
#[derive(Clone)]
pub struct HttpState {
    pub metrics: Arc<Metrics>,
    pub health: Health,
    /// `None` where the process has no log of its own.
    level: Option<LevelControl>,
    correlation: Arc<Correlation>,
    scrapes: Arc<Scrapes>,
}

impl HttpState {
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, health: Health) -> Self {
        Self {
            metrics,
            health,
            level: None,
            correlation: Arc::default(),
            scrapes: Arc::new(Scrapes::default()),
        }
    }

    /// With a log whose level can be read, and changed from this machine.
    #[must_use]
    pub fn with_level(self, level: LevelControl) -> Self {
        Self {
            level: Some(level),
            ..self
        }
    }
}
