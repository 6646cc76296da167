//! The writing connection, made ready: WAL, synchronous FULL, the newest schema.

use super::BUSY;
use crate::dialect::SQLITE;
use crate::{OpenError, migrate};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between looks whether another process has finished making the database.
const LOOK: Duration = Duration::from_millis(10);

/// There are fewer statements than this.
const STATEMENTS: usize = 256;

/// Of a database that is copied, in one step.
#[cfg(feature = "testing")]
const ALL_PAGES: i32 = -1;

/// SQLite's word for a database without a file.
pub(super) const IN_MEMORY: &str = ":memory:";

pub(super) fn writer(path: &Path) -> Result<Connection, OpenError> {
    let connection = connect(path)?;
    bring_up_to_date(&connection)?;
    Ok(connection)
}

/// The same as a copy of another one's database, which is of the newest schema.
#[cfg(feature = "testing")]
pub(super) fn copy_in_memory(from: &Connection) -> Result<Connection, OpenError> {
    let path = Path::new(IN_MEMORY);
    let mut connection = connect(path)?;
    let copied = rusqlite::backup::Backup::new(from, &mut connection).and_then(|copy| copy.step(ALL_PAGES));
    copied.map_err(|source| not_opened(path, source))?;
    Ok(connection)
}

fn not_opened(path: &Path, source: rusqlite::Error) -> OpenError {
    OpenError::Open { location: path.display().to_string(), source: source.into() }
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let opened = |source: rusqlite::Error| not_opened(path, source);
    if path != Path::new(IN_MEMORY) {
        keep_private(path);
    }
    let connection = Connection::open(path).map_err(opened)?;
    connection.busy_timeout(BUSY).map_err(opened)?;
    use_wal(&connection).map_err(opened)?;
    // A page that many transactions change is copied back once for all of them: of those that lie in the log by then the newest counts.
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 8000; \
             PRAGMA cache_size = -8192",
        )
        .map_err(opened)?;
    keep_statements(&connection).map_err(opened)?;
    Ok(connection)
}

/// Statements are prepared once. Without the guarantee each is prepared anew whenever another value is bound to it, in case another plan is better for that:
/// there is one plan for each here, and preparing takes longer than most reads.
pub(super) fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// The file is its owner's alone, as are those that SQLite makes beside it, which have the file's own mode: what a worker on this machine runs must not
/// read it. One that is there already keeps what its group may. What does not work here shows when the file is opened.
fn keep_private(path: &Path) {
    let _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    for beside in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(beside);
        let Ok(found) = std::fs::metadata(&file) else { continue };
        let mode = found.permissions().mode();
        if mode & 0o007 != 0 {
            let private = std::fs::Permissions::from_mode(mode & 0o770);
            if let Err(error) = std::fs::set_permissions(&file, private) {
                tracing::warn!(%error, file = %path.display(), "others can read the database");
            }
        }
    }
}

fn bring_up_to_date(connection: &Connection) -> Result<(), OpenError> {
    let failed = |number: usize| {
        move |source: rusqlite::Error| OpenError::Migrate {
            number: i64::try_from(number).unwrap_or(0),
            source: source.into(),
        }
    };
    // Taken before looking, so that two masters that start at once do not both migrate.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(failed(0))?;
    let known = migrate::MIGRATIONS.len();
    let has_meta: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_master WHERE name = 'meta'", [], |row| row.get(0))
        .map_err(failed(0))?;
    let found: usize = if has_meta == 0 {
        0
    } else {
        connection
            .query_row("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'schema'", [], |row| {
                row.get::<_, i64>(0)
            })
            .map(|n| usize::try_from(n).unwrap_or(0))
            .map_err(failed(0))?
    };
    if found > known {
        let as_number = |n: usize| i64::try_from(n).unwrap_or(0);
        return Err(OpenError::TooNew { found: as_number(found), known: as_number(known) });
    }
    for number in found + 1..=known {
        for statement in migrate::statements(number, &SQLITE) {
            connection.execute_batch(&statement).map_err(failed(number))?;
        }
    }
    connection.execute_batch("COMMIT").map_err(failed(known))
}

/// Another process that opens the same new file holds it for a moment, and this one statement does not wait by itself.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let late = Instant::now() + BUSY;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < late =>
            {
                std::thread::sleep(LOOK);
            }
            done => return done,
        }
    }
}
