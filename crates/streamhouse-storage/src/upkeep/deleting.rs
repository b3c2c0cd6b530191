//! Deletes the keys of objects that nothing names any more.
//!
//! Invariant: a key goes after the grace period, so that a reader which looked the object up before
//! still finds it; the row goes after the key, so that a crash between them repeats the deletion
//! instead of forgetting it.
//!
//! While objects wait for a long grace period to pass, the task looks every half hour all the same: whoever sees
//! that there is work must see that it is being looked after. Where nothing waits it asks nothing.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use object_store::Error;
use streamhouse_metadata::ids::{ObjectId, StoreTime};
use streamhouse_metadata::model::object::DeletingObject;

use super::{Next, UpkeepError, UpkeepOptions, UpkeepParts, before, until};
use crate::object::key_of;

/// Objects deleted in one run.
const RUN_OBJECTS_MAX: u32 = 500;
/// Between two looks while anything waits. The alert TaskOverdue wants a success in an hour.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(30 * 60);

pub struct DeletingTask {
    parts: UpkeepParts,
    options: UpkeepOptions,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletingReport {
    pub deleted: usize,
    pub next: Next,
}

impl DeletingTask {
    pub fn new(parts: UpkeepParts, options: UpkeepOptions) -> Self {
        Self { parts, options }
    }

    pub async fn run_once(&self) -> Result<DeletingReport, UpkeepError> {
        let metadata = &self.parts.metadata;
        let now = metadata.now().await?;
        let due = metadata
            .deleting_objects(before(now, self.options.deleting_grace), RUN_OBJECTS_MAX)
            .await?;
        let (gone, error) = self.delete_keys(&due).await;
        if !gone.is_empty() {
            metadata.forget_objects(&gone).await?;
        }
        if let Some(error) = error {
            return Err(error.into());
        }
        let next = match due.len() >= RUN_OBJECTS_MAX as usize {
            true => Next::Now,
            false => {
                let waiting = metadata.deleting_objects(StoreTime(i64::MAX), 1).await?;
                match waiting.first() {
                    // A row marked in this very millisecond counts as older in the next one only.
                    Some(first) => {
                        let rest = until(now, first.since, self.options.deleting_grace);
                        Next::In((rest + Duration::from_millis(1)).min(LOOK_INTERVAL_MAX))
                    }
                    None => Next::Idle,
                }
            }
        };
        Ok(DeletingReport {
            deleted: gone.len(),
            next,
        })
    }

    /// The objects whose keys are gone, and the first error if some are not.
    async fn delete_keys(&self, due: &[DeletingObject]) -> (Vec<ObjectId>, Option<Error>) {
        let mut gone = Vec::new();
        let mut ids = HashMap::new();
        for object in due {
            match object.location.inline {
                // Its bytes go with its row.
                true => gone.push(object.location.id),
                false => {
                    ids.insert(key_of(&object.location.name), object.location.id);
                }
            }
        }
        let keys: Vec<_> = ids.keys().cloned().map(Ok).collect();
        let mut deleting = self.parts.objects.delete_stream(stream::iter(keys).boxed());
        let mut failed = None;
        while let Some(result) = deleting.next().await {
            match result {
                Ok(key) => gone.extend(ids.get(&key)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        (gone, failed)
    }
}
