//! The object store in a local directory: one file a key, written straight under its final name.
//!
//! Invariant: once a PUT is answered, its bytes and every directory entry that leads to them are on
//! the device (TRACES 26), unless `sync` is off. A PUT that was cut short leaves a partial file under
//! its own key, which `list` shows like any other, so that orphan collection finds it; nothing is ever
//! staged under another name. One process holds the directory: its lock is a kernel lock and goes with
//! the process (TRACES 27).
//!
//! Not here: multipart uploads, copies and conditional updates, which StreamHouse does not use.

mod directories;
mod error;
mod read;
mod staging;
mod walk;
mod write;

use std::fmt;
use std::fs::File;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use tokio::sync::Semaphore;

pub use error::{LocalError, LocalOpenError};

use directories::Directories;
use staging::StagingPool;

use super::reuse::ReadMemory;

/// The file in the root directory that carries the lock. It is no key.
pub const LOCK_FILE: &str = ".streamhouse-lock";

/// Name of this store in errors.
pub(crate) const STORE: &str = "LocalStore";

/// PUTs and GETs that may occupy a blocking thread at once; the rest wait their turn.
const CONCURRENT_CALLS_MAX: usize = 32;

/// Deletes of one `delete_stream` in flight.
const CONCURRENT_DELETES_MAX: usize = 10;

/// Makes a file or a directory durable.
pub type FsyncCall = Arc<dyn Fn(&File, &FsPath) -> std::io::Result<()> + Send + Sync>;

/// Told of a failed fsync. In production it does not return (see [`abort_on_fsync_failure`]).
pub type FsyncFailureHook = Arc<dyn Fn(&LocalError) + Send + Sync>;

/// How the directory is used.
#[derive(Clone)]
pub struct LocalOptions {
    /// False skips every fsync: the named exception to "acknowledged means stored".
    pub sync: bool,
    /// What a sync is; a seam for tests that count syncs or let them fail.
    pub fsync: FsyncCall,
    pub on_fsync_failure: FsyncFailureHook,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            sync: true,
            fsync: Arc::new(|file, _| file.sync_all()),
            on_fsync_failure: Arc::new(abort_on_fsync_failure),
        }
    }
}

/// Logs and ends the process. After a failed fsync the kernel may have dropped the dirty pages and a
/// second fsync would succeed without having written anything, so nothing may go on as if.
pub fn abort_on_fsync_failure(error: &LocalError) {
    tracing::error!(%error, "stopping: the disk did not confirm a write");
    std::process::abort();
}

/// See the module's head.
#[derive(Clone)]
pub struct LocalStore {
    room: Arc<Room>,
    calls: Arc<Semaphore>,
}

/// What the blocking halves of the calls share.
struct Room {
    root: PathBuf,
    options: LocalOptions,
    directories: Directories,
    staging: StagingPool,
    reading: ReadMemory,
    /// Held while a name is created, replaced or taken back, so that a PUT given up by its caller can
    /// neither replace nor remove the file of the PUT that followed it.
    names: Mutex<()>,
    /// Set by a failed fsync: nothing is accepted any more.
    failed: AtomicBool,
    _lock: File,
}

impl LocalStore {
    /// Opens `root`, creating it where missing, and takes its lock. Blocking; meant for start.
    pub fn open(root: &FsPath, options: LocalOptions) -> Result<Self, LocalOpenError> {
        let unusable = |source| LocalOpenError::Unusable {
            path: root.to_path_buf(),
            source,
        };
        std::fs::create_dir_all(root).map_err(unusable)?;
        let root = root.canonicalize().map_err(unusable)?;
        let lock_path = root.join(LOCK_FILE);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|source| LocalOpenError::Unusable {
                path: lock_path.clone(),
                source,
            })?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LocalOpenError::Locked { path: root }),
            Err(errno) => {
                return Err(LocalOpenError::Unusable {
                    path: lock_path,
                    source: errno.into(),
                });
            }
        }
        let room = Room {
            directories: Directories::new(root.clone()),
            root,
            options,
            staging: StagingPool::default(),
            reading: ReadMemory::default(),
            names: Mutex::new(()),
            failed: AtomicBool::new(false),
            _lock: lock,
        };
        // The root may just have been created: its own entry must last as well.
        if let Some(parent) = room.root.parent()
            && room.options.sync
        {
            let directory = File::open(parent).map_err(unusable)?;
            room.sync(&directory, parent)
                .map_err(|error| LocalOpenError::Sync(Box::new(error)))?;
        }
        Ok(Self {
            room: Arc::new(room),
            calls: Arc::new(Semaphore::new(CONCURRENT_CALLS_MAX)),
        })
    }

    /// Where the files lie.
    pub fn root(&self) -> &FsPath {
        &self.room.root
    }

    /// Runs a blocking half on tokio's blocking threads, a bounded number at a time.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Room) -> Result<T, LocalError> + Send + 'static,
    ) -> Result<T> {
        // The permit goes with the closure: a caller that gave up does not make room for another
        // thread while its own is still stuck in the kernel.
        let permit = Arc::clone(&self.calls).acquire_owned().await;
        let room = Arc::clone(&self.room);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            call(&room).map_err(object_store::Error::from)
        })
        .await?
    }
}

impl Room {
    /// The file of a key. `object_store` has normalised the key; it is checked all the same, because
    /// a slip here would reach outside the directory.
    fn file_of(&self, key: &Path) -> Result<PathBuf, LocalError> {
        let text = key.as_ref();
        let sound = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && part.len() <= 255 && !part.contains('\0')
        };
        if text == LOCK_FILE || !text.split('/').all(sound) {
            return Err(LocalError::BadKey { key: text.to_owned() });
        }
        Ok(self.root.join(text))
    }

    /// Makes `file` durable; a failure is reported to the hook and is final for this store.
    fn sync(&self, file: &File, path: &FsPath) -> Result<(), LocalError> {
        if !self.options.sync {
            return Ok(());
        }
        (self.options.fsync)(file, path).map_err(|source| {
            self.failed.store(true, Ordering::SeqCst);
            let error = LocalError::Fsync {
                path: path.to_path_buf(),
                source,
            };
            (self.options.on_fsync_failure)(&error);
            error
        })
    }

    fn check_alive(&self) -> Result<(), LocalError> {
        match self.failed.load(Ordering::SeqCst) {
            true => Err(LocalError::Stopped),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let request = write::Put::new(location, payload, &opts.mode)?;
        // Dropping the future tells the blocking half that nobody waits for it any more.
        let _given_up = request.give_up_on_drop();
        self.blocking(move |room| room.put(&request)).await
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_implemented("put_multipart_opts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let key = location.clone();
        let opened = self.blocking(move |room| room.open_object(&key)).await?;
        options.check_preconditions(&opened.meta)?;
        opened.into_result(self, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let key = location.clone();
                    store.blocking(move |room| room.remove(&key)).await?;
                    Ok(location)
                }
            })
            .buffered(CONCURRENT_DELETES_MAX)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        walk::list(self.clone(), prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        walk::list(self.clone(), prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.blocking(move |room| room.list_directory(&prefix)).await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(not_implemented("copy_opts"))
    }
}

fn not_implemented(operation: &str) -> object_store::Error {
    object_store::Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE.to_owned(),
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.room.root.display())
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(STORE)
            .field("root", &self.room.root)
            .field("sync", &self.room.options.sync)
            .finish_non_exhaustive()
    }
}
