//! Whether the database is still where it was opened.
//!
//! A file that was removed or replaced stays open and takes every write, and nobody finds them after the next
//! start. So each job that may write looks first whether the name still leads to the open file. What is
//! refused here changed nothing and goes on once the file is back; the process stays, because as long as
//! it does, what was committed can be copied from its open file.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::store::StoreError;

pub(super) struct Presence {
    files: [Named; 2],
}

struct Named {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Named {
    fn of(path: PathBuf) -> std::io::Result<Self> {
        let found = std::fs::metadata(&path)?;
        Ok(Self {
            device: found.dev(),
            inode: found.ino(),
            path,
        })
    }

    fn is_there(&self) -> bool {
        std::fs::metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Presence {
    /// Of a database that is open and in WAL mode: the log keeps its file as long as somebody has it open.
    pub(super) fn of(database: &Path) -> std::io::Result<Self> {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        Ok(Self {
            files: [Named::of(database.to_path_buf())?, Named::of(PathBuf::from(log))?],
        })
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        match self.files.iter().find(|file| !file.is_there()) {
            None => Ok(()),
            Some(file) => Err(StoreError::Unavailable(format!(
                "{} was removed or replaced while in use; put it back, or copy it from this process's open files \
                 before it ends",
                file.path.display()
            ))),
        }
    }
}
