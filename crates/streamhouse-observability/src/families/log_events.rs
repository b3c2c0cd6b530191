//! Log events by level, counted where they are emitted, before anything can drop a line; and the lines that
//! were dropped because the output could not keep up.

use crate::registry::{Counter, Family, Registry, closed_label};

closed_label! {
    /// A level of `tracing`.
    LogLevel, "level" {
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

/// The log's handles.
#[derive(Clone)]
pub struct LogEventMetrics {
    events: [Counter; 5],
    pub dropped: Counter,
}

impl LogEventMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let events: Family<(LogLevel,), Counter> = registry.family(
            "streamhouse_log_events_total",
            "Log events that passed the filter, by level.",
            (),
        );
        let levels = [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ];
        Self {
            events: levels.map(|level| events.get(&(level,))),
            dropped: registry
                .family::<(), Counter>(
                    "streamhouse_log_lines_dropped_total",
                    "Log lines that found no room because the output did not keep up.",
                    (),
                )
                .get(&()),
        }
    }

    #[must_use]
    pub fn events(&self, level: LogLevel) -> &Counter {
        &self.events[level as usize]
    }
}
