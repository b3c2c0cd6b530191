//! Opening and closing: the lock, the connections and their threads.
//!
//! The order is the point: the lock before the file is touched, the threads ended before the lock is
//! released. A store in memory has one connection only, and its reads run on the writer's thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use parking_lot::RwLock;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use streamhouse_observability::logging;

use super::load::load;
use super::lock::{self, StoreLock};
use super::options::{Location, OpenError, SqliteOptions};
use super::presence::Presence;
use super::schema;
use super::settle::Trim;
use super::threads::{Lane, Owner};
use super::writer::{Shared, Writer};
use crate::store::StoreError;

/// The connection that reads.
pub(super) struct Reader(pub(super) Connection);

impl Owner for Reader {}

/// A clock that is further behind what is stored than that is worth a warning.
const CLOCK_AHEAD_MS_MAX: i64 = 60_000;

/// A metadata store in one SQLite file, for one process. See the module's head.
///
/// Dropping it waits for what its threads have in hand; the next one may open the file then.
pub struct SqliteStore {
    pub(super) shared: Arc<Shared>,
    // Dropped in this order: the lock is released when nothing writes any more.
    pub(super) writer: Lane<Writer>,
    pub(super) reader: Option<Lane<Reader>>,
    _checkpointer: Option<Checkpointer>,
    _lock: Option<StoreLock>,
}

impl SqliteStore {
    /// Opens the database, which is made when it is missing, and reads what it holds. Blocks.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process (or store) has it open; [`OpenError::NewerSchema`] and
    /// [`OpenError::Foreign`] when it is not to be touched; otherwise what the disk or SQLite says.
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let (path, lock) = match &options.location {
            Location::File(path) => (Some(path.clone()), Some(lock::take(path)?)),
            Location::Memory => (None, None),
        };
        let mut conn = match &path {
            Some(path) => Connection::open(path)?,
            None => Connection::open_in_memory()?,
        };
        let shown = path.clone().unwrap_or_else(|| PathBuf::from(":memory:"));
        schema::check_owner(&conn, &shown)?;
        schema::configure_writer(&conn, &options)?;
        schema::migrate(&mut conn)?;
        if path.is_some() {
            make_durable(&conn)?;
        }
        let loaded = load(&conn).map_err(|error| match error {
            StoreError::Unavailable(why)
            | StoreError::Full(why)
            | StoreError::Unknown(why)
            | StoreError::Damaged(why) => OpenError::Corrupt(why),
        })?;
        let reader = match &path {
            Some(path) => Some(open_reader(path)?),
            None => None,
        };
        let io = |source| OpenError::Io {
            path: shown.clone(),
            source,
        };
        let damage = Arc::new(OnceLock::new());
        let (checkpoints, checkpointer) = match &path {
            Some(path) => {
                let (sender, checkpointer) = Checkpointer::spawn(path, Arc::clone(&damage))?;
                (Some(sender), Some(checkpointer))
            }
            None => (None, None),
        };
        let waits = options.waits.clone();
        let presence = path.as_deref().map(Presence::of).transpose().map_err(io)?;
        let clock_ahead_ms = loaded.newest.saturating_sub(options.clock.now().0).max(0);
        if clock_ahead_ms > CLOCK_AHEAD_MS_MAX {
            tracing::warn!(
                clock_ahead_ms,
                "the clock was ahead in an earlier run; what the metadata store stamps goes on from there"
            );
        }
        let shared = Arc::new(Shared {
            hot: RwLock::new(loaded.hot),
            cluster: loaded.cluster,
            clock_ahead_ms,
            clock_newest: AtomicI64::new(loaded.newest),
            options,
        });
        let writer = Writer {
            conn,
            shared: Arc::clone(&shared),
            producers: loaded.producers,
            next_commit: loaded.next_commit,
            next_object: loaded.next_object,
            merged_commit: loaded.merged_commit,
            dirty: loaded.dirty.into_iter().collect(),
            round: None,
            settling_to: None,
            trim: Trim::from_start(),
            pressed: false,
            damaged: None,
            damage_seen: damage,
            presence,
            checkpoints,
            written_bytes: 0,
        };
        let reader = reader
            .map(|conn| Lane::spawn("metadata-read", Reader(conn), waits.clone()))
            .transpose()
            .map_err(io)?;
        let writer = Lane::spawn("metadata-write", writer, waits).map_err(io)?;
        Ok(Self {
            shared,
            writer,
            reader,
            _checkpointer: checkpointer,
            _lock: lock,
        })
    }

    /// Lets the threads end; whatever is asked afterwards fails.
    pub(super) fn close_threads(&self) {
        self.writer.close();
        if let Some(reader) = &self.reader {
            reader.close();
        }
    }
}

/// Copies what the log holds into the database, with fsync, before anything of it is relied upon.
///
/// A run that ended because fsync of the log failed leaves pages there that the kernel takes for written, and
/// which may only be in its memory: behind them nothing could be stored for good.
///
/// # Errors
/// What SQLite says, unless it is that the disk is full: then nothing more can be written behind them either.
fn make_durable(conn: &Connection) -> Result<(), OpenError> {
    let copied = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    match copied {
        Ok(0) => Ok(()),
        Ok(_) => Err(OpenError::Corrupt(
            "its log cannot be copied into it: somebody has it open".to_owned(),
        )),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            tracing::warn!(%error, "the log of the metadata store could not be copied into it");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    schema::configure(&conn)?;
    // Else every new offset that is bound has the look-up planned again, which costs more than running it.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(conn)
}

/// Copies the log into the database while commits go on, so that they rarely have to.
struct Checkpointer(Option<JoinHandle<()>>);

impl Checkpointer {
    fn spawn(path: &Path, damage: Arc<OnceLock<StoreError>>) -> Result<(SyncSender<()>, Self), OpenError> {
        let conn = Connection::open(path)?;
        schema::configure(&conn)?;
        let (sender, due) = sync_channel(1);
        let run = move || checkpoint_when_due(&conn, &due, &damage);
        let thread = thread::Builder::new()
            .name("metadata-checkpoint".to_owned())
            .spawn(run);
        let thread = thread.map_err(|source| OpenError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Ok((sender, Self(Some(thread))))
    }
}

/// SQLite's own checkpoints, on the writer's connection, do not say that they failed: this is where it is noticed.
fn checkpoint_when_due(conn: &Connection, due: &Receiver<()>, damage: &OnceLock<StoreError>) {
    while due.recv().is_ok() {
        let Err(error) = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) else {
            continue;
        };
        if let Some(suppressed) = logging::admit("checkpoint", "sqlite", "") {
            tracing::warn!(%error, suppressed, "a background checkpoint failed");
        }
        if let fault @ StoreError::Damaged(_) = StoreError::from(error) {
            // The first one is told to whoever writes next.
            let _ = damage.set(fault);
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        // The writer, which held the other end, is gone: the thread ends after what it has in hand.
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_26_a_background_checkpoint_that_fails_stops_the_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.db");
        let writing = Connection::open(&path).unwrap();
        schema::configure(&writing).unwrap();
        writing
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES (1);")
            .unwrap();
        let (sender, due) = sync_channel(2);
        let damage = OnceLock::new();
        let conn = Connection::open(&path).unwrap();
        sender.send(()).unwrap();
        drop(sender);
        checkpoint_when_due(&conn, &due, &damage);
        assert!(damage.get().is_none(), "nothing is wrong yet");

        drop((conn, writing));
        std::fs::write(&path, [7; 8_192]).unwrap();
        let (sender, due) = sync_channel(2);
        let conn = Connection::open(&path).unwrap();
        sender.send(()).unwrap();
        drop(sender);
        checkpoint_when_due(&conn, &due, &damage);
        assert!(matches!(damage.get(), Some(StoreError::Damaged(_))));
    }
}
