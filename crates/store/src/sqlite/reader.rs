//! Reads: a few connections that cannot write. Each read is one call on a thread that may block, with whole rows as its answer: a driver that
//! hands over row by row spends more on waking threads than SQLite does on reading.

use super::BUSY;
use crate::value::{Type, Value};
use crate::{DatabaseError, Row};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Statement};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Reads at the same time.
const READERS: usize = 4;
/// There are fewer statements than this.
const STATEMENTS: usize = 256;

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

    pub(super) async fn query(
        self: &Arc<Self>,
        sql: &str,
        params: Vec<Value>,
    ) -> Result<Vec<Row>, DatabaseError> {
        let broken = |error: &dyn std::fmt::Display| DatabaseError::Other(error.to_string());
        let _place = self.room.acquire().await.map_err(|error| broken(&error))?;
        let (readers, sql) = (Arc::clone(self), sql.to_owned());
        let read = move || {
            let idle = readers.idle.lock().expect("nothing panics while it is held").pop();
            let connection = idle.map_or_else(|| readers.connect(), Ok)?;
            let rows = connection.prepare_cached(&sql).and_then(|mut found| rows_of(&mut found, &params));
            readers.put_back(connection);
            Ok(rows?)
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| broken(&error))?
    }

    fn connect(&self) -> Result<Connection, DatabaseError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().expect("nothing panics while it is held");
        // A read whose caller has gone runs on beside its successor.
        if idle.len() < READERS {
            idle.push(connection);
        }
    }
}

/// To SQLite `$2` is a name like any other: each gets the value of its number.
fn rows_of(statement: &mut Statement<'_>, params: &[Value]) -> rusqlite::Result<Vec<Row>> {
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
    Ok(found)
}
