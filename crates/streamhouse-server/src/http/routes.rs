//! The routes and their answers. Everything that is not a scrape, the index or the log's level is JSON, errors
//! too.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY,
};
use axum::http::{Response, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use serde::Serialize;
use streamhouse_observability::health::Report;

use super::HttpState;
use super::body::Cut;
use super::{correlation, log_level};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static(streamhouse_observability::CONTENT_TYPE);

/// All routes of an agent.
pub fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/log/level", get(log_level::get).put(log_level::put))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(state.clone(), correlation::name))
        .with_state(state)
}

/// For people: what there is, to be clicked on.
async fn index() -> Response<Body> {
    answer(StatusCode::OK, HTML, INDEX.into())
}

const INDEX: &str = concat!(
    "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>StreamHouse</title>\n<h1>StreamHouse ",
    env!("CARGO_PKG_VERSION"),
    r#"</h1>
<ul>
<li><a href="/metrics">/metrics</a>: all series, Prometheus text
<li><a href="/health">/health</a>: every component, its state and its last error
<li><a href="/health/live">/health/live</a>: does the process work?
<li><a href="/health/ready">/health/ready</a>: can it serve? (<a href="/health/ready?scope=agent">?scope=agent</a>: can this agent, whatever all share?)
<li><a href="/log/level">/log/level</a>: the log's filter; PUT changes it
</ul>
</html>
"#
);

/// The metrics, as text 0.0.4 whatever the client says it accepts; gzip when it asks for it.
async fn metrics(
    State(state): State<HttpState>,
    Extension(cut): Extension<Cut>,
    headers: HeaderMap,
) -> Response<Body> {
    state.health.probe_unwell();
    state.metrics.refresh_cluster_view().await;
    let text = state.metrics.exposition();
    let (body, is_gzip) = state.scrapes.body(&text, accepts_gzip(&headers), cut);
    let mut response = answer(StatusCode::OK, METRICS, body.into());
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("accept-encoding"));
    if is_gzip {
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether one of the accepted encodings is gzip and is not refused by a weight of zero.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|encoding| {
        let mut parts = encoding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(Ok(1.0), str::parse::<f64>);
        is_gzip && weight.is_ok_and(|weight| weight > 0.0)
    })
}

async fn health(State(state): State<HttpState>) -> Response<Body> {
    state.health.probe_stale().await;
    report(&state.health.summary())
}

/// Waits for nothing at all.
async fn live(State(state): State<HttpState>) -> Response<Body> {
    report(&state.health.live())
}

async fn ready(State(state): State<HttpState>, RawQuery(query): RawQuery) -> Response<Body> {
    let agent_scope = match query.as_deref().unwrap_or_default() {
        "" => false,
        "scope=agent" => true,
        _ => {
            return error(
                StatusCode::BAD_REQUEST,
                "invalid_query",
                "the only query here is scope=agent",
            );
        }
    };
    state.health.probe_stale().await;
    report(&if agent_scope {
        state.health.ready_agent_scope()
    } else {
        state.health.ready()
    })
}

async fn not_found() -> Response<Body> {
    error(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is nothing at this path; there are / /metrics /health /health/live /health/ready /log/level",
    )
}

async fn method_not_allowed() -> Response<Body> {
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path answers GET and HEAD; /log/level PUT as well",
    )
}

fn report(report: &Report) -> Response<Body> {
    let status = if report.healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, report)
}

#[derive(Serialize)]
struct ErrorBody {
    error: &'static str,
    message: &'static str,
}

pub(super) fn error(status: StatusCode, error: &'static str, message: &'static str) -> Response<Body> {
    json(status, &ErrorBody { error, message })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            answer(status, JSON, text.into())
        }
        Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, Body::empty()),
    }
}

pub(super) fn answer(status: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    // An answer is about this moment.
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
