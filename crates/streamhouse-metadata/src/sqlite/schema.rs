//! The tables and how they came to be: a numbered list of migrations, applied in one transaction.
//!
//! `user_version` says which were applied. A database of a newer version is refused by name; one that
//! another program made is never touched. What each table means stands in DESIGN §4; the shape follows
//! PERFORMANCE: a commit appends to `objects` and `commits` only, and is merged later.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior, params};
use uuid::Uuid;

use super::options::{OpenError, SqliteOptions};

/// "SHme": marks the file as ours.
const APPLICATION_ID: i64 = 0x5348_6d65;

/// Applied in order, never changed once released.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_foundation.sql"),
    include_str!("schema/0002_groups.sql"),
    include_str!("schema/0004_admin.sql"),
    include_str!("schema/0005_transactions.sql"),
    include_str!("schema/0007_client_metrics.sql"),
    include_str!("schema/0008_records_end.sql"),
];

/// Sets what holds for a connection that may write.
pub(super) fn configure_writer(conn: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    configure(conn)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    // One fsync of the log a commit: what was answered survives a power cut.
    conn.pragma_update(None, "synchronous", "FULL")?;
    // A checkpoint inside a commit costs two more fsyncs. Another thread does most of that work; this
    // bound (64 MiB) only lets the log start anew.
    conn.pragma_update(None, "wal_autocheckpoint", 16_384)?;
    if let Some(bytes) = options.size_max_bytes {
        let page: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        conn.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))?;
    }
    Ok(())
}

/// Sets what holds for every connection.
pub(super) fn configure(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -8_192)
}

/// How many migrations this version knows.
fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Refuses a database that another program or a newer version made, before anything is changed in it.
pub(super) fn check_owner(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let (found, known) = (version(conn)?, known());
    let owner: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner != APPLICATION_ID && (tables > 0 || owner != 0) {
        return Err(OpenError::Foreign {
            path: path.to_path_buf(),
        });
    }
    if found > known || found < 0 {
        return Err(OpenError::NewerSchema { found, known });
    }
    Ok(())
}

/// Brings a database that passed [`check_owner`] to the newest schema.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), OpenError> {
    let (found, known) = (version(conn)?, known());
    if found == known {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        tx.execute_batch(migration)?;
    }
    if found == 0 {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        let cluster = Uuid::new_v4();
        tx.execute(
            "INSERT INTO cluster (id, epoch) VALUES (?1, 0)",
            params![cluster.as_bytes()],
        )?;
    }
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()?;
    Ok(())
}
