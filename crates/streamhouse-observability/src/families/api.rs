//! Requests by Kafka API. A handle is resolved once per API; its outcomes are born together.

use super::buckets;
use crate::registry::{Counter, Family, Histogram, Registry, closed_label, static_label};

static_label! {
    /// A Kafka API by its protocol name, as `Produce`.
    ApiName, "api"
}

closed_label! {
    /// How a request was answered.
    ApiOutcome, "outcome" {
        Ok = "ok",
        ClientError = "client_error",
        ServerError = "server_error",
    }
}

/// One API's handles.
#[derive(Clone)]
pub struct ApiMetrics {
    requests: [Counter; 3],
    /// From request read to response written; for Fetch the long-poll wait is included.
    pub seconds: Histogram,
}

impl ApiMetrics {
    #[must_use]
    pub fn requests(&self, outcome: ApiOutcome) -> &Counter {
        &self.requests[outcome as usize]
    }
}

pub(super) struct ApiFamilies {
    requests: Family<(ApiName, ApiOutcome), Counter>,
    seconds: Family<(ApiName,), Histogram>,
}

impl ApiFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.family(
                "streamhouse_api_requests_total",
                "Kafka requests that were answered, or wanted no answer, by API and outcome.",
                (),
            ),
            seconds: registry.family(
                "streamhouse_api_seconds",
                "Kafka requests, from request read to response written.",
                &buckets::FINE,
            ),
        }
    }

    pub(super) fn api(&self, name: ApiName) -> ApiMetrics {
        let outcomes = [ApiOutcome::Ok, ApiOutcome::ClientError, ApiOutcome::ServerError];
        ApiMetrics {
            requests: outcomes.map(|outcome| self.requests.get(&(name, outcome))),
            seconds: self.seconds.get(&(name,)),
        }
    }
}
