//! Proves that a store can be written, read and deleted, and says plainly why not.
//!
//! Used at start and after a failed PUT, never on a timer: an idle server asks nothing of its store.
//! Invariant: the probe's key is its own each time and lies outside `objects/`.

use bytes::Bytes;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _, PutPayload};
use uuid::Uuid;

use super::fault::{Fault, Stalled, classify, find};
use super::local::LocalError;
use super::open::OpenedStore;
use super::s3::Refusal;
use super::url::StoreUrl;

/// Why a store does not serve.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("{store}: the bucket does not exist")]
    MissingBucket { store: StoreUrl },
    #[error("{store}: the secret key is wrong (the store refuses the signature)")]
    WrongSecret { store: StoreUrl },
    #[error("{store}: the store does not know this access key")]
    UnknownAccessKey { store: StoreUrl },
    #[error("{store}: access denied: {message}")]
    Denied { store: StoreUrl, message: String },
    #[error("{store}: the bucket lies in another region; set AWS_REGION ({message})")]
    WrongRegion { store: StoreUrl, message: String },
    #[error("{store}: cannot reach {endpoint}: {source}")]
    Unreachable {
        store: StoreUrl,
        endpoint: String,
        source: Error,
    },
    #[error("{store}: the directory cannot be written: {source}")]
    NotWritable { store: StoreUrl, source: Error },
    #[error("{store}: the disk is full: {source}")]
    DiskFull { store: StoreUrl, source: Error },
    #[error("{store}: what was written came back differently")]
    Lies { store: StoreUrl },
    #[error("{store}: {source}")]
    Other { store: StoreUrl, source: Error },
}

impl CheckError {
    /// True where waiting may help; false where somebody has to change something.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::DiskFull { .. } => true,
            Self::MissingBucket { .. }
            | Self::WrongSecret { .. }
            | Self::UnknownAccessKey { .. }
            | Self::Denied { .. }
            | Self::WrongRegion { .. }
            | Self::NotWritable { .. }
            | Self::Lies { .. } => false,
            Self::Other { source, .. } => classify(source) == Fault::Transient,
        }
    }
}

/// Looks for, writes, reads and deletes a key of its own. Takes at most the retry policy's deadlines
/// together. It looks first because some servers make a missing bucket when something is written to it:
/// a bucket's name that was mistyped would go unnoticed.
pub async fn check(opened: &OpenedStore) -> Result<(), CheckError> {
    let key = Path::from(format!("streamhouse/probe-{}", Uuid::new_v4()));
    let written = Bytes::copy_from_slice(key.as_ref().as_bytes());
    let explain = |error| explain(opened, error);
    let store = &opened.store;
    match store.get(&key).await {
        Ok(_) | Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(explain(error)),
    }
    store
        .put(&key, PutPayload::from_bytes(written.clone()))
        .await
        .map_err(explain)?;
    let read = async { store.get(&key).await?.bytes().await }.await;
    let deleted = store.delete(&key).await;
    if read.map_err(explain)? != written {
        return Err(CheckError::Lies {
            store: opened.url.clone(),
        });
    }
    deleted.map_err(explain)
}

fn explain(opened: &OpenedStore, error: Error) -> CheckError {
    let store = opened.url.clone();
    if let Some(refusal) = find::<Refusal>(&error) {
        let message = refusal.to_string();
        return match (refusal.code.as_str(), refusal.status) {
            ("NoSuchBucket", _) => CheckError::MissingBucket { store },
            ("SignatureDoesNotMatch", _) => CheckError::WrongSecret { store },
            ("InvalidAccessKeyId", _) => CheckError::UnknownAccessKey { store },
            (
                "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => CheckError::WrongRegion { store, message },
            (_, 401 | 403) => CheckError::Denied { store, message },
            _ => CheckError::Other { store, source: error },
        };
    }
    match find::<LocalError>(&error) {
        Some(LocalError::NotPermitted { .. }) => return CheckError::NotWritable { store, source: error },
        Some(LocalError::DiskFull { .. }) => return CheckError::DiskFull { store, source: error },
        _ => {}
    }
    let silent = find::<Stalled>(&error).is_some();
    let cut_off = find::<HttpError>(&error).is_some_and(|error| {
        matches!(
            error.kind(),
            HttpErrorKind::Connect
                | HttpErrorKind::Timeout
                | HttpErrorKind::Request
                | HttpErrorKind::Interrupted
        )
    });
    match &opened.endpoint {
        Some(endpoint) if silent || cut_off => CheckError::Unreachable {
            store,
            endpoint: endpoint.clone(),
            source: error,
        },
        _ => CheckError::Other { store, source: error },
    }
}
