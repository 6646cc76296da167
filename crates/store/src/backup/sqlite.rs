//! SQLite: pages are copied under an open read transaction, which stands in no writer's way.

use super::{BackupError, Hold, Known, META, NAMED, NEWEST_AT};
use crate::sqlite::BUSY;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};

/// Pages that are copied before anybody else may look at the connection; nobody does.
const PAGES: i32 = 4_096;

fn read(source: rusqlite::Error) -> BackupError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            BackupError::Unsound(source.to_string())
        }
        _ => BackupError::Read(source.into()),
    }
}

fn write(source: rusqlite::Error) -> BackupError {
    BackupError::Write(source.into())
}

/// An existing file. Not read-only: beside a master that does not run, the files of the write-ahead log must be made.
pub(super) fn open(path: &Path) -> Result<Connection, BackupError> {
    if !path.exists() {
        return Err(BackupError::NoDatabase(format!("{} does not exist", path.display())));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(read)?;
    connection.busy_timeout(BUSY).map_err(read)?;
    Ok(connection)
}

pub(super) fn copy(path: &Path, to: &Path, mut hold: Hold) -> Result<Known, BackupError> {
    let source = open(path)?;
    let known = loop {
        source.execute_batch("BEGIN").map_err(read)?;
        let known = meta(&source)?;
        if hold(keys(&source)?).map_err(BackupError::Hold)? {
            break known;
        }
        source.execute_batch("ROLLBACK").map_err(read)?;
    };
    let mut target = Connection::open(to).map_err(write)?;
    {
        let backup = Backup::new(&source, &mut target).map_err(write)?;
        while backup.step(PAGES).map_err(write)? != StepResult::Done {}
    }
    source.execute_batch("ROLLBACK").map_err(read)?;
    // One file, without the two that a write-ahead log has beside it.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).map_err(write)?;
    sound(&target)?;
    target.close().map_err(|(_, error)| write(error))?;
    let failed = |source| BackupError::File { what: "flush", path: to.to_owned(), source };
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
    Ok(known)
}

pub(super) fn known(path: &Path) -> Result<Option<Known>, BackupError> {
    if !path.exists() { Ok(None) } else { meta(&open(path)?).map(Some) }
}

pub(super) fn named(path: &Path) -> Result<Vec<String>, BackupError> {
    keys(&open(path)?)
}

pub(super) fn newest_at(path: &Path) -> Result<Option<i64>, BackupError> {
    if !path.exists() {
        return Ok(None);
    }
    match open(path)?.query_row(NEWEST_AT, [], |row| row.get(0)) {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        found => found.map(Some).map_err(read),
    }
}

pub(super) fn check(path: &Path) -> Result<(), BackupError> {
    sound(&open(path)?)
}

pub(super) fn put_back(from: &Path, path: &Path) -> Result<(), BackupError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { what, path, source }
    };
    let half = beside(path, ".restoring");
    std::fs::copy(from, &half).map_err(failed("copy the database to", &half))?;
    let flush = |path: &Path| std::fs::File::open(path).and_then(|file| file.sync_all());
    flush(&half).map_err(failed("flush", &half))?;
    // The old log first: beside the new file it would be taken for its own.
    for old in [beside(path, "-wal"), beside(path, "-shm")] {
        match std::fs::remove_file(&old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove", &old)(error));
            }
            _ => {}
        }
    }
    std::fs::rename(&half, path).map_err(failed("put the database at", path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    flush(folder).map_err(failed("flush", folder))
}

/// The file of that name with more at its end.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

fn meta(connection: &Connection) -> Result<Known, BackupError> {
    let mut found = connection.prepare(META).map_err(|error| match error.sqlite_error_code() {
        // The table is not there.
        Some(ErrorCode::Unknown) => BackupError::Unsound(error.to_string()),
        _ => read(error),
    })?;
    let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(read)?;
    Known::from_meta(rows.collect::<Result<Vec<_>, _>>().map_err(read)?)
}

fn keys(connection: &Connection) -> Result<Vec<String>, BackupError> {
    let mut found = connection.prepare(NAMED).map_err(read)?;
    let rows = found.query_map([], |row| row.get(0)).map_err(read)?;
    rows.collect::<Result<Vec<_>, _>>().map_err(read)
}

fn sound(connection: &Connection) -> Result<(), BackupError> {
    let mut found = connection.prepare("PRAGMA integrity_check(3)").map_err(read)?;
    let rows = found.query_map([], |row| row.get::<_, String>(0)).map_err(read)?;
    let said = rows.collect::<Result<Vec<_>, _>>().map_err(read)?;
    if said == ["ok"] { Ok(()) } else { Err(BackupError::Unsound(said.join("; ").replace('\n', " "))) }
}
