//! Stands before the exporter: gives spans OpenTelemetry's names, and keeps its failures few in the log.

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use super::attributes;
use crate::logging;

/// Called by the one thread that exports, never by who ends a span.
#[derive(Debug)]
pub(super) struct Mapped<E>(pub(super) E);

impl<E: SpanExporter> SpanExporter for Mapped<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut batch {
            attributes::map(span);
        }
        let spans = batch.len();
        let sent = self.0.export(batch).await;
        if let Err(error) = &sent
            && let Some(suppressed) = logging::admit("traces", "export", "")
        {
            tracing::warn!(%error, spans, suppressed, "traces were not taken by the collector and are lost");
        }
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
