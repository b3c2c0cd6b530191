//! Whose bucket is this? The cluster's id, kept beside the objects.
//!
//! Invariant: the id object is created once, conditionally, and never overwritten; metadata and object
//! store of different clusters refuse to work together. So do metadata that name stored objects and an object store
//! that nobody has claimed: it is another one, or a disk that is not mounted.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use uuid::Uuid;

/// The key of the id object.
pub const IDENTITY_KEY: &str = "streamhouse/cluster";

/// First line of the id object; a change of its form gets a new number.
const HEADER: &str = "streamhouse-cluster 1";

/// Why a store is not the one that belongs to the metadata.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the object store belongs to cluster {found}, the metadata to cluster {expected}")]
    Mismatch { expected: Uuid, found: Uuid },
    #[error(
        "the metadata names {objects} stored objects, but this object store has never been used ({IDENTITY_KEY} is \
         missing): is it the right one, and mounted? To go on without what was stored, put the two lines \
         \"{HEADER}\" and \"{cluster}\" there"
    )]
    Unclaimed { objects: u64, cluster: Uuid },
    #[error("{IDENTITY_KEY} in the object store cannot be read: {0:?}")]
    Unreadable(String),
    #[error(transparent)]
    Store(#[from] Error),
}

/// Makes sure that the store belongs to `cluster`, and claims it where it belongs to nobody. `objects`: how many
/// the metadata says are there.
pub async fn check_identity(
    store: &dyn ObjectStore,
    cluster: Uuid,
    objects: u64,
) -> Result<(), IdentityError> {
    let key = Path::from(IDENTITY_KEY);
    let found = match read(store, &key).await? {
        Some(found) => found,
        None if objects > 0 => return Err(IdentityError::Unclaimed { objects, cluster }),
        None => {
            let text = Bytes::from(format!("{HEADER}\n{cluster}\n"));
            match store
                .put_opts(&key, PutPayload::from_bytes(text), PutMode::Create.into())
                .await
            {
                // Somebody was faster: another agent, or our own first try whose answer got lost.
                Ok(_) | Err(Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // Read back in any case: what stands there decides, not what we believe to have written.
            read(store, &key)
                .await?
                .ok_or_else(|| IdentityError::Unreadable("absent after its creation".into()))?
        }
    };
    match found == cluster {
        true => Ok(()),
        false => Err(IdentityError::Mismatch {
            expected: cluster,
            found,
        }),
    }
}

async fn read(store: &dyn ObjectStore, key: &Path) -> Result<Option<Uuid>, IdentityError> {
    let bytes = match store.get(key).await {
        Ok(result) => result.bytes().await?,
        Err(Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let id = (lines.next() == Some(HEADER))
        .then(|| lines.next().and_then(|line| line.parse().ok()))
        .flatten();
    match id {
        Some(id) => Ok(Some(id)),
        None => Err(IdentityError::Unreadable(text.chars().take(200).collect())),
    }
}
