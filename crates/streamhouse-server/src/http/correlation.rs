//! Names of HTTP requests: in the answer's `x-correlation-id` and in the log.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response};
use axum::middleware::Next;
use tokio::time::Instant;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::HttpState;

const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// This start of the process, and a counter.
pub(super) struct Correlation {
    start: String,
    next: AtomicU64,
}

impl Default for Correlation {
    fn default() -> Self {
        // HTTP answers before the agent is registered and has a name of its own.
        let start = uuid::Uuid::new_v4().simple().to_string();
        Self {
            start: start.chars().take(8).collect(),
            next: AtomicU64::new(0),
        }
    }
}

impl Correlation {
    fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-http-{number}", self.start)
    }
}

/// Names a request and its answer. Of its target only the path is logged.
pub(super) async fn name(State(state): State<HttpState>, request: Request, next: Next) -> Response<Body> {
    let correlation_id = state.correlation.next();
    let began = Instant::now();
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let span = tracing::debug_span!("http", correlation_id, %method, path, status = Empty);
    let mut response = next.run(request).instrument(span.clone()).await;
    span.record("status", i64::from(response.status().as_u16()));
    tracing::debug!(
        correlation_id,
        %method,
        path,
        status = response.status().as_u16(),
        duration_ms = streamhouse_observability::logging::milliseconds(began.elapsed()),
        "HTTP request"
    );
    if let Ok(value) = HeaderValue::try_from(correlation_id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}
