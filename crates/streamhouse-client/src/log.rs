//! librdkafka's own lines and errors, handed on to `tracing`.

use crate::native::Event;

const TARGET: &str = "librdkafka";

/// One line; `level` as syslog counts them. What librdkafka calls an error is nearly always a connection that
/// it will try again: a warning. What really failed comes back as an error of the call.
pub(crate) fn line(level: i32, facility: &str, text: &str) {
    match level {
        ..=4 => tracing::warn!(target: TARGET, facility, "{text}"),
        5 => tracing::info!(target: TARGET, facility, "{text}"),
        _ => tracing::debug!(target: TARGET, facility, "{text}"),
    }
}

/// An error of the client as a whole.
pub(crate) fn error(event: &Event) {
    let (code, text) = (event.code(), event.text());
    if event.is_fatal() {
        tracing::error!(target: TARGET, %code, "{text}");
    } else {
        tracing::warn!(target: TARGET, %code, "{text}");
    }
}
