//! For tests of this and other crates: a clock that stands still and a store that fails on demand.
//!
//! Nothing here is used by a running server.

mod flaky;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

pub use self::flaky::{CommitFault, FlakyStore};
use crate::clock::Clock;
use crate::ids::StoreTime;

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicI64,
}

impl ManualClock {
    #[must_use]
    pub fn at(now: StoreTime) -> Self {
        Self {
            now_ms: AtomicI64::new(now.0),
        }
    }

    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now_ms.fetch_add(by, Ordering::AcqRel);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> StoreTime {
        StoreTime(self.now_ms.load(Ordering::Acquire))
    }

    fn wall(&self) -> StoreTime {
        self.now()
    }
}
