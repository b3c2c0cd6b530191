//! How StreamHouse is seen: metrics, logs and health.
//!
//! - [`registry`]: our own metrics registry, Prometheus text 0.0.4.
//! - [`families`]: every metric there is, reachable from one [`Metrics`].
//!
//! Everything here is handed to its users; nothing is global. Nothing here knows the rest of the
//! system, and nothing here speaks HTTP.

pub mod families;
pub mod registry;

pub use families::{Metrics, MetricsOptions};
pub use registry::{CONTENT_TYPE, Counter, Gauge, Histogram, SecondsCounter};
