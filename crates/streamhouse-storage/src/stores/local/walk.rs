//! Listing: the directory tree in the order of the keys, a bounded page at a time.
//!
//! Invariant: keys come in ascending byte order, as from S3, so that a listing can go on after the
//! last key seen. Files whose names cannot be keys, and the lock file, are not ours and not shown.

use std::fs::DirEntry;
use std::io;
use std::path::{Path as FsPath, PathBuf};

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, Result};

use super::error::LocalError;
use super::read::{key_of, object_meta};
use super::{LOCK_FILE, LocalStore, Room};

/// Keys looked up by one call of a blocking thread.
const PAGE_KEYS: usize = 1_000;

/// What is still to be visited; the last entry is next.
#[derive(Default)]
struct Walk {
    pending: Vec<Entry>,
    after: Option<Path>,
}

struct Entry {
    path: PathBuf,
    directory: bool,
}

pub(super) fn list(
    store: LocalStore,
    prefix: Option<Path>,
    after: Option<Path>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let start = store.root().join(prefix.unwrap_or_default().as_ref());
    let walk = Walk {
        pending: vec![Entry {
            path: start,
            directory: true,
        }],
        after,
    };
    stream::try_unfold(walk, move |walk| {
        let store = store.clone();
        async move {
            if walk.pending.is_empty() {
                return Ok::<_, object_store::Error>(None);
            }
            let (page, walk) = store.blocking(move |room| room.page(walk)).await?;
            Ok(Some((stream::iter(page.into_iter().map(Ok)), walk)))
        }
    })
    .try_flatten()
    .boxed()
}

impl Room {
    fn page(&self, mut walk: Walk) -> Result<(Vec<ObjectMeta>, Walk), LocalError> {
        let mut page = Vec::new();
        while let Some(entry) = walk.pending.pop() {
            if entry.directory {
                walk.pending.extend(self.entries(&entry.path)?.into_iter().rev());
            } else if let Some(key) = key_of(&self.root, &entry.path)
                && walk.after.as_ref().is_none_or(|after| key > *after)
                && let Some(meta) = look_up(key, &entry.path)?
            {
                page.push(meta);
            }
            if page.len() >= PAGE_KEYS {
                break;
            }
        }
        Ok((page, walk))
    }

    pub(super) fn list_directory(&self, prefix: &Path) -> Result<ListResult, LocalError> {
        let mut result = ListResult {
            common_prefixes: Vec::new(),
            objects: Vec::new(),
            extensions: object_store::Extensions::default(),
        };
        for entry in self.entries(&self.root.join(prefix.as_ref()))? {
            let Some(key) = key_of(&self.root, &entry.path) else {
                continue;
            };
            if entry.directory {
                result.common_prefixes.push(key);
            } else if let Some(meta) = look_up(key, &entry.path)? {
                result.objects.push(meta);
            }
        }
        Ok(result)
    }

    /// Files and directories in the order of the keys they hold: a directory sorts as if its name
    /// ended in a slash. A directory that is missing is empty.
    fn entries(&self, directory: &FsPath) -> Result<Vec<Entry>, LocalError> {
        let failed = |source| LocalError::io(directory, source);
        let listing = match std::fs::read_dir(directory) {
            Ok(listing) => listing,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut entries = Vec::new();
        for entry in listing {
            let entry: DirEntry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if directory == self.root && name == LOCK_FILE {
                continue;
            }
            let directory = kind.is_dir();
            let order = if directory {
                format!("{name}/")
            } else {
                name.to_owned()
            };
            if directory || kind.is_file() {
                entries.push((order, Entry { path, directory }));
            }
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }
}

/// `None` when the file went away meanwhile.
fn look_up(key: Path, path: &FsPath) -> Result<Option<ObjectMeta>, LocalError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(object_meta(key, &metadata))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(LocalError::io(path, error)),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
