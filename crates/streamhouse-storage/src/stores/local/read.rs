//! Reading files: the blocking half of GET and HEAD.
//!
//! Invariant: a range is answered with exactly its bytes or with an error, never with fewer.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use object_store::path::Path;
use object_store::{Attributes, GetOptions, GetResult, GetResultPayload, ObjectMeta, Result};
use rustix::io::Errno;

use super::error::{LocalError, RangeError};
use super::write::{DIRECT_BYTES_MIN, set_direct};
use super::{LocalStore, Room, STORE};
use crate::stores::reuse::{BLOCK_BYTES, ReadMemory};

/// Bytes read in one call of a blocking thread: any segment in one piece, so that nothing has to be
/// joined from several.
const CHUNK_BYTES: u64 = 128 * 1024 * 1024;

/// An object opened for reading: a later delete or replacement does not touch it.
pub(super) struct OpenObject {
    file: File,
    path: PathBuf,
    pub(super) meta: ObjectMeta,
}

impl Room {
    pub(super) fn open_object(&self, key: &Path) -> Result<OpenObject, LocalError> {
        let path = self.file_of(key)?;
        let failed = |source| LocalError::io(&path, source);
        let file = File::open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(LocalError::Missing { path });
        }
        let meta = object_meta(key.clone(), &metadata);
        Ok(OpenObject { file, path, meta })
    }
}

impl OpenObject {
    /// The bytes of a range that lies within the object. Once `large`, always: it stays with the file.
    pub(super) fn read(
        &self,
        range: Range<u64>,
        large: bool,
        memory: &ReadMemory,
    ) -> Result<Bytes, LocalError> {
        let length_bytes = self.meta.size;
        if range.start > range.end || range.end > length_bytes {
            return Err(LocalError::Range(RangeError {
                start: range.start,
                end: range.end,
                length_bytes,
            }));
        }
        let wanted = (range.end - range.start) as usize;
        let (bytes, actual) = match large {
            true => read_large(&self.file, &range, memory),
            false => read_small(&self.file, &range),
        }
        .map_err(|source| LocalError::io(&self.path, source))?;
        if actual != wanted {
            return Err(LocalError::Short {
                path: self.path.clone(),
                position: range.start,
                wanted: wanted as u64,
                actual: actual as u64,
            });
        }
        Ok(bytes)
    }

    /// Answers a GET; the bytes are read chunk by chunk as they are asked for.
    pub(super) async fn into_result(self, store: &LocalStore, options: GetOptions) -> Result<GetResult> {
        let meta = self.meta.clone();
        let range = match options.range {
            Some(range) => range
                .as_range(meta.size)
                .map_err(|source| object_store::Error::Generic {
                    store: STORE,
                    source: source.into(),
                })?,
            None => 0..meta.size,
        };
        let payload = match options.head {
            true => stream::empty().boxed(),
            false => {
                let (store, object) = (store.clone(), Arc::new(self));
                let large = range.end.saturating_sub(range.start) >= DIRECT_BYTES_MIN as u64;
                let step = move |position: u64| {
                    let (store, object, end) = (store.clone(), Arc::clone(&object), range.end);
                    async move {
                        if position >= end {
                            return Ok(None);
                        }
                        let next = end.min(position + CHUNK_BYTES);
                        let bytes = store
                            .blocking(move |room| object.read(position..next, large, &room.reading))
                            .await?;
                        Ok(Some((bytes, next)))
                    }
                };
                stream::try_unfold(range.start, step).boxed()
            }
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(payload),
            meta,
            range,
            attributes: Attributes::default(),
            extensions: object_store::Extensions::default(),
        })
    }
}

/// The bytes and their number.
fn read_small(mut file: &File, range: &Range<u64>) -> io::Result<(Bytes, usize)> {
    // Reading to the end of a limited reader fills memory that was never zeroed.
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
    file.seek(SeekFrom::Start(range.start))?;
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    let actual = bytes.len();
    Ok((Bytes::from(bytes), actual))
}

/// Reads whole blocks of the disk, straight into the memory that is handed out: the way through the page
/// cache costs a copy, and what was written past it is not there.
fn read_large(file: &File, range: &Range<u64>, memory: &ReadMemory) -> io::Result<(Bytes, usize)> {
    let first = range.start - range.start % BLOCK_BYTES as u64;
    let skipped = (range.start - first) as usize;
    let wanted = (range.end - range.start) as usize;
    let mut block = memory.take(skipped + wanted);
    let target = block.aligned();
    let read = match set_direct(file, true)? {
        true => match fill(file, first, target) {
            // A file system may accept the flag and refuse the read.
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                set_direct(file, false)?;
                fill(file, first, target)?
            }
            result => result?,
        },
        false => fill(file, first, target)?,
    };
    let actual = read.saturating_sub(skipped).min(wanted);
    Ok((block.lend(skipped..skipped + actual), actual))
}

/// Reads until the target is full or the file ends; how much was read.
fn fill(file: &File, position: u64, target: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < target.len() {
        match file.read_at(&mut target[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // Only the end of the file is no whole block; going on from there would not be aligned.
        if filled % BLOCK_BYTES != 0 {
            break;
        }
    }
    Ok(filled)
}

pub(super) fn object_meta(location: Path, metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: metadata
            .modified()
            .map_or_else(|_| Default::default(), Into::into),
        size: metadata.len(),
        e_tag: Some(e_tag(metadata)),
        version: None,
    }
}

/// Differs between any two files that ever stood under a key, as far as the file system can tell.
pub(super) fn e_tag(metadata: &Metadata) -> String {
    format!(
        "\"{:x}-{:x}.{:x}-{:x}\"",
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len()
    )
}

/// What stands at `path` below the root, as a key.
pub(super) fn key_of(root: &FsPath, path: &FsPath) -> Option<Path> {
    let relative = path.strip_prefix(root).ok()?.to_str()?;
    Path::parse(relative).ok()
}
