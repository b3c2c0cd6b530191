//! Keys that this incarnation gave up: deleted once no delayed PUT of theirs can appear any more.
//!
//! Invariant (TRACES 11, 16): a key is deleted no sooner than the PUT deadline after it was given up,
//! and only then its counter counts as decided, so that a later listing of the prefix still finds what
//! this process did not live to delete. What is pushed never was in a commit.

use std::collections::VecDeque;
use std::sync::Arc;

use object_store::{Error, ObjectStoreExt as _};
use parking_lot::Mutex;
use streamhouse_metadata::ids::ObjectName;
use tokio::time::Instant;

use super::scheduler::Nudge;
use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts};
use crate::object::key_of;

/// Names remembered; beyond it they are left to the collection of orphans. An agent gives up a few
/// uploads per second at worst, so this is hours of an outage.
const REMEMBERED_MAX: usize = 100_000;

/// Keys deleted in one run.
const RUN_KEYS_MAX: usize = 100;

/// Where given-up uploads are reported. Cheap to share.
#[derive(Clone)]
pub struct Abandoned {
    queue: Arc<Mutex<VecDeque<(Instant, ObjectName)>>>,
    nudge: Nudge,
}

impl Abandoned {
    pub fn new(nudge: Nudge) -> Self {
        Self {
            queue: Arc::default(),
            nudge,
        }
    }

    /// The upload of this object was given up now, and nothing will ever name it.
    pub fn push(&self, name: ObjectName) {
        let mut queue = self.queue.lock();
        if queue.len() < REMEMBERED_MAX {
            queue.push_back((Instant::now(), name));
            drop(queue);
            self.nudge.abandoned();
        }
    }

    /// How many keys wait for their deletion.
    pub fn len(&self) -> usize {
        self.queue.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Deletes what was given up.
pub struct AbandonedTask {
    parts: UpkeepParts,
    options: UpkeepOptions,
    abandoned: Abandoned,
}

impl AbandonedTask {
    pub fn new(parts: UpkeepParts, options: UpkeepOptions, abandoned: Abandoned) -> Self {
        Self {
            parts,
            options,
            abandoned,
        }
    }

    pub async fn run_once(&self) -> Result<Next, UpkeepError> {
        for _ in 0..RUN_KEYS_MAX {
            let first = self.abandoned.queue.lock().front().copied();
            let Some((since, name)) = first else {
                return Ok(Next::Idle);
            };
            let age = since.elapsed();
            if age < self.options.put_deadline {
                return Ok(Next::In(self.options.put_deadline - age));
            }
            match self.parts.objects.delete(&key_of(&name)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // Of an earlier incarnation nobody counts any more; its prefix is collected.
            let identity = self.parts.identity.borrow().clone();
            if identity.incarnation == name.incarnation {
                identity.counters.decided(name.counter);
            }
            self.abandoned.queue.lock().pop_front();
        }
        Ok(Next::Now)
    }
}
