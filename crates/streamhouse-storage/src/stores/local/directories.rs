//! The directories below the root, made durable once and kept open to be synced again.
//!
//! Invariant: a directory handed out by [`Directories::of`] has an entry in its parent that is on the
//! device, and so have all its ancestors up to the root. Directories are never removed, so what was
//! durable once stays so.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Room;
use super::error::LocalError;

/// Directories kept open. There is one per incarnation; an old one is opened again in microseconds.
const OPEN_MAX: usize = 64;

pub(super) struct Directories {
    root: PathBuf,
    durable: Mutex<HashMap<PathBuf, Arc<File>>>,
}

impl Directories {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            durable: Mutex::new(HashMap::new()),
        }
    }

    /// The directory that holds `file`, created with its ancestors where missing.
    ///
    /// One that exists is synced into its parent as well when it is first met: it may stem from a
    /// process that died between creating and syncing it.
    pub(super) fn of(&self, room: &Room, file: &Path) -> Result<Arc<File>, LocalError> {
        let parent = file.parent().unwrap_or(&self.root);
        self.durable_at(room, parent)
    }

    fn durable_at(&self, room: &Room, path: &Path) -> Result<Arc<File>, LocalError> {
        if let Some(directory) = self.durable.lock().get(path) {
            return Ok(Arc::clone(directory));
        }
        let failed = |source| LocalError::io(path, source);
        if path != self.root
            && let Some(parent) = path.parent()
        {
            let above = self.durable_at(room, parent)?;
            match std::fs::create_dir(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
            room.sync(&above, parent)?;
        }
        let directory = Arc::new(File::open(path).map_err(failed)?);
        let mut durable = self.durable.lock();
        if durable.len() >= OPEN_MAX {
            durable.clear();
        }
        durable.insert(path.to_path_buf(), Arc::clone(&directory));
        Ok(directory)
    }
}
