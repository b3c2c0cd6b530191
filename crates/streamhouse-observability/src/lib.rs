//! How StreamHouse is seen: metrics, logs, traces and health.
//!
//! - [`registry`]: our own metrics registry, Prometheus text 0.0.4.
//! - [`families`]: every metric there is, reachable from one [`Metrics`].
//! - [`logging`]: lines for people or as JSON, never blocking, repeats held back.
//! - `traces` (feature `otlp`): spans for an OpenTelemetry collector.
//! - [`health`]: components that report, and verdicts for probes.
//!
//! Everything here is handed to its users; nothing is global but the process's one log. Nothing here
//! knows the rest of the system, and nothing here speaks HTTP.

pub mod families;
pub mod health;
pub mod logging;
pub mod registry;
#[cfg(feature = "otlp")]
pub mod traces;

pub use families::{Metrics, MetricsOptions};
pub use health::{Health, HealthHandle, ProgressWatch};
pub use logging::{LevelControl, LogFormat, LogGuard, LogOptions, RepeatGate};
pub use registry::{CONTENT_TYPE, Counter, Gauge, Histogram, SecondsCounter};
