//! Reads: some connections that cannot write, with whole rows as answers. A read of many rows is one call on a thread that may block. One of a few
//! rows by an index is done where it is asked for: it takes some ten microseconds, and waking a thread takes more.

use super::BUSY;
use crate::value::{Type, Value};
use crate::{DatabaseError, Row};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Statement};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Reads of many rows at the same time.
const READERS: usize = 4;
/// So many rows are read where they are asked for.
const FEW: usize = 100;
/// Connections that are kept: opening one means reading the schema.
const IDLE: usize = 16;
/// Pages that each may keep, in KiB.
const CACHE_KIB: i64 = 128;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    room: Semaphore,
}

impl Readers {
    /// For a file that the writer has made ready. One connection is opened now, so that what prevents it is said at the start.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let readers = Self { path: path.to_owned(), idle: Mutex::default(), room: Semaphore::new(READERS) };
        let first = readers.connect()?;
        readers.put_back(first);
        Ok(readers)
    }

    /// Rows of which there may be many.
    pub(super) async fn query(
        self: &Arc<Self>,
        sql: &str,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let broken = |error: &dyn std::fmt::Display| DatabaseError::Other(error.to_string());
        let _place = self.room.acquire().await.map_err(|error| broken(&error))?;
        let (readers, sql) = (Arc::clone(self), sql.to_owned());
        let read = move || readers.read(&sql, &params, BUSY, usize::MAX);
        let rows = tokio::task::spawn_blocking(read).await.map_err(|error| broken(&error))??;
        Ok(rows.unwrap_or_default())
    }

    /// Rows of which there are mostly few, and an index that leads to them. Where there are more, or somebody holds the file, it is done as the
    /// others are.
    pub(super) async fn few(
        self: &Arc<Self>,
        sql: &str,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        match self.read(sql, &params, Duration::ZERO, FEW) {
            Ok(Some(rows)) => Ok(rows),
            Err(DatabaseError::Sqlite(error)) if !is_busy(&error) => Err(error.into()),
            _ => self.query(sql, params).await,
        }
    }

    /// `None` where there are more rows than `most`.
    fn read(
        &self,
        sql: &str,
        params: &[Value],
        patience: Duration,
        most: usize,
    ) -> Result<Option<Vec<Row>>, DatabaseError> {
        let idle = self.idle.lock().expect("nothing panics while it is held").pop();
        let connection = idle.map_or_else(|| self.connect(), Ok)?;
        connection.busy_timeout(patience)?;
        let rows = connection.prepare_cached(sql).and_then(|mut found| rows_of(&mut found, params, most));
        self.put_back(connection);
        Ok(rows?)
    }

    fn connect(&self) -> Result<Connection, DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        super::open::keep_statements(&connection)?;
        // Each write of another connection empties it, and the kernel has the pages too.
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(connection)
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().expect("nothing panics while it is held");
        // A read whose caller has gone runs on beside its successor.
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// To SQLite `$2` is a name like any other: each gets the value of its number.
pub(super) fn rows_of(
    statement: &mut Statement<'_>,
    params: &[Value],
    most: usize,
) -> rusqlite::Result<Option<Vec<Row>>> {
    for place in 1..=statement.parameter_count() {
        let number = statement.parameter_name(place).and_then(|name| name[1..].parse::<usize>().ok());
        let value = number.and_then(|number| params.get(number.checked_sub(1)?));
        statement.raw_bind_parameter(
            place,
            value.ok_or(rusqlite::Error::InvalidParameterCount(params.len(), place))?,
        )?;
    }
    let columns = statement.column_count();
    let mut found = Vec::new();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        if found.len() == most {
            return Ok(None);
        }
        let mut cells = Vec::with_capacity(columns);
        for column in 0..columns {
            cells.push(match row.get_ref(column)? {
                ValueRef::Null => Value::Null(Type::I64),
                ValueRef::Integer(number) => Value::I64(number),
                ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
                ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
                ValueRef::Real(_) => {
                    return Err(rusqlite::Error::InvalidColumnType(
                        column,
                        "a number with a fraction".into(),
                        rusqlite::types::Type::Real,
                    ));
                }
            });
        }
        found.push(cells);
    }
    Ok(Some(found))
}
