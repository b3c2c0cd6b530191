//! Traces: our spans, sent to an OpenTelemetry collector over OTLP (HTTP, protobuf) when the usual variables
//! name one.
//!
//! Nothing here waits for the collector: finished spans go into a bounded queue, a thread of its own sends them,
//! and what finds no room is dropped. Failures are logged once in ten seconds. Without an endpoint nothing
//! of this exists, and spans below the log's level cost one load and one comparison.
//!
//! `settings` reads the variables, `export` stands before the exporter, `attributes` is the table of names. Not
//! here: the spans, which lie where the work is done.

mod attributes;
mod export;
mod settings;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::logging::is_ours;
use export::Mapped;
pub use settings::SettingsError;

const SERVICE: &str = "streamhouse";
/// What the SDK begins the name of a service with that nobody has named.
const UNNAMED: &str = "unknown_service";
/// How long the end of the process waits for the last spans.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// Why traces cannot be exported. The operator's to mend: the process does not start.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// The way of spans to the collector. Dropping it sends the last ones, within a bound.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Starts the export that `OTEL_*` variables ask for; `None` where they ask for none. `version` is the program's.
    ///
    /// # Errors
    /// The variables contradict themselves or ask for what is not here.
    pub fn from_environment(version: &str) -> Result<Option<Self>, TracesError> {
        let asked = settings::check(|name| std::env::var(name).ok())?;
        if !asked {
            return Ok(None);
        }
        // Endpoint, headers, time-outs, sampler, queue and limits are read from the variables by the library.
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .build()?;
        let resource = resource(version);
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(Mapped(exporter))
            .build();
        Ok(Some(Self {
            tracer: provider.tracer(SERVICE),
            provider,
        }))
    }

    /// What hands our spans over. Events stay in the log.
    pub(crate) fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let spans = |metadata: &Metadata<'_>| {
            metadata.is_span() && is_ours(metadata) && *metadata.level() <= Level::DEBUG
        };
        OpenTelemetryLayer::new(self.tracer.clone())
            .with_context_activation(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(spans).with_max_level_hint(LevelFilter::DEBUG))
            .boxed()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // What the collector did not take by then is lost, as the log has said by then.
        let _ = self.provider.shutdown_with_timeout(FLUSH_MAX);
    }
}

/// `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` first; a service that they do not name is ours.
fn resource(version: &str) -> Resource {
    let key = |name: &'static str| opentelemetry::Key::from_static_str(name);
    let given = Resource::builder().build();
    let mut builder = Resource::builder();
    let name = given.get(&key("service.name"));
    if name.is_none_or(|name| name.as_str().starts_with(UNNAMED)) {
        builder = builder.with_service_name(SERVICE);
    }
    if given.get(&key("service.version")).is_none() {
        let version = opentelemetry::KeyValue::new("service.version", version.to_owned());
        builder = builder.with_attribute(version);
    }
    builder.build()
}
