//! What is done with a database without entering it as a master: looking at it, a consistent copy while masters go on writing, putting that
//! back, and what makes a copy the database of a new time.
//!
//! The copy is of one view: which objects it names is told first, under the very same view, so that the caller can hold on to them before
//! anybody removes one. It knows rows and files of databases; what an object is, is the caller's affair.

mod anew;
mod postgres;
mod sqlite;

pub use anew::{Anew, begin_anew};

use crate::{DatabaseError, Facts, Location};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks whether a master is alive: more than one heartbeat.
const BEATS: Duration = Duration::from_secs(5);

/// All objects that rows name.
const NAMED: &str =
    "SELECT key FROM log_segments UNION ALL SELECT key FROM artifacts UNION ALL SELECT object FROM caches";
const NEWEST_AT: &str = "SELECT at FROM events ORDER BY seq DESC LIMIT 1";
const META: &str = "SELECT key, value FROM meta";

/// Why a database could not be copied or put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("read the database")]
    Read(#[source] DatabaseError),
    #[error("write the database")]
    Write(#[source] DatabaseError),
    #[error("keep the objects that the database names")]
    Hold(#[source] std::io::Error),
    #[error("{what} {path}")]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the database is not sound: {0}")]
    Unsound(String),
    #[error("there is no database of ours: {0}")]
    NoDatabase(String),
    #[error(
        "{0} is not installed here, and reads and writes PostgreSQL's backups; install PostgreSQL's client programs, or copy the database with a tool of \
         your own and say `rouse restore --mark` once it is back"
    )]
    NoTool(&'static str),
    #[error("{tool} failed: {said}")]
    Tool { tool: &'static str, said: String },
    #[error(
        "the database has schema {found}, newer than the {known} that this version knows; use the newer version"
    )]
    TooNew { found: i64, known: i64 },
    #[error("masters run on this database ({0}); stop them first")]
    Living(String),
    #[error("{0}")]
    Failed(String),
}

/// Which database wrote a copy, and so can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    #[must_use]
    pub fn of(location: &Location) -> Self {
        match location {
            Location::Sqlite(_) => Self::Sqlite,
            Location::Postgres(_) => Self::Postgres,
        }
    }

    /// The copy's name in its folder.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Sqlite => "database.sqlite",
            Self::Postgres => "database.pgdump",
        }
    }
}

/// What is known of a database without opening it as a master does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub facts: Facts,
    pub schema: i64,
}

impl Known {
    fn from_meta(rows: impl IntoIterator<Item = (String, String)>) -> Result<Self, BackupError> {
        let rows: Vec<(String, String)> = rows.into_iter().collect();
        let of = |key: &str| {
            let found = rows.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
            found.ok_or_else(|| BackupError::Unsound(format!("{key} is not recorded")))
        };
        let number = |key: &str| {
            of(key)?.parse::<i64>().map_err(|_| BackupError::Unsound(format!("{key} is no number")))
        };
        let facts = Facts { installation: of("installation")?, store_epoch: number("store_epoch")? };
        Ok(Self { facts, schema: number("schema")? })
    }
}

/// Is told all objects that the view names, and holds on to them. False asks for a later view, since some of them had gone already.
pub type Hold = Box<dyn FnMut(Vec<String>) -> std::io::Result<bool> + Send>;

/// Writes a copy of the database to a new file.
///
/// # Errors
/// See [`BackupError`]; the file may be there in part.
pub async fn copy(location: &Location, to: &Path, hold: Hold) -> Result<Known, BackupError> {
    match location {
        Location::Sqlite(path) => {
            let (path, to) = (path.clone(), to.to_owned());
            blocking(move || sqlite::copy(&path, &to, hold)).await
        }
        Location::Postgres(url) => postgres::copy(url, to, hold).await,
    }
}

/// The database that is at a place, if any. One that cannot be understood is [`BackupError::Unsound`].
///
/// # Errors
/// Where it cannot be looked at.
pub async fn known(location: &Location) -> Result<Option<Known>, BackupError> {
    match location {
        Location::Sqlite(path) => {
            let path = path.clone();
            blocking(move || sqlite::known(&path)).await
        }
        Location::Postgres(url) => postgres::known(url).await,
    }
}

/// Puts a copy back, in place of what is there.
///
/// # Errors
/// See [`BackupError`].
pub async fn put_back(from: &Path, location: &Location) -> Result<(), BackupError> {
    match location {
        Location::Sqlite(path) => {
            let (from, path) = (from.to_owned(), path.clone());
            blocking(move || sqlite::put_back(&from, &path)).await
        }
        Location::Postgres(url) => postgres::put_back(url, from).await,
    }
}

/// Whether the database itself finds no fault with its file. PostgreSQL looks after its own.
///
/// # Errors
/// [`BackupError::Unsound`] with what it finds.
pub async fn check(location: &Location) -> Result<(), BackupError> {
    match location {
        Location::Sqlite(path) => {
            let path = path.clone();
            blocking(move || sqlite::check(&path)).await
        }
        Location::Postgres(url) => postgres::known(url).await.map(drop),
    }
}

/// The newest schema that this version knows.
#[must_use]
pub fn schema() -> i64 {
    i64::try_from(crate::migrate::MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The database's own clock, where it has one, and when the newest event was written; in microseconds since 1970.
///
/// # Errors
/// Where it cannot be asked.
pub async fn clock(location: &Location) -> Result<(Option<i64>, Option<i64>), BackupError> {
    match location {
        Location::Sqlite(path) => {
            let path = path.clone();
            blocking(move || Ok((None, sqlite::newest_at(&path)?))).await
        }
        Location::Postgres(url) => postgres::clock(url).await,
    }
}

/// How large it is.
///
/// # Errors
/// Where it cannot be asked.
pub async fn bytes(location: &Location) -> Result<u64, BackupError> {
    match location {
        Location::Sqlite(path) => {
            let failed = |source| BackupError::File { what: "look at", path: path.clone(), source };
            Ok(std::fs::metadata(path).map_err(failed)?.len())
        }
        Location::Postgres(url) => postgres::bytes(url).await,
    }
}

/// All objects that the database at a place names.
///
/// # Errors
/// Where it cannot be read.
pub async fn named(location: &Location) -> Result<Vec<String>, BackupError> {
    match location {
        Location::Sqlite(path) => {
            let path = path.clone();
            blocking(move || sqlite::named(&path)).await
        }
        Location::Postgres(url) => postgres::named(url).await,
    }
}

/// Refuses where a master's heartbeat moves. For databases that no lock in a folder guards.
///
/// # Errors
/// [`BackupError::Living`], or where the database cannot be read.
pub async fn refuse_the_living(location: &Location) -> Result<(), BackupError> {
    let Location::Postgres(url) = location else { return Ok(()) };
    let before = postgres::counters(url).await?;
    if before.is_empty() {
        return Ok(());
    }
    tokio::time::sleep(BEATS).await;
    let now = postgres::counters(url).await?;
    let moved: Vec<String> =
        now.into_iter().filter(|one| !before.contains(one)).map(|(name, _)| name).collect();
    if moved.is_empty() { Ok(()) } else { Err(BackupError::Living(moved.join(", "))) }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BackupError::Failed(error.to_string()))?
}
