//! What requests to the object store cost, from a table of prices: an estimate of the bill's part that depends
//! on how we ask. Prices are whole nano-dollars a request, so that a sum of many stays exact.

use std::str::FromStr;

use super::object_store::Operation;
use crate::registry::{Counter, Kind, Registry, Sample};

const NANOS_PER_DOLLAR: f64 = 1e9;

/// The price of one request, by operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestPrices {
    nano_usd: [u64; Operation::ALL.len()],
}

/// Why a table of prices is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    #[error("{0:?} is no price: write OPERATION=USD for 1,000 requests, as PUT=0.005,GET=0.0004")]
    Form(String),
    #[error("{0:?} is no operation")]
    Operation(String),
}

impl RequestPrices {
    /// The list prices of S3 Standard in us-east-1. Deletions and aborted uploads are free there.
    #[must_use]
    pub fn s3_standard() -> Self {
        let mut prices = Self::default();
        for operation in Operation::ALL {
            prices.nano_usd[*operation as usize] = match operation {
                Operation::Put
                | Operation::List
                | Operation::CreateMultipart
                | Operation::PutMultipart
                | Operation::CompleteMultipart => 5_000,
                Operation::Get | Operation::Head => 400,
                Operation::Delete | Operation::DeleteBatch | Operation::AbortMultipart => 0,
            };
        }
        prices
    }

    /// USD for this many requests.
    fn cost(&self, operation: Operation, requests: u64) -> f64 {
        let nanos = requests.saturating_mul(self.nano_usd[operation as usize]);
        nanos as f64 / NANOS_PER_DOLLAR
    }
}

/// `PUT=0.005,GET=0.0004`: USD for 1,000 requests, as stores publish them. What is not named is free, and
/// so is everything in `free`.
impl FromStr for RequestPrices {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let mut prices = Self::default();
        if text.trim() == "free" {
            return Ok(prices);
        }
        for part in text.split(',').map(str::trim) {
            let form = || PriceError::Form(part.to_owned());
            let (name, usd) = part.split_once('=').ok_or_else(form)?;
            let usd: f64 = usd.trim().parse().map_err(|_| form())?;
            if !(0.0..=1_000.0).contains(&usd) {
                return Err(form());
            }
            let operation = Operation::ALL
                .iter()
                .find(|operation| operation.as_str() == name.trim())
                .ok_or_else(|| PriceError::Operation(name.to_owned()))?;
            prices.nano_usd[*operation as usize] = (usd / 1_000.0 * NANOS_PER_DOLLAR).round() as u64;
        }
        Ok(prices)
    }
}

/// `requests` are the counters of all operations, in their order.
pub(super) fn register(registry: &Registry, prices: RequestPrices, requests: Vec<Counter>) {
    registry.computed(
        "streamhouse_object_store_cost_usd_total",
        "What the requests to the object store cost by the table of prices, in USD; storage and traffic are not in it.",
        Kind::Counter,
        &["operation"],
        move || {
            let operations = Operation::ALL.iter().zip(&requests);
            operations
                .map(|(operation, requests)| Sample {
                    values: vec![operation.as_str().to_owned()],
                    value: prices.cost(*operation, requests.value()),
                })
                .collect()
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::{Metrics, MetricsOptions};

    #[test]
    fn cost_is_requests_times_price() {
        let metrics = Metrics::new(MetricsOptions {
            object_store_prices: "PUT=0.005, GET=0.0004".parse().unwrap(),
            ..MetricsOptions::default()
        });
        metrics.object_store.requests(Operation::Put).add(3);
        metrics.object_store.requests(Operation::Get).add(1_000_001);
        metrics.object_store.requests(Operation::List).add(9);
        let text = metrics.render();
        for line in [
            "streamhouse_object_store_cost_usd_total{operation=\"PUT\"} 0.000015",
            "streamhouse_object_store_cost_usd_total{operation=\"GET\"} 0.4000004",
            "streamhouse_object_store_cost_usd_total{operation=\"LIST\"} 0",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is missing in\n{text}"
            );
        }
    }

    #[test]
    fn the_table_of_prices_is_read_as_stores_publish_it() {
        let prices: RequestPrices = "PUT=0.005,GET=0.0004,HEAD=0.0004,LIST=0.005,CREATE_MULTIPART=0.005,\
                                     PUT_MULTIPART=0.005,COMPLETE_MULTIPART=0.005"
            .parse()
            .unwrap();
        assert_eq!(prices, RequestPrices::s3_standard());
        assert_eq!("free".parse(), Ok(RequestPrices::default()));
        for wrong in ["", "PUT", "PUT=", "PUT=-1", "PUT=NaN", "PUT=0.005,"] {
            assert!(
                matches!(wrong.parse::<RequestPrices>(), Err(PriceError::Form(_))),
                "{wrong}"
            );
        }
        assert_eq!(
            "POST=1".parse::<RequestPrices>(),
            Err(PriceError::Operation("POST".to_owned()))
        );
    }
}
