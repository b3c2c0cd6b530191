//! What is still done for a request whose handling ends in a panic.
//!
//! The panic unwinds through everything that would count the request, and ends its connection. Whoever looks at
//! the metrics has to see it all the same; the log gets it from the process's panic hook.

/// Calls what it holds if a panic ends it, and nothing else does.
pub(super) struct OnPanic<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use streamhouse_observability::families::ApiOutcome;
    use streamhouse_observability::{Metrics, MetricsOptions};

    use super::*;

    #[tokio::test]
    async fn a_request_that_panics_is_counted_and_one_that_ends_or_is_given_up_is_not() {
        let api = Metrics::new(MetricsOptions::default()).api("Fetch");
        let api = Arc::new(api);
        let handle = |ends: &'static str| {
            let api = api.clone();
            tokio::spawn(async move {
                let _in_hand = OnPanic(|| api.requests(ApiOutcome::ServerError).inc());
                tokio::task::yield_now().await;
                match ends {
                    "panics" => panic!("a handler of a test"),
                    "waits" => std::future::pending().await,
                    _ => {}
                }
            })
        };
        handle("well").await.unwrap();
        let given_up = handle("waits");
        tokio::task::yield_now().await;
        given_up.abort();
        assert!(given_up.await.unwrap_err().is_cancelled());
        assert_eq!(api.requests(ApiOutcome::ServerError).value(), 0);
        assert!(handle("panics").await.unwrap_err().is_panic());
        assert_eq!(api.requests(ApiOutcome::ServerError).value(), 1);
    }
}
