//! Logs: one line an event, for people or as JSON, to standard error.
//!
//! Field names equal the metrics' labels: `topic partition consumer_group operation error_type api
//! client_id agent object_id duration_ms`. Logging never blocks the code that logs. Every event that
//! passes the filter is counted by level, also when its line is dropped afterwards.
//!
//! Lines of other people's code below INFO are never written, whatever the filter says: what an HTTP client or a
//! TLS library tells of its requests holds signatures and tokens.
//!
//! `level` changes the filter while the process runs, `once` holds repeats back, `plain` and `json` make the lines,
//! `panics` brings panics among them, `writer` is the way out.

mod json;
mod level;
mod once;
mod panics;
mod plain;
mod repeat;
#[cfg(test)]
mod tests;
mod writer;

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, fmt};

use crate::families::{LogEventMetrics, LogLevel, Metrics};
use json::FlatJson;
pub use level::LevelControl;
pub use once::{admit, admit_client, milliseconds, remembered_name};
pub use panics::log_panics;
use plain::PlainFields;
pub use repeat::{REPEAT_WINDOW, RepeatGate};
use writer::{LINES_MAX, LineSender};

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "human" => Ok(LogFormat::Human),
            "json" => Ok(LogFormat::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// What to log, and how.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// A level, or directives as `info,streamhouse_storage=debug`.
    pub filter: String,
    pub format: LogFormat,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Human,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("{filter:?} is no log filter: {source}")]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("a log filter has between 1 and 1024 bytes, not {0}")]
    FilterLength(usize),
    #[error("the log has ended")]
    Over,
    #[error("{0:?} is no log format: human or json")]
    Format(String),
    #[error("cannot start the log's thread: {0}")]
    Thread(#[from] io::Error),
    #[error("logging was started before: {0}")]
    Started(#[from] TryInitError),
}

/// Holds the log open. Dropping it waits, at most a second, until what was logged is written.
pub struct LogGuard {
    sender: LineSender,
    level: LevelControl,
}

impl LogGuard {
    /// Lines dropped because the output could not keep up.
    #[must_use]
    pub fn lines_dropped(&self) -> u64 {
        self.sender.dropped()
    }

    /// What changes the filter of this log.
    #[must_use]
    pub fn level(&self) -> LevelControl {
        self.level.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.sender.drain();
    }
}

/// Starts logging to standard error, for the whole process, once.
///
/// # Errors
/// A filter that does not parse, a thread that does not start, a second start.
pub fn init(options: &LogOptions, metrics: &Metrics) -> Result<LogGuard, LogError> {
    init_with(options, metrics, None)
}

/// Spans that go elsewhere than to the log, whatever its level.
pub(crate) type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// [`init`], with our spans handed to `traces` as well.
///
/// # Errors
/// As [`init`].
#[cfg(feature = "otlp")]
pub fn init_with_traces(
    options: &LogOptions,
    metrics: &Metrics,
    traces: &crate::traces::Traces,
) -> Result<LogGuard, LogError> {
    init_with(options, metrics, Some(traces.layer()))
}

fn init_with(options: &LogOptions, metrics: &Metrics, spans: Option<Spans>) -> Result<LogGuard, LogError> {
    let colours = io::stderr().is_terminal();
    let (dispatch, guard) = build(options, metrics.log_events.clone(), io::stderr(), colours, spans)?;
    dispatch.try_init()?;
    Ok(guard)
}

fn build(
    options: &LogOptions,
    events: LogEventMetrics,
    out: impl Write + Send + 'static,
    colours: bool,
    spans: Option<Spans>,
) -> Result<(Dispatch, LogGuard), LogError> {
    let format = options.format;
    let sender = LineSender::start(out, LINES_MAX, move |dropped| dropped_line(format, dropped))?
        .counting_dropped(events.dropped.clone());
    let own = filter_fn(|metadata| is_ours(metadata) || *metadata.level() <= Level::INFO);
    let (dispatch, level) = match spans {
        // The filter stands before both layers, so that only events it lets through are counted.
        None => {
            let (filter, level) = level::filter(&options.filter)?;
            let subscriber = Registry::default()
                .with(lines(format, colours, &sender))
                .with(CountEvents(events))
                .with(filter)
                .with(own);
            (Dispatch::new(subscriber), level)
        }
        // The spans have a filter of their own.
        Some(spans) => {
            let (filter, level) = level::filter(&options.filter)?;
            let lines = lines(format, colours, &sender).and_then(CountEvents(events));
            let subscriber = Registry::default()
                .with(spans)
                .with(lines.with_filter(filter.and(own)));
            (Dispatch::new(subscriber), level)
        }
    };
    Ok((dispatch, LogGuard { sender, level }))
}

fn lines<S>(format: LogFormat, colours: bool, sender: &LineSender) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match format {
        LogFormat::Human => fmt::layer()
            .fmt_fields(PlainFields)
            .with_ansi(colours)
            .with_writer(sender.clone())
            .boxed(),
        LogFormat::Json => fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(FlatJson)
            .with_writer(sender.clone())
            .boxed(),
    }
}

/// Whether code of this workspace says it.
pub(crate) fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("streamhouse")
}

fn dropped_line(format: LogFormat, dropped: u64) -> String {
    let time = json::timestamp();
    match format {
        LogFormat::Human => format!("{time}  WARN log lines were dropped dropped={dropped}\n"),
        LogFormat::Json => {
            let target = module_path!();
            format!(
                "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"target\":\"{target}\",\
                 \"message\":\"log lines were dropped\",\"dropped\":{dropped}}}\n"
            )
        }
    }
}

/// Counts events by level.
struct CountEvents(LogEventMetrics);

impl<S: Subscriber> Layer<S> for CountEvents {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            Level::DEBUG => LogLevel::Debug,
            Level::TRACE => LogLevel::Trace,
        };
        self.0.events(level).inc();
    }
}
