//! How the rest of the house says that upkeep may have work.
//!
//! Invariant: a nudge costs one atomic operation while the same one is still unheard, so that it may
//! be given with every commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

const COMMITTED: u8 = 1;
const TOPIC_DELETED: u8 = 2;
const ABANDONED: u8 = 4;
const LOG_START_RAISED: u8 = 8;
const RETENTION_CHANGED: u8 = 16;

/// Wakes the scheduler. Cheap to share.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<Bell>);

#[derive(Debug, Default)]
struct Bell {
    unheard: AtomicU8,
    ring: Notify,
}

/// What was said since it was last heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) committed: bool,
    pub(super) topic_deleted: bool,
    pub(super) abandoned: bool,
    pub(super) log_start_raised: bool,
    pub(super) retention_changed: bool,
}

impl Nudge {
    /// Something was committed: rows to settle, inline objects to compact, perhaps dead objects.
    pub fn committed(&self) {
        self.ring(COMMITTED);
    }

    /// A topic was deleted: its rows are to be removed.
    pub fn topic_deleted(&self) {
        self.ring(TOPIC_DELETED);
    }

    /// An upload was given up.
    pub fn abandoned(&self) {
        self.ring(ABANDONED);
    }

    /// A log begins later than before: what lies below is to be removed.
    pub fn log_start_raised(&self) {
        self.ring(LOG_START_RAISED);
    }

    /// A topic was configured anew: more may be too old or too much now.
    pub fn retention_changed(&self) {
        self.ring(RETENTION_CHANGED);
    }

    fn ring(&self, what: u8) {
        // A plain load first: nothing is written to the shared line while the nudge is unheard.
        if self.0.unheard.load(Ordering::Acquire) & what == 0
            && self.0.unheard.fetch_or(what, Ordering::AcqRel) & what == 0
        {
            self.0.ring.notify_one();
        }
    }

    /// What was said; commits stay unheard until [`Nudge::hear_commits`], so that those which follow
    /// before anybody looks wake nobody.
    pub(super) fn hear(&self) -> Heard {
        let unheard = self.0.unheard.fetch_and(COMMITTED, Ordering::AcqRel);
        Heard {
            committed: unheard & COMMITTED != 0,
            topic_deleted: unheard & TOPIC_DELETED != 0,
            abandoned: unheard & ABANDONED != 0,
            log_start_raised: unheard & LOG_START_RAISED != 0,
            retention_changed: unheard & RETENTION_CHANGED != 0,
        }
    }

    /// From here on a commit nudges anew. Called before the look at what commits have left.
    pub(super) fn hear_commits(&self) {
        self.0.unheard.fetch_and(!COMMITTED, Ordering::AcqRel);
    }

    pub(super) async fn rung(&self) {
        self.0.ring.notified().await;
    }
}
