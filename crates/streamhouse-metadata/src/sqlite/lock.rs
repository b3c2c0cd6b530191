//! The lock that makes the store alone (TRACES 27): a file beside the database, locked with `flock`.
//!
//! The kernel releases it when the process dies, however it dies. It is not the database file itself,
//! because closing any descriptor of that file would drop SQLite's own locks. The file stays behind; an
//! unlocked one means nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::options::OpenError;

/// Held as long as the store may write.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

/// Makes the directory of `database` durable and takes the lock beside it.
pub(super) fn take(database: &Path) -> Result<StoreLock, OpenError> {
    let directory = match database.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let io = |path: &Path, source| OpenError::Io {
        path: path.to_path_buf(),
        source,
    };
    create_durably(&directory).map_err(|e| io(&directory, e))?;
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = open.map_err(|e| io(&path, e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(StoreLock { _file: file }),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Locked {
            path: database.to_path_buf(),
        }),
        Err(errno) => Err(io(&path, errno.into())),
    }
}

/// Creates missing directories, each made durable in the one above it (TRACES 26).
fn create_durably(directory: &Path) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent().filter(|p| *p != Path::new("")) {
        create_durably(parent)?;
        fs::create_dir(directory).or_else(|e| if directory.is_dir() { Ok(()) } else { Err(e) })?;
        return File::open(parent)?.sync_all();
    }
    fs::create_dir(directory)?;
    File::open(".")?.sync_all()
}
