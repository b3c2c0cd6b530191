//! What health learns of the database: of each job on one of its threads, when it was asked for and how it
//! ended. What is answered from memory shows nothing.
//!
//! The job carries its watch along, so that a database that hangs is seen even where the asker has gone.

use rusqlite::Connection;
use streamhouse_observability::health::{Access, Attempt};

use super::options::Watched;
use super::writer::Shared;
use crate::store::StoreError;

pub(super) struct Watch {
    watched: Option<(Watched, Option<Attempt>)>,
}

impl Watch {
    pub(super) fn begin(shared: &Shared, access: Access) -> Self {
        let watched = shared.options.watched.clone();
        Self {
            watched: watched.map(|watched| {
                let attempt = watched.store.begin(access);
                (watched, Some(attempt))
            }),
        }
    }

    /// `wrote`: something was written. A job that found nothing to write has only read.
    pub(super) fn ended(&mut self, wrote: bool, fault: Option<&StoreError>) {
        let Some((watched, attempt)) = &mut self.watched else {
            return;
        };
        let Some(attempt) = attempt.take() else {
            return;
        };
        match (fault, &watched.room) {
            (None, room) if wrote => {
                if let Some(room) = room {
                    room.has_room();
                }
                attempt.succeeded();
            }
            (None, _) => attempt.succeeded_as(Access::Read),
            // The database answered: it is the disk.
            (Some(error @ StoreError::Full(_)), Some(room)) => room.full(&error.to_string()),
            (Some(error), _) => attempt.failed(&error.to_string()),
        }
    }
}

pub(super) fn read_something(conn: &Connection) -> Result<(), StoreError> {
    let read = conn.query_row("SELECT epoch FROM cluster", [], |row| row.get::<_, i64>(0));
    read.map(|_| ()).map_err(Into::into)
}

/// A row is written as it is: that takes the log and its fsync like a commit.
pub(super) fn write_something(conn: &Connection) -> Result<(), StoreError> {
    let written = conn.execute("UPDATE cluster SET epoch = epoch", []);
    written.map(|_| ()).map_err(Into::into)
}
