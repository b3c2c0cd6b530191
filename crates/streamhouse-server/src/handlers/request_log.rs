//! What the log says of a request once it has its answer: a line at DEBUG, and one at WARN if it was slow.
//!
//! A produce is slow by the clock of its client: from read to answer written, and as long as the budget kept it from
//! being read. Of a fetch the time it was allowed to wait does not count; joins and syncs wait for others by design and
//! are never slow. With the log at its usual level a fast request costs two comparisons here. Mistakes of clients are
//! DEBUG, and WARN once per client and minute. `docs/logging.md` explains the fields.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use streamhouse_observability::families::ApiOutcome;
use streamhouse_observability::logging::{self, milliseconds};
use streamhouse_storage::reader::ReadError;
use streamhouse_storage::writer::Journey;
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use super::context::RequestContext;

/// The span of a request, around everything that is done for it.
pub fn span(context: &RequestContext) -> Span {
    let head = &context.head;
    tracing::debug_span!(
        "request",
        api = ?head.api,
        correlation_id = %context.correlation_id(),
        kafka_correlation_id = head.correlation_id,
        client_id = head.client_id.as_deref().unwrap_or_default(),
        peer = %context.peer,
        topic = Empty,
        outcome = Empty,
        object_id = Empty,
    )
}

/// A produce whose answer was written, or that wanted none.
///
/// `topic` where it is about one alone; the moments are those of its answer and of the end of its writing.
pub fn produced(
    context: &RequestContext,
    topic: Option<&str>,
    outcome: ApiOutcome,
    journey: &Journey,
    (answered_at, written_at): (Instant, Instant),
) {
    // Who held it back while it was being read was we.
    let took = context.waited_before_read + (written_at - context.read_at);
    let head = &context.head;
    let span = &context.span;
    span.record("outcome", outcome.as_str());
    span.record("topic", topic);
    span.record("object_id", journey.object.map(tracing::field::display));
    tracing::debug!(
        api = "Produce",
        correlation_id = %context.correlation_id(),
        kafka_correlation_id = head.correlation_id,
        client_id = head.client_id.as_deref().unwrap_or_default(),
        topic,
        outcome = outcome.as_str(),
        object_id = journey.object.map(tracing::field::display),
        duration_ms = milliseconds(took),
        "request"
    );
    if !is_slow(context, took) {
        return;
    }
    let Some(suppressed) = logging::admit("slow request", "Produce", topic.unwrap_or_default()) else {
        return;
    };
    tracing::warn!(
        api = "Produce",
        correlation_id = %context.correlation_id(),
        kafka_correlation_id = head.correlation_id,
        client_id = head.client_id.as_deref().unwrap_or_default(),
        topic,
        outcome = outcome.as_str(),
        object_id = journey.object.map(tracing::field::display),
        duration_ms = milliseconds(took),
        queue_ms = milliseconds(context.waited),
        buffer_ms = milliseconds(journey.buffer),
        upload_ms = milliseconds(journey.upload),
        commit_wait_ms = milliseconds(journey.commit_wait),
        commit_ms = milliseconds(journey.commit),
        ack_ms = milliseconds(written_at - answered_at),
        suppressed,
        "slow request"
    );
}

/// Any other request whose answer is made. `may_wait`: how long it was allowed to wait for others.
pub fn answered(context: &RequestContext, outcome: ApiOutcome, may_wait: Duration) {
    let took = context.read_at.elapsed();
    let head = &context.head;
    context.span.record("outcome", outcome.as_str());
    tracing::debug!(
        api = ?head.api,
        correlation_id = %context.correlation_id(),
        kafka_correlation_id = head.correlation_id,
        client_id = head.client_id.as_deref().unwrap_or_default(),
        outcome = outcome.as_str(),
        duration_ms = milliseconds(took),
        "request"
    );
    if matches!(head.api, ApiKey::JoinGroup | ApiKey::SyncGroup)
        || !is_slow(context, took.saturating_sub(may_wait))
    {
        return;
    }
    if let Some(suppressed) = logging::admit("slow request", &format!("{:?}", head.api), "") {
        tracing::warn!(
            api = ?head.api,
            correlation_id = %context.correlation_id(),
            kafka_correlation_id = head.correlation_id,
            client_id = head.client_id.as_deref().unwrap_or_default(),
            outcome = outcome.as_str(),
            duration_ms = milliseconds(took),
            suppressed,
            "slow request"
        );
    }
}

/// A threshold of zero turns the slow-request log off.
fn is_slow(context: &RequestContext, took: Duration) -> bool {
    let threshold = context.agent.settings.slow_request;
    took >= threshold && !threshold.is_zero()
}

/// What the protocol tells as an error although nobody has done anything wrong.
pub fn step(context: &RequestContext, fault: &dyn Display) {
    let head = &context.head;
    tracing::debug!(
        api = ?head.api,
        correlation_id = %context.correlation_id(),
        kafka_correlation_id = head.correlation_id,
        client_id = head.client_id.as_deref().unwrap_or_default(),
        %fault,
        "to be asked again"
    );
}

/// What a client does wrong is its own business; whoever runs it may want to know once.
pub fn mistake(context: &RequestContext, fault: &dyn Display) {
    let head = &context.head;
    let client_id = head.client_id.as_deref().unwrap_or_default();
    tracing::debug!(
        api = ?head.api,
        correlation_id = %context.correlation_id(),
        kafka_correlation_id = head.correlation_id,
        client_id,
        %fault,
        "refused"
    );
    if let Some(suppressed) = logging::admit_client(client_id, &context.peer.ip().to_string()) {
        tracing::warn!(
            api = ?head.api,
            correlation_id = %context.correlation_id(),
            client_id = logging::remembered_name(client_id),
            peer = %context.peer,
            %fault,
            suppressed,
            "a client was refused; its next mistakes are logged at debug for a minute"
        );
    }
}

/// A connection that was closed for what its client sent. Who it was is not known by name.
pub fn closed(peer: SocketAddr, reason: &dyn Display) {
    tracing::debug!(%peer, %reason, "connection closed");
    if let Some(suppressed) = logging::admit_client("", &peer.ip().to_string()) {
        tracing::warn!(
            %peer,
            %reason,
            suppressed,
            "a client's connection was closed; its next mistakes are logged at debug for a minute"
        );
    }
}

/// A partition that could not be read, through a fault of ours.
pub fn read_failed(context: &RequestContext, topic: &str, partition: i32, error: &ReadError) {
    let error_type = error.error_type();
    let Some(suppressed) = logging::admit("read", error_type, topic) else {
        return;
    };
    macro_rules! log {
        ($level:ident, $message:literal) => {
            tracing::$level!(
                api = ?context.head.api,
                correlation_id = %context.correlation_id(),
                client_id = context.head.client_id.as_deref().unwrap_or_default(),
                topic,
                partition,
                error_type,
                %error,
                suppressed,
                $message
            )
        };
    }
    match error {
        ReadError::Damaged { .. } => log!(error, "stored bytes are damaged"),
        ReadError::Missing { .. } => log!(error, "a stored object is missing"),
        _ => log!(warn, "read failed"),
    }
}

/// A failure of ours, where it is answered. `topic`: the one that failed, where it was not all.
pub fn failure(context: &RequestContext, topic: Option<&str>, error: &dyn Display) {
    let head = &context.head;
    let place = format!("{:?}", head.api);
    let Some(suppressed) = logging::admit("request failed", &place, topic.unwrap_or_default()) else {
        return;
    };
    tracing::warn!(
        api = ?head.api,
        correlation_id = %context.correlation_id(),
        kafka_correlation_id = head.correlation_id,
        client_id = head.client_id.as_deref().unwrap_or_default(),
        topic,
        error_type = "agent_error",
        %error,
        suppressed,
        "request failed"
    );
}
