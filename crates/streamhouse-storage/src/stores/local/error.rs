//! How the local directory fails, and how that looks through `object_store`'s own error.
//!
//! Invariant: everything but a missing or an existing key travels as the typed [`LocalError`] inside
//! `Error::Generic`, so that the retrying wrapper decides on a type and never on a text.

use std::io;
use std::path::PathBuf;

use super::STORE;

/// Why a directory cannot serve as object store.
#[derive(Debug, thiserror::Error)]
pub enum LocalOpenError {
    #[error("the object directory {path} is in use by another process")]
    Locked { path: PathBuf },
    #[error("the object directory cannot be used: {path}: {source}")]
    Unusable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Sync(Box<LocalError>),
}

/// Why one call on the directory failed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("{key:?} cannot be a key of the object directory")]
    BadKey { key: String },
    #[error("no such object: {path}")]
    Missing { path: PathBuf },
    #[error("the object exists already: {path}")]
    Exists { path: PathBuf },
    #[error("the disk is full: {path}: {source}")]
    DiskFull { path: PathBuf, source: io::Error },
    #[error("not permitted: {path}: {source}")]
    NotPermitted { path: PathBuf, source: io::Error },
    #[error("fsync failed, the disk cannot be trusted: {path}: {source}")]
    Fsync { path: PathBuf, source: io::Error },
    #[error("an earlier fsync failed: nothing is written any more")]
    Stopped,
    /// The caller had stopped waiting before the name was created; nothing was written.
    #[error("the write was given up before it began")]
    GivenUp,
    #[error("{path} holds {actual} bytes at {position}, {wanted} wanted")]
    Short {
        path: PathBuf,
        position: u64,
        wanted: u64,
        actual: u64,
    },
    #[error(transparent)]
    Range(#[from] RangeError),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// A range that does not fit the object.
#[derive(Debug, thiserror::Error)]
#[error("the range {start}..{end} does not fit an object of {length_bytes} bytes")]
pub struct RangeError {
    pub start: u64,
    pub end: u64,
    pub length_bytes: u64,
}

impl LocalError {
    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotPermitted { path, source }
            }
            _ => Self::Io { path, source },
        }
    }

    /// True where another try may go better without anybody's help but time's.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Io { .. } => true,
            Self::BadKey { .. }
            | Self::Missing { .. }
            | Self::Exists { .. }
            | Self::NotPermitted { .. }
            | Self::Fsync { .. }
            | Self::Stopped
            | Self::GivenUp
            | Self::Short { .. }
            | Self::Range(_) => false,
        }
    }
}

impl From<LocalError> for object_store::Error {
    fn from(error: LocalError) -> Self {
        match &error {
            LocalError::Missing { path } => Self::NotFound {
                path: path.display().to_string(),
                source: error.into(),
            },
            LocalError::Exists { path } => Self::AlreadyExists {
                path: path.display().to_string(),
                source: error.into(),
            },
            LocalError::NotPermitted { path, .. } => Self::PermissionDenied {
                path: path.display().to_string(),
                source: error.into(),
            },
            _ => Self::Generic {
                store: STORE,
                source: error.into(),
            },
        }
    }
}
