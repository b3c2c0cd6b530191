//! What a failure of SQLite means: the one place that reads its error codes.
//!
//! A full disk or a locked file changed nothing. A log whose index found no room to grow, on the disk or in memory,
//! holds the transaction already: rolled back for who runs on, it comes back if the process dies before the next
//! one is written, so that its fate is unknown. A failed read, write or fsync, or a corrupt page, means that what
//! is stored cannot be trusted any more: the process must stop. Everything unforeseen counts as damage too, because
//! carrying on could break the promise.

use rusqlite::{Error, ErrorCode, ffi};

use crate::store::admin::{AlterClientMetricsError, AlterConfigError, QuotaError};
use crate::store::groups::GroupError;
use crate::store::transactions::TransactionError;
use crate::store::{CommitError, StoreError, SwapError, TopicError};

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(error.to_string()),
            Some(ErrorCode::SystemIoFailure) if lacks_room_for_index(&error) => {
                Self::Unknown(error.to_string())
            }
            Some(ErrorCode::OutOfMemory) => Self::Unknown(error.to_string()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::OperationInterrupted) => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Damaged(error.to_string()),
        }
    }
}

fn lacks_room_for_index(error: &Error) -> bool {
    error.sqlite_error().map(|code| code.extended_code) == Some(ffi::SQLITE_IOERR_SHMSIZE)
}

/// What stopped something that is repeated until it is answered, whatever became of it: no room is no room.
fn repeated(error: Error) -> StoreError {
    if lacks_room_for_index(&error) {
        StoreError::Full(error.to_string())
    } else {
        error.into()
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        Self::Store(repeated(error))
    }
}

impl From<Error> for AlterClientMetricsError {
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
        Self::Store(repeated(error))
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

impl From<Error> for TransactionError {
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

impl Fault for TransactionError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
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

impl Fault for AlterClientMetricsError {
    fn fault(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            Self::Config(_) | Self::TooMany { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_26_failed_io_is_damage_and_a_full_or_busy_disk_is_not() {
        let meaning = |code| StoreError::from(Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_MISUSE,
        ] {
            assert!(matches!(meaning(code), StoreError::Damaged(_)), "{code}");
        }
        assert!(matches!(meaning(ffi::SQLITE_FULL), StoreError::Full(_)));
        for code in [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_NOMEM] {
            assert!(matches!(meaning(code), StoreError::Unknown(_)), "{code}");
        }
        let no_room = ffi::Error::new(ffi::SQLITE_IOERR_SHMSIZE);
        let committing = CommitError::from(Error::SqliteFailure(no_room, None));
        assert!(matches!(committing, CommitError::Store(StoreError::Full(_))));
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED] {
            assert!(matches!(meaning(code), StoreError::Unavailable(_)), "{code}");
        }
    }
}
