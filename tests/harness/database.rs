//! A database for one scenario: a file in the state folder, or a fresh one on the run's PostgreSQL server.

use std::process::Command;
use std::sync::Arc;

use rouse_testkit::back_ends;

use super::scratch::unique;

/// Clones mean the same database: for several masters of one installation.
#[derive(Clone, Default)]
pub enum Database {
    /// The embedded default, a file in the master's state folder.
    #[default]
    File,
    Postgres(Arc<Fresh>),
    /// Where somebody else sees to it.
    At(String),
}

impl Database {
    /// An empty database on PostgreSQL, dropped with the last clone. `None`: the skip has been recorded.
    pub fn fresh_postgres() -> Option<Self> {
        let server = back_ends::postgres_url()?;
        let name = unique("db").replace('-', "_");
        psql(&server, &format!("CREATE DATABASE {name}"));
        Some(Self::Postgres(Arc::new(Fresh { server, name })))
    }

    /// For `--database`; `None` means the master's default.
    pub fn url(&self) -> Option<String> {
        match self {
            Self::File => None,
            Self::Postgres(fresh) => Some(fresh.url()),
            Self::At(url) => Some(url.clone()),
        }
    }
}

pub struct Fresh {
    server: String,
    name: String,
}

impl Fresh {
    pub fn url(&self) -> String {
        let (base, _) = self.server.rsplit_once('/').expect("a PostgreSQL URL ends in its database");
        format!("{base}/{}", self.name)
    }

    /// Runs a statement in it and gives back the rows, unadorned.
    pub fn query(&self, statement: &str) -> String {
        psql(&self.url(), statement)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Sessions of a killed master may linger for a moment.
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = Command::new("psql").args(["--quiet", &self.server, "--command", &statement]).output();
    }
}

fn psql(url: &str, statement: &str) -> String {
    let mut command = Command::new("psql");
    command.args(["--quiet", "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
    let output = command.args([url, "--command", statement]).output().expect("psql is installed");
    assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}
