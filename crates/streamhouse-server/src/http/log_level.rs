//! `/log/level`: which log filter is in force; PUT changes it.
//!
//! Anybody may read it. Only this machine may change it: there is no authentication yet, and a log at
//! trace level is a load. A changed level lasts until the process ends.

use std::net::SocketAddr;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};

use super::HttpState;
use super::routes::{PLAIN, answer, error};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

pub(super) async fn get(State(state): State<HttpState>) -> Response<Body> {
    match &state.level {
        Some(level) => answer(StatusCode::OK, PLAIN, (level.current() + "\n").into()),
        None => no_log(),
    }
}

pub(super) async fn put(
    State(state): State<HttpState>,
    Extension(Peer(peer)): Extension<Peer>,
    filter: String,
) -> Response<Body> {
    let Some(level) = &state.level else {
        return no_log();
    };
    if !peer.ip().to_canonical().is_loopback() {
        return error(
            StatusCode::FORBIDDEN,
            "forbidden",
            "the log level is changed from the machine of the server only",
        );
    }
    let filter = filter.trim();
    let before = level.current();
    match level.change(filter) {
        Ok(()) => {
            tracing::info!(before, filter, %peer, "log level changed");
            answer(StatusCode::OK, PLAIN, format!("{filter}\n").into())
        }
        Err(wrong) => {
            tracing::debug!(error = %wrong, "log level not changed");
            error(
                StatusCode::BAD_REQUEST,
                "invalid_filter",
                "the body is a level (error, warn, info, debug, trace) or a tracing filter",
            )
        }
    }
}

fn no_log() -> Response<Body> {
    error(
        StatusCode::NOT_FOUND,
        "not_found",
        "this process has no log to change",
    )
}
