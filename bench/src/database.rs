//! The master's database, read from beside it: what a run left in it is what counts, not what somebody says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// Where a master keeps its state.
#[derive(Debug, Clone)]
pub enum Database {
    Sqlite(PathBuf),
    /// A URL with the database's name.
    Postgres(String),
}

impl Database {
    /// All rows of a statement, as text; NULL is empty.
    pub fn rows(&self, statement: &str) -> Result<Vec<Vec<String>>> {
        match self {
            Self::Sqlite(file) => sqlite_rows(file, statement),
            Self::Postgres(url) => Ok(psql(url, statement)?
                .lines()
                .map(|line| line.split('\u{1f}').map(str::to_owned).collect())
                .collect()),
        }
    }

    /// The first row, as numbers; NULL is 0.
    pub fn numbers(&self, statement: &str) -> Result<Vec<i64>> {
        let rows = self.rows(statement)?;
        let first = rows.first().with_context(|| format!("no row: {statement}"))?;
        Ok(first.iter().map(|text| text.parse::<f64>().map_or(0, |n| n as i64)).collect())
    }

    pub fn number(&self, statement: &str) -> Result<i64> {
        self.numbers(statement)?.first().copied().context("no column")
    }
}

fn sqlite_rows(file: &Path, statement: &str) -> Result<Vec<Vec<String>>> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let mut prepared = connection.prepare(statement)?;
    let columns = prepared.column_count();
    let mut found = Vec::new();
    let mut rows = prepared.query([])?;
    while let Some(row) = rows.next()? {
        let mut texts = Vec::with_capacity(columns);
        for column in 0..columns {
            texts.push(match row.get_ref(column)? {
                ValueRef::Null => String::new(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                ValueRef::Blob(bytes) => hex::encode(bytes),
            });
        }
        found.push(texts);
    }
    Ok(found)
}

fn psql(url: &str, statement: &str) -> Result<String> {
    let mut command = Command::new("psql");
    command.args(["--quiet", "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
    command.args(["--field-separator", "\u{1f}", url, "--command", statement]).stdin(Stdio::null());
    let output = command.output().context("psql could not be run")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

/// A database of our own on a PostgreSQL server; dropped with this.
pub struct Fresh {
    server: String,
    name: String,
}

impl Fresh {
    pub fn make(server: &str, what: &str) -> Result<Self> {
        let name = format!("rb_{what}_{}", std::process::id());
        psql(server, &format!("CREATE DATABASE {name}"))?;
        Ok(Self { server: server.to_owned(), name })
    }

    pub fn url(&self) -> String {
        let base = self.server.rsplit_once('/').map_or(self.server.as_str(), |(base, _)| base);
        format!("{base}/{}", self.name)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Err(error) = psql(&self.server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name))
        {
            eprintln!("left over: database {}: {error:#}", self.name);
        }
    }
}
