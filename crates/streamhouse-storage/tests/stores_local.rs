//! What only a local directory does: its lock, its durability, its partial files.

// clippy.toml allows it in test functions; here the functions beside them are tests as well.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use parking_lot::Mutex;
use streamhouse_storage::stores::fault::{Fault, classify, find};
use streamhouse_storage::stores::local::{LocalError, LocalOpenError, LocalOptions, LocalStore};

fn payload(length: usize) -> PutPayload {
    PutPayload::from_bytes(Bytes::from(vec![7; length]))
}

/// What was synced, in order, with the size it had.
type Synced = Arc<Mutex<Vec<(PathBuf, u64)>>>;

fn recording() -> (LocalOptions, Synced) {
    let synced = Synced::default();
    let record = Arc::clone(&synced);
    let options = LocalOptions {
        fsync: Arc::new(move |file, path| {
            record.lock().push((path.to_path_buf(), file.metadata()?.len()));
            file.sync_all()
        }),
        ..LocalOptions::default()
    };
    (options, synced)
}

/// TRACES 26: a file is durable when it, its directory's entry for it, and every new directory's entry
/// in its own parent are.
#[tokio::test]
async fn trace_26_a_put_syncs_the_file_and_every_directory_it_created_or_changed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap().join("objects");
    let (options, synced) = recording();
    let store = LocalStore::open(&root, options).unwrap();
    let paths = |synced: &Mutex<Vec<(PathBuf, u64)>>| -> Vec<PathBuf> {
        synced.lock().drain(..).map(|(path, _)| path).collect()
    };
    assert_eq!(paths(&synced), [root.parent().unwrap()], "the root's own entry");

    store.put(&Path::from("a/b/one"), payload(10)).await.unwrap();
    let expected = [
        root.clone(),
        root.join("a"),
        root.join("a/b/one"),
        root.join("a/b"),
    ];
    assert_eq!(
        paths(&synced),
        expected,
        "new directories first, then the file, then its entry"
    );

    store.put(&Path::from("a/b/two"), payload(300_001)).await.unwrap();
    let seen: Vec<_> = synced.lock().drain(..).collect();
    assert_eq!(
        seen[0],
        (root.join("a/b/two"), 300_001),
        "synced at its exact length"
    );
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].0, root.join("a/b"));
}

/// A directory that an earlier process created may not have become durable: it is synced again.
#[tokio::test]
async fn trace_26_a_directory_found_at_start_is_synced_before_it_is_relied_on() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("a")).unwrap();
    let (options, synced) = recording();
    let store = LocalStore::open(&root, options).unwrap();
    store.put(&Path::from("a/one"), payload(1)).await.unwrap();
    let paths: BTreeSet<_> = synced.lock().iter().map(|(path, _)| path.clone()).collect();
    assert!(paths.contains(&root), "the entry of a/ in the root");
}

#[tokio::test]
async fn trace_26_after_a_failed_fsync_the_hook_is_called_and_nothing_is_accepted_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let (broken, reported) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (fails, counts) = (Arc::clone(&broken), Arc::clone(&reported));
    let options = LocalOptions {
        fsync: Arc::new(move |_, _| match fails.load(Ordering::SeqCst) {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }),
        on_fsync_failure: Arc::new(move |error| {
            assert!(matches!(error, LocalError::Fsync { .. }));
            counts.fetch_add(1, Ordering::SeqCst);
        }),
        ..LocalOptions::default()
    };
    let store = LocalStore::open(directory.path(), options).unwrap();
    broken.store(true, Ordering::SeqCst);
    let error = store.put(&Path::from("a"), payload(1)).await.unwrap_err();
    assert!(
        matches!(find::<LocalError>(&error), Some(LocalError::Fsync { .. })),
        "{error}"
    );
    assert_eq!(classify(&error), Fault::Lasting);
    assert_eq!(reported.load(Ordering::SeqCst), 1);
    // The kernel would say yes now, having dropped the pages.
    broken.store(false, Ordering::SeqCst);
    let error = store.put(&Path::from("a"), payload(1)).await.unwrap_err();
    assert!(
        matches!(find::<LocalError>(&error), Some(LocalError::Stopped)),
        "{error}"
    );
}

#[tokio::test]
async fn without_sync_nothing_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let (recorded, synced) = recording();
    let options = LocalOptions {
        sync: false,
        ..recorded
    };
    let store = LocalStore::open(directory.path(), options).unwrap();
    store.put(&Path::from("a/b"), payload(300_000)).await.unwrap();
    assert!(synced.lock().is_empty());
}

/// TRACES 27: one process holds a directory.
#[test]
fn trace_27_a_second_opener_is_refused_until_the_first_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let first = LocalStore::open(directory.path(), LocalOptions::default()).unwrap();
    let second = LocalStore::open(directory.path(), LocalOptions::default());
    assert!(matches!(second, Err(LocalOpenError::Locked { .. })));
    drop(first);
    LocalStore::open(directory.path(), LocalOptions::default()).unwrap();
}

#[test]
fn a_place_that_is_no_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    match LocalStore::open(&file, LocalOptions::default()) {
        Err(LocalOpenError::Unusable { path, .. }) => assert_eq!(path, file),
        other => panic!("{other:?}"),
    }
}

async fn keys(store: &LocalStore) -> Vec<String> {
    store
        .list(None)
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap()
}

/// What a crash leaves lies under its key and is seen by the collector of orphans.
#[tokio::test]
async fn a_partial_file_is_listed_under_its_key_and_the_lock_is_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path(), LocalOptions::default()).unwrap();
    std::fs::create_dir(directory.path().join("objects")).unwrap();
    std::fs::write(directory.path().join("objects/partial"), "par").unwrap();
    assert_eq!(keys(&store).await, ["objects/partial"]);
    let lock = store
        .get(&Path::from(streamhouse_storage::stores::local::LOCK_FILE))
        .await;
    assert!(matches!(
        find::<LocalError>(&lock.unwrap_err()),
        Some(LocalError::BadKey { .. })
    ));
}

/// A full disk, as a limit on file sizes: `/dev/full` cannot be a directory, and mounting one takes
/// more than a test may have. The error of the kernel is made by the sync call instead.
#[tokio::test]
async fn a_put_that_failed_leaves_no_partial_file_behind() {
    let directory = tempfile::tempdir().unwrap();
    let options = LocalOptions {
        fsync: Arc::new(|_, path| match path.ends_with("big") {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }),
        on_fsync_failure: Arc::new(|_| {}),
        ..LocalOptions::default()
    };
    let store = LocalStore::open(directory.path(), options).unwrap();
    store
        .put(&Path::from("objects/big"), payload(400_000))
        .await
        .unwrap_err();
    assert!(keys(&store).await.is_empty());
}

/// Bounded by the room of a small tmpfs where one can be mounted.
#[tokio::test]
async fn a_full_disk_is_named_and_the_space_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::tmpfs(directory.path(), "size=1m") else {
        eprintln!("skipped: no right to mount a tmpfs");
        return;
    };
    let store = LocalStore::open(directory.path(), LocalOptions::default()).unwrap();
    for length in [2_000_000, 100_000 * 20] {
        let chunks: PutPayload = (0..length / 100_000)
            .map(|_| Bytes::from(vec![1; 100_000]))
            .collect();
        let error = store.put(&Path::from("big"), chunks).await.unwrap_err();
        assert!(
            matches!(find::<LocalError>(&error), Some(LocalError::DiskFull { .. })),
            "{error}"
        );
        assert_eq!(classify(&error), Fault::Transient);
        assert!(keys(&store).await.is_empty());
    }
    store.put(&Path::from("small"), payload(500_000)).await.unwrap();
}

struct Mounted<'d>(&'d FsPath);

impl<'d> Mounted<'d> {
    fn tmpfs(at: &'d FsPath, options: &str) -> Option<Self> {
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "streamhouse-test"])
            .arg(at)
            .output();
        mount
            .is_ok_and(|output| output.status.success())
            .then_some(Self(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0)
            .output();
    }
}

/// Root may write anywhere; then a read-only mount stands in, where one can be had.
#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let store = LocalStore::open(root, LocalOptions::default()).unwrap();
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(root.join("probe"), "").is_ok() {
        eprintln!("skipped: permissions do not bind this user");
        return;
    }
    let error = store.put(&Path::from("a"), payload(1)).await.unwrap_err();
    assert!(
        matches!(find::<LocalError>(&error), Some(LocalError::NotPermitted { .. })),
        "{error}"
    );
    assert_eq!(classify(&error), Fault::Lasting);
}

/// The retry of a PUT that is stuck in the kernel replaces it, and the stuck one, once it goes on, can
/// neither remove nor replace what the retry wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_given_up_by_its_caller_does_not_harm_its_retry() {
    let directory = tempfile::tempdir().unwrap();
    let (hold, held) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let (holds, counts) = (Arc::clone(&hold), Arc::clone(&held));
    let options = LocalOptions {
        // The first sync of the object hangs and then fails; those after it succeed.
        fsync: Arc::new(move |_, path| {
            if !path.ends_with("a") || counts.fetch_add(1, Ordering::SeqCst) > 0 {
                return Ok(());
            }
            while holds.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            Err(io::Error::from_raw_os_error(5))
        }),
        on_fsync_failure: Arc::new(|_| {}),
        ..LocalOptions::default()
    };
    let store = LocalStore::open(directory.path(), options).unwrap();
    let first = tokio::spawn({
        let store = store.clone();
        async move { store.put(&Path::from("a"), payload(1)).await }
    });
    while held.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    store.put(&Path::from("a"), payload(2)).await.unwrap();
    hold.store(false, Ordering::SeqCst);
    // The stuck call has ended when the store refuses to go on.
    while store.put(&Path::from("b"), payload(1)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.head(&Path::from("a")).await.unwrap().size, 2);
}
