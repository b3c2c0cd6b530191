//! What tells health how the stores and the writer are: real traffic first, a probe where there is none.
//!
//! PUTs are writes, GETs and HEADs reads. Deletes and listings say nothing: only upkeep asks for them, and a
//! task that fails keeps no client waiting. An object that is broken says nothing about the store either, and
//! what fails for want of room is the disk's fault. The rules are in `streamhouse-observability`.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ObjectStoreExt as _;
use streamhouse_metadata::store::MetadataStore;
use streamhouse_observability::families::Operation;
use streamhouse_observability::health::{Access, Attempt, Probe, RoomHandle};
use streamhouse_observability::{HealthHandle, ProgressWatch};
use streamhouse_storage::stores::fault::{concerns_one_object, is_disk_full};
use streamhouse_storage::stores::retrying::{AttemptObserver, ObservedAttempt};
use streamhouse_storage::stores::{OpenedStore, check, identity};
use streamhouse_storage::writer::Writer;
use tokio_util::sync::CancellationToken;

/// How often the writer is looked at.
const WRITER_LOOK: Duration = Duration::from_secs(1);

/// The attempts of the object store.
pub(crate) struct Attempts {
    pub store: HealthHandle,
    /// Where the store is a directory.
    pub room: Option<RoomHandle>,
}

struct Watch {
    attempt: Option<Attempt>,
    room: Option<RoomHandle>,
}

impl AttemptObserver for Attempts {
    fn begun(&self, operation: Operation) -> Box<dyn ObservedAttempt> {
        let access = match operation {
            Operation::Put
            | Operation::CreateMultipart
            | Operation::PutMultipart
            | Operation::CompleteMultipart => Some(Access::Write),
            Operation::Get | Operation::Head => Some(Access::Read),
            Operation::List | Operation::Delete | Operation::DeleteBatch | Operation::AbortMultipart => None,
        };
        Box::new(Watch {
            attempt: access.map(|access| self.store.begin(access)),
            room: self.room.clone().filter(|_| access == Some(Access::Write)),
        })
    }
}

impl ObservedAttempt for Watch {
    fn succeeded(self: Box<Self>) {
        if let Some(room) = self.room {
            room.has_room();
        }
        if let Some(attempt) = self.attempt {
            attempt.succeeded();
        }
    }

    fn failed(self: Box<Self>, error: &object_store::Error) {
        match (self.attempt, self.room) {
            (_, Some(room)) if is_disk_full(error) => room.full(&error.to_string()),
            (Some(attempt), _) if !concerns_one_object(error) => attempt.failed(&error.to_string()),
            _ => {}
        }
    }
}

/// Asked when nobody has used the object store lately: whose it is. After a failed PUT a key is written, read
/// and deleted, because a store that takes nothing may still be read.
pub(crate) struct ObjectProbe(pub OpenedStore);

#[async_trait]
impl Probe for ObjectProbe {
    async fn probe(&self, access: Access) -> Result<(), String> {
        if access == Access::Write {
            return check(&self.0).await.map_err(|error| error.to_string());
        }
        let key = object_store::path::Path::from(identity::IDENTITY_KEY);
        let found = self.0.store.head(&key).await;
        found.map(|_| ()).map_err(|error| error.to_string())
    }
}

pub(crate) struct MetadataProbe(pub Arc<dyn MetadataStore>);

#[async_trait]
impl Probe for MetadataProbe {
    async fn probe(&self, access: Access) -> Result<(), String> {
        let probed = self.0.probe(access == Access::Write).await;
        probed.map_err(|error| error.to_string())
    }
}

/// Looks whether batches wait and whether any has got its answer, until the agent stops.
pub(crate) async fn watch_writer(writer: Arc<Writer>, watch: ProgressWatch, stopping: CancellationToken) {
    let mut answered = 0;
    while !stopping.is_cancelled() {
        let seen = writer.progress();
        watch.set_queued(seen.waiting);
        if seen.answered != answered {
            watch.progress_after(seen.last_wait);
        }
        answered = seen.answered;
        tokio::time::sleep(WRITER_LOOK).await;
    }
}
