//! HTTP for probes, scrapes and people: `/metrics`, `/health`, `/health/live`, `/health/ready`, `/`.
//!
//! The whole server lives on one thread with a runtime of its own, so that `/health/live` answers while
//! the runtime that does the work hangs. Nothing here waits for that runtime without a time limit.
//!
//! What is measured and what makes the agent healthy is decided in `streamhouse-observability`; here
//! are only routes, bounds and words of the protocol.

mod body;
mod routes;
mod serve;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use streamhouse_observability::{Health, Metrics};

pub use routes::router;
pub use serve::{HttpLimits, HttpServer, serve, serve_with};

use body::Scrapes;

/// What the routes answer from. Cloning shares it.
#[derive(Clone)]
pub struct HttpState {
    pub metrics: Arc<Metrics>,
    pub health: Health,
    scrapes: Arc<Scrapes>,
}

impl HttpState {
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, health: Health) -> Self {
        Self {
            metrics,
            health,
            scrapes: Arc::new(Scrapes::default()),
        }
    }
}
