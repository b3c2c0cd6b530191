//! The async runtime: how late its timers come. Born when somebody starts to measure it.

use super::buckets;
use crate::registry::{Family, Histogram, Registry};

pub(super) struct RuntimeFamilies {
    stall: Family<(), Histogram>,
}

impl RuntimeFamilies {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            stall: registry.family(
                "streamhouse_runtime_stall_seconds",
                "How much later than asked for the runtime woke a timer.",
                &buckets::STALL,
            ),
        }
    }

    pub(super) fn stall(&self) -> Histogram {
        self.stall.get(&())
    }
}
