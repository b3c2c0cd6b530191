//! Spans of what many share: an object holds the batches of many requests, a commit many objects.
//!
//! What serves one alone is its child. What serves several is the root of a trace of its own, with links both
//! ways, so that each finds the other; links are bounded. With spans off nothing is gathered. Numbers are signed:
//! OpenTelemetry has no others.

use std::collections::HashSet;

use streamhouse_metadata::ids::ObjectName;
use tracing::{Level, Span};

use super::append::Reply;
use super::sealed::Sealed;

/// OpenTelemetry's own limit for the links of a span.
const LINKS_MAX: usize = 128;

/// The way of an object from its sealing to its commit.
pub(super) fn flush(sealed: &Sealed, object_id: &ObjectName) -> Span {
    if !tracing::span_enabled!(Level::DEBUG) {
        return Span::none();
    }
    let mut seen = HashSet::new();
    let replies = sealed
        .batches
        .iter()
        .filter_map(|batch| batch.pending.reply.as_ref());
    let requests: Vec<&Span> = replies
        .filter(|reply| seen.insert(reply.request()))
        .map(Reply::span)
        .take(LINKS_MAX)
        .collect();
    let span = |parent: Option<&Span>| {
        tracing::debug_span!(
            parent: parent.and_then(Span::id),
            "flush",
            %object_id,
            length_bytes = sealed.length_bytes as i64,
            batches = sealed.batches.len() as i64,
        )
    };
    shared(&requests, span)
}

/// A commit of the objects at the front of the queue.
pub(super) fn commit<'a>(objects: impl Iterator<Item = &'a Sealed>) -> Span {
    if !tracing::span_enabled!(Level::DEBUG) {
        return Span::none();
    }
    let objects: Vec<&Span> = objects.map(|sealed| &sealed.span).take(LINKS_MAX).collect();
    let span = |parent: Option<&Span>| tracing::debug_span!(parent: parent.and_then(Span::id), "commit", object_count = objects.len() as i64);
    shared(&objects, span)
}

fn shared(served: &[&Span], span: impl Fn(Option<&Span>) -> Span) -> Span {
    if let [only] = served {
        return span(Some(only));
    }
    let span = span(None);
    for one in served {
        span.follows_from(*one);
        one.follows_from(&span);
    }
    span
}
