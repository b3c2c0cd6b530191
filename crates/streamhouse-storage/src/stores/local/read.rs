//! Reading files: the blocking half of GET and HEAD.
//!
//! Invariant: a range is answered with exactly its bytes or with an error, never with fewer.

use std::fs::{File, Metadata};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use object_store::path::Path;
use object_store::{Attributes, GetOptions, GetResult, GetResultPayload, ObjectMeta, Result};

use super::error::{LocalError, RangeError};
use super::reuse::ReadMemory;
use super::{LocalStore, Room, STORE};

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
    /// The bytes of a range that lies within the object.
    pub(super) fn read(&self, range: Range<u64>, memory: &ReadMemory) -> Result<Bytes, LocalError> {
        let length_bytes = self.meta.size;
        if range.start > range.end || range.end > length_bytes {
            return Err(LocalError::Range(RangeError {
                start: range.start,
                end: range.end,
                length_bytes,
            }));
        }
        let failed = |source| LocalError::io(&self.path, source);
        let wanted = range.end - range.start;
        // Reading to the end of a limited reader fills memory that was never zeroed.
        let mut bytes = memory.take(usize::try_from(wanted).unwrap_or(usize::MAX));
        let mut file = &self.file;
        file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        file.take(wanted).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 != wanted {
            return Err(LocalError::Short {
                path: self.path.clone(),
                position: range.start,
                wanted,
                actual: bytes.len() as u64,
            });
        }
        Ok(memory.lend(bytes))
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
                let step = move |position: u64| {
                    let (store, object, end) = (store.clone(), Arc::clone(&object), range.end);
                    async move {
                        if position >= end {
                            return Ok(None);
                        }
                        let next = end.min(position + CHUNK_BYTES);
                        let bytes = store
                            .blocking(move |room| object.read(position..next, &room.reading))
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
