//! What our fields are called in OpenTelemetry: one table, used when spans leave.
//!
//! The left side are the names of the log and the metrics, which do not change; the right side follows the
//! semantic conventions where they have a word, and lies under `streamhouse.` where not.

use std::net::SocketAddr;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;

/// Spans that mean something to the outside.
const REQUEST: &str = "request";
const OBJECT_STORE: &str = "object_store";
const METADATA: &str = "metadata";
const HTTP: &str = "http";

/// Span ("" any), field, attribute.
const TABLE: [(&str, &str, &str); 16] = [
    ("", "topic", "messaging.destination.name"),
    ("", "partition", "messaging.destination.partition.id"),
    ("", "consumer_group", "messaging.consumer.group.name"),
    ("", "client_id", "messaging.client.id"),
    ("", "api", "messaging.operation.name"),
    ("", "peer", "network.peer.address"),
    ("", "error_type", "error.type"),
    ("", "object_id", "aws.s3.key"),
    ("", "store_request_id", "aws.request_id"),
    ("", "status", "http.response.status_code"),
    ("", "attempt", "http.request.resend_count"),
    (HTTP, "method", "http.request.method"),
    (HTTP, "path", "url.path"),
    (OBJECT_STORE, "operation", "rpc.method"),
    (METADATA, "operation", "db.operation.name"),
    ("", "transactional_id", "messaging.kafka.transactional_id"),
];
const OWN: &str = "streamhouse.";
const PEER_PORT: &str = "network.peer.port";

fn name_of(span: &str, field: &str) -> Option<&'static str> {
    let row = TABLE
        .iter()
        .find(|(of, name, _)| *name == field && (of.is_empty() || *of == span));
    row.map(|(_, _, attribute)| *attribute)
}

/// Gives a span the names, the kind and the status that others expect.
pub(super) fn map(span: &mut SpanData) {
    let mut more = None;
    let mut said = None;
    let mut failed = false;
    for attribute in &mut span.attributes {
        let field = attribute.key.as_str();
        match field {
            "peer" => {
                if let Ok(peer) = attribute.value.as_str().parse::<SocketAddr>() {
                    more = Some(KeyValue::new(PEER_PORT, i64::from(peer.port())));
                    attribute.value = Value::from(peer.ip().to_string());
                }
            }
            "api" | "operation" => said = Some(attribute.value.as_str().into_owned()),
            "error_type" => failed = true,
            "outcome" => failed |= attribute.value.as_str() == "server_error",
            _ => {}
        }
        attribute.key = match name_of(&span.name, field) {
            Some(name) => Key::from_static_str(name),
            None => Key::from(format!("{OWN}{field}")),
        };
    }
    span.attributes.extend(more);
    match span.name.as_ref() {
        REQUEST => {
            span.span_kind = SpanKind::Server;
            span.attributes.push(KeyValue::new("messaging.system", "kafka"));
        }
        HTTP => span.span_kind = SpanKind::Server,
        OBJECT_STORE | METADATA => span.span_kind = SpanKind::Client,
        _ => {}
    }
    // A name tells the kind of work, never of which topic or key: names are few.
    match said {
        Some(api) if span.name == REQUEST => span.name = api.into(),
        Some(operation) => span.name = format!("{} {operation}", span.name).into(),
        None => {}
    }
    if failed {
        span.status = Status::error("");
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanContext, SpanId};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;

    fn mapped(name: &'static str, attributes: Vec<KeyValue>) -> SpanData {
        let mut span = SpanData {
            span_context: SpanContext::empty_context(),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        };
        map(&mut span);
        span
    }

    fn attribute(span: &SpanData, name: &str) -> Option<String> {
        let mut found = span.attributes.iter().filter(|each| each.key.as_str() == name);
        let value = found.next().map(|each| each.value.to_string());
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    #[test]
    fn a_request_is_a_server_span_named_after_its_api() {
        let span = mapped(
            "request",
            vec![
                KeyValue::new("api", "Produce"),
                KeyValue::new("correlation_id", "ab-1"),
                KeyValue::new("peer", "[::1]:9"),
                KeyValue::new("topic", "orders"),
                KeyValue::new("outcome", "ok"),
            ],
        );
        assert_eq!(
            (span.name.as_ref(), &span.span_kind),
            ("Produce", &SpanKind::Server)
        );
        assert_eq!(span.status, Status::Unset);
        for (name, value) in [
            ("messaging.system", "kafka"),
            ("messaging.operation.name", "Produce"),
            ("messaging.destination.name", "orders"),
            ("network.peer.address", "::1"),
            ("network.peer.port", "9"),
            ("streamhouse.correlation_id", "ab-1"),
            ("streamhouse.outcome", "ok"),
        ] {
            assert_eq!(attribute(&span, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn an_operation_is_named_by_the_store_it_goes_to_and_a_failure_shows_as_one() {
        let operation = |name, operation: &'static str| {
            mapped(
                name,
                vec![
                    KeyValue::new("operation", operation),
                    KeyValue::new("error_type", "failed"),
                ],
            )
        };
        let put = operation("object_store", "PUT");
        assert_eq!(
            (put.name.as_ref(), &put.span_kind),
            ("object_store PUT", &SpanKind::Client)
        );
        assert_eq!(attribute(&put, "rpc.method").as_deref(), Some("PUT"));
        assert_eq!(attribute(&put, "error.type").as_deref(), Some("failed"));
        assert_eq!(put.status, Status::error(""));
        let commit = operation("metadata", "commit");
        assert_eq!(attribute(&commit, "db.operation.name").as_deref(), Some("commit"));
    }

    #[test]
    fn what_the_conventions_have_no_word_for_is_ours() {
        let span = mapped("flush", vec![KeyValue::new("length_bytes", 5)]);
        assert_eq!(attribute(&span, "streamhouse.length_bytes").as_deref(), Some("5"));
        assert_eq!(
            (span.name.as_ref(), &span.span_kind),
            ("flush", &SpanKind::Internal)
        );
    }
}
