//! The store's clock, as a seam: whoever opens a store says where its time comes from.
//!
//! Every deadline that a store judges is in its own time. Between two reads that time never goes
//! backwards, also when somebody sets the machine's clock: it is read once, then only counted on. What
//! is not here: raising it to what a previous run had stored; the store does that when it opens.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::ids::StoreTime;

/// Tells the time of a store.
pub trait Clock: Send + Sync + 'static {
    /// Never goes backwards.
    fn now(&self) -> StoreTime;

    /// What the machine's clock says at this moment, which somebody may have set meanwhile: for what is compared
    /// with times that come from elsewhere.
    fn wall(&self) -> StoreTime;
}

/// The machine's clock, read once and counted on with the monotonic one.
#[derive(Debug)]
pub struct AnchoredClock {
    anchor_ms: i64,
    since: Instant,
}

impl AnchoredClock {
    #[must_use]
    pub fn new() -> Self {
        Self {
            anchor_ms: wall_ms(),
            since: Instant::now(),
        }
    }
}

fn wall_ms() -> i64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(wall.as_millis()).unwrap_or(i64::MAX / 2)
}

impl Default for AnchoredClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for AnchoredClock {
    fn now(&self) -> StoreTime {
        let elapsed = i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX / 2);
        StoreTime(self.anchor_ms.saturating_add(elapsed))
    }

    fn wall(&self) -> StoreTime {
        StoreTime(wall_ms())
    }
}
