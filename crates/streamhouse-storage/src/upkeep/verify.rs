//! Reads stored objects back and checks them: what was acknowledged must still be there, byte for byte.
//!
//! One object a run, by id, at the rate of bytes that the operator allows; without a rate nothing is read at
//! all. A pass over everything begins daily; between passes only what was written since is read, after the
//! commits that wrote it. So an idle server asks for one pass a day, and for none when this is off. How far a
//! pass has come is kept in memory: a restart begins anew.
//!
//! Invariant: an object counts as missing only if the metadata names it after the object store had none, so
//! that one which upkeep deleted meanwhile is no damage. What is found is counted and logged; nothing is
//! mended here, and nothing is removed.

use std::collections::VecDeque;
use std::time::Duration;

use object_store::{Error, ObjectStoreExt as _};
use parking_lot::Mutex;
use streamhouse_metadata::ids::{ObjectId, StoreTime};
use streamhouse_metadata::model::object::StoredObject;
use streamhouse_observability::families::{VerifyMetrics, VerifyResult};
use tokio::time::Instant;

use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts, until};
use crate::object::{key_of, open_index, verify_segment};

/// How often a pass over everything begins.
const PASS_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Objects that could not be read and wait for the pass's end; with more of them it is the store that fails,
/// and the pass waits for it.
const UNREAD_MAX: usize = 1_000;

pub struct VerifyTask {
    parts: UpkeepParts,
    options: UpkeepOptions,
    metrics: VerifyMetrics,
    pass: Mutex<Pass>,
}

#[derive(Clone, Debug)]
struct Pass {
    /// When it began, by the store's clock.
    began: Option<StoreTime>,
    /// The object read last.
    after: ObjectId,
    /// What could not be read, so that one such object keeps no other from being read.
    unread: VecDeque<StoredObject>,
    /// The rate allows no object sooner.
    not_before: Instant,
}

/// What one run found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments by what was found.
    pub ok: u64,
    pub missing: u64,
    pub corrupt: u64,
    pub next: Next,
}

impl VerifyTask {
    pub fn new(parts: UpkeepParts, options: UpkeepOptions, metrics: VerifyMetrics) -> Self {
        let pass = Pass {
            began: None,
            after: ObjectId(0),
            unread: VecDeque::new(),
            not_before: Instant::now(),
        };
        Self {
            parts,
            options,
            metrics,
            pass: Mutex::new(pass),
        }
    }

    /// Reads and checks the next object.
    pub async fn run_once(&self) -> Result<VerifyReport, UpkeepError> {
        if self.options.verify_bytes_per_second == 0 {
            return Ok(VerifyReport::default());
        }
        let mut pass = self.pass.lock().clone();
        let rest = pass.not_before.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            return Ok(VerifyReport {
                next: Next::In(rest),
                ..VerifyReport::default()
            });
        }
        let now = self.parts.metadata.now().await?;
        let mut objects = self.parts.metadata.stored_objects(pass.after, 1).await?;
        let began = *pass.began.get_or_insert(now);
        // Only a pass that has come to its end makes room for the next: else the newest were never reached
        // where the rate is too low for a pass a day.
        if objects.is_empty() && pass.unread.is_empty() && until(now, began, PASS_EVERY).is_zero() {
            pass.began = Some(now);
            pass.after = ObjectId(0);
            objects = self.parts.metadata.stored_objects(pass.after, 1).await?;
        }
        let fresh = !objects.is_empty();
        let Some(object) = objects.pop().or_else(|| pass.unread.pop_front()) else {
            let began = pass.began.unwrap_or(now);
            *self.pass.lock() = pass;
            return Ok(VerifyReport {
                next: Next::In(until(now, began, PASS_EVERY)),
                ..VerifyReport::default()
            });
        };
        if fresh {
            pass.after = object.location.id;
        }
        let mut report = match self.check(&object).await {
            Ok(report) => report,
            Err(error) => {
                if pass.unread.len() < UNREAD_MAX {
                    pass.unread.push_back(object);
                    *self.pass.lock() = pass;
                }
                return Err(error);
            }
        };
        for (result, segments) in [
            (VerifyResult::Ok, report.ok),
            (VerifyResult::Missing, report.missing),
            (VerifyResult::Corrupt, report.corrupt),
        ] {
            self.metrics.segments(result).add(segments);
        }
        let length = object.location.length_bytes as f64;
        let pause = Duration::from_secs_f64(length / self.options.verify_bytes_per_second as f64);
        pass.not_before = Instant::now() + pause;
        *self.pass.lock() = pass;
        report.next = Next::In(pause);
        Ok(report)
    }

    async fn check(&self, object: &StoredObject) -> Result<VerifyReport, UpkeepError> {
        let name = object.location.name;
        let mut report = VerifyReport::default();
        let found = match self.parts.objects.get(&key_of(&name)).await {
            Ok(found) => found.bytes().await?,
            Err(Error::NotFound { .. }) => {
                if self.is_named(object.location.id).await? {
                    report.missing = object.segments;
                    tracing::error!(object_id = %name, segments = object.segments, "a stored object is missing");
                }
                return Ok(report);
            }
            Err(error) => return Err(error.into()),
        };
        let index = match open_index(&found) {
            Ok(index) if found.len() as u64 == object.location.length_bytes => index,
            damaged => {
                // Without an index nobody can tell which of its segments are whole.
                report.corrupt = object.segments;
                let (expected_bytes, length_bytes) = (object.location.length_bytes, found.len());
                let error = damaged.err().map(|error| error.to_string()).unwrap_or_default();
                tracing::error!(
                    object_id = %name, expected_bytes, length_bytes, error,
                    "a stored object is damaged"
                );
                return Ok(report);
            }
        };
        for entry in &index {
            let bytes = usize::try_from(entry.position).ok().and_then(|from| {
                let to = from.checked_add(entry.length_bytes as usize)?;
                found.get(from..to)
            });
            match verify_segment(entry, bytes.unwrap_or_default()) {
                Ok(()) => report.ok += 1,
                Err(error) => {
                    report.corrupt += 1;
                    let partition = entry.partition;
                    tracing::error!(object_id = %name, %partition, %error, "a stored segment is damaged");
                }
            }
        }
        Ok(report)
    }

    async fn is_named(&self, id: ObjectId) -> Result<bool, UpkeepError> {
        let before = ObjectId(id.0.saturating_sub(1));
        let objects = self.parts.metadata.stored_objects(before, 1).await?;
        Ok(objects.first().is_some_and(|object| object.location.id == id))
    }
}
