//! Writing and removing files: the blocking half of PUT and DELETE.
//!
//! Invariant: a name is created or replaced only while its caller still waits, and taken back only
//! while it still names the file that this very call created. So a PUT stuck in the kernel can do no
//! harm to the retry that followed it, nor to what was committed since.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::path::Path;
use object_store::{PutMode, PutPayload, PutResult};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::error::LocalError;
use super::read::e_tag;
use super::{Room, not_implemented};
use crate::stores::reuse::{BLOCK_BYTES, LARGE_BYTES_MIN};

/// From this size on bytes go past the page cache, both ways: they are read from our own cache or from the
/// disk, and copying them through the page cache costs more than twice the CPU time.
pub(super) const DIRECT_BYTES_MIN: usize = LARGE_BYTES_MIN;

/// A PUT on its way to a blocking thread.
pub(super) struct Put {
    key: Path,
    payload: PutPayload,
    replace: bool,
    given_up: Arc<AtomicBool>,
}

/// Tells the blocking half, when dropped, that nobody waits any more.
pub(super) struct GiveUpOnDrop(Arc<AtomicBool>);

impl Drop for GiveUpOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Put {
    pub(super) fn new(key: &Path, payload: PutPayload, mode: &PutMode) -> object_store::Result<Self> {
        let replace = match mode {
            PutMode::Overwrite => true,
            PutMode::Create => false,
            PutMode::Update(_) => return Err(not_implemented("put_opts with PutMode::Update")),
        };
        Ok(Self {
            key: key.clone(),
            payload,
            replace,
            given_up: Arc::new(AtomicBool::new(false)),
        })
    }

    pub(super) fn give_up_on_drop(&self) -> GiveUpOnDrop {
        GiveUpOnDrop(Arc::clone(&self.given_up))
    }
}

impl Room {
    pub(super) fn put(&self, put: &Put) -> Result<PutResult, LocalError> {
        self.check_alive()?;
        let path = self.file_of(&put.key)?;
        let directory = self.directories.of(self, &path)?;
        let file = self.create(put, &path)?;
        let written = self
            .fill(&file, &path, &put.payload)
            .and_then(|()| self.sync(&file, &path));
        if let Err(error) = written {
            self.take_back(&file, &path);
            return Err(error);
        }
        let parent = path.parent().unwrap_or(&self.root);
        self.sync(&directory, parent)?;
        let meta = file.metadata().map_err(|source| LocalError::io(&path, source))?;
        Ok(PutResult {
            e_tag: Some(e_tag(&meta)),
            version: None,
            extensions: object_store::Extensions::default(),
        })
    }

    /// Creates the file under its final name. An earlier copy under the same key gives way to it: only
    /// a retry writes a key twice, and it writes the same bytes.
    fn create(&self, put: &Put, path: &FsPath) -> Result<File, LocalError> {
        let create_new = || File::options().read(true).write(true).create_new(true).open(path);
        let failed = |source| LocalError::io(path, source);
        let _names = self.names.lock();
        if put.given_up.load(Ordering::SeqCst) {
            return Err(LocalError::GivenUp);
        }
        match create_new() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && put.replace => {
                std::fs::remove_file(path).map_err(failed)?;
                create_new().map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    /// Removes the partial file of a failed PUT, so that a full disk gets its space back at once.
    fn take_back(&self, file: &File, path: &FsPath) {
        let _names = self.names.lock();
        let (Ok(ours), Ok(named)) = (file.metadata(), std::fs::symlink_metadata(path)) else {
            return;
        };
        if (ours.dev(), ours.ino()) == (named.dev(), named.ino())
            && let Err(error) = std::fs::remove_file(path)
        {
            // It stays behind as an orphan and is collected like one.
            tracing::debug!(%error, path = %path.display(), "a partial object could not be removed");
        }
    }

    fn fill(&self, file: &File, path: &FsPath, payload: &PutPayload) -> Result<(), LocalError> {
        let failed = |source| LocalError::io(path, source);
        let length = payload.content_length();
        if length >= DIRECT_BYTES_MIN {
            reserve(file, length).map_err(failed)?;
            if set_direct(file, true).map_err(failed)? {
                return self.fill_direct(file, payload).map_err(failed);
            }
        }
        let mut position = 0;
        for chunk in payload {
            file.write_all_at(chunk, position).map_err(failed)?;
            position += chunk.len() as u64;
        }
        // The reservation may have been longer.
        file.set_len(length as u64).map_err(failed)
    }

    fn fill_direct(&self, file: &File, payload: &PutPayload) -> io::Result<()> {
        let mut buffer = self.staging.take();
        let result = write_direct(file, payload, buffer.aligned());
        self.staging.put_back(buffer);
        result
    }

    pub(super) fn remove(&self, key: &Path) -> Result<(), LocalError> {
        let path = self.file_of(key)?;
        let _names = self.names.lock();
        // Not synced: a file that a power cut brings back is an orphan of a past incarnation.
        std::fs::remove_file(&path).map_err(|source| LocalError::io(&path, source))
    }
}

/// Gathers the chunks into whole blocks; the last one is padded and the file cut to length.
fn write_direct(file: &File, payload: &PutPayload, buffer: &mut [u8]) -> io::Result<()> {
    let (mut position, mut filled) = (0u64, 0);
    for chunk in payload {
        let mut rest: &[u8] = chunk;
        while !rest.is_empty() {
            let count = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            rest = &rest[count..];
            if filled == buffer.len() {
                write_blocks(file, buffer, position)?;
                position += filled as u64;
                filled = 0;
            }
        }
    }
    if filled > 0 {
        let padded = filled.next_multiple_of(BLOCK_BYTES);
        buffer[filled..padded].fill(0);
        write_blocks(file, &buffer[..padded], position)?;
    }
    file.set_len(payload.content_length() as u64)
}

/// A file system may accept the flag and refuse the write: then the rest goes through the page cache.
fn write_blocks(file: &File, blocks: &[u8], position: u64) -> io::Result<()> {
    match file.write_all_at(blocks, position) {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            set_direct(file, false)?;
            file.write_all_at(blocks, position)
        }
        result => result,
    }
}

/// Reserves the space in one piece: a full disk shows at once, and the fsync has less to write.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    let rounded = length.next_multiple_of(BLOCK_BYTES) as u64;
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, rounded) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        result => Ok(result?),
    }
}

/// False where the file system knows no direct writes.
pub(super) fn set_direct(file: &File, direct: bool) -> io::Result<bool> {
    let mut flags = rustix::fs::fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    match rustix::fs::fcntl_setfl(file, flags) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
