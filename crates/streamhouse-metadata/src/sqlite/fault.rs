//! What a failure of SQLite means: the one place that reads its error codes.
//!
//! A full disk or a locked file changed nothing. A failed read, write or fsync, or a corrupt page, means
//! that what is stored cannot be trusted any more: the process must stop. Everything unforeseen counts
//! as damage too, because carrying on could break the promise.

use rusqlite::{Error, ErrorCode};

use crate::store::admin::{AlterConfigError, QuotaError};
use crate::store::groups::GroupError;
use crate::store::{CommitError, StoreError, SwapError, TopicError};

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OutOfMemory
                | ErrorCode::OperationInterrupted,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Error> for TopicError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Error> for SwapError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Error> for AlterConfigError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Error> for GroupError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<Error> for QuotaError {
    fn from(error: Error) -> Self {
        Self::Store(error.into())
    }
}

/// An error that may carry a fault of the store.
pub(super) trait Fault {
    fn fault(&self) -> Option<&StoreError>;
}

impl Fault for StoreError {
    fn fault(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl Fault for CommitError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl Fault for TopicError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl Fault for SwapError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Fenced(_) => None,
        }
    }
}

impl Fault for AlterConfigError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Unknown | Self::Config(_) => None,
        }
    }
}

impl Fault for GroupError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Fenced(_) | Self::Unknown(_) | Self::NotEmpty(_) | Self::TooMany { .. } => None,
        }
    }
}

impl Fault for QuotaError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::TooMany { .. } => None,
        }
    }
}
