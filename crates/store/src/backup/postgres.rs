//! PostgreSQL: its own `pg_dump` and `pg_restore`, on the view of a transaction that is held open meanwhile.

use super::{BackupError, Hold, Known, META, NAMED, NEWEST_AT};
use crate::DatabaseError;
use sqlx::{Connection as _, PgConnection};
use std::path::{Path, PathBuf};
use tokio::process::Command;

fn read(source: sqlx::Error) -> BackupError {
    BackupError::Read(DatabaseError::Sqlx(source))
}

pub(super) async fn connect(url: &str) -> Result<PgConnection, BackupError> {
    PgConnection::connect(url).await.map_err(read)
}

pub(super) async fn copy(url: &str, to: &Path, mut hold: Hold) -> Result<Known, BackupError> {
    let tool = tool("pg_dump")?;
    let mut connection = connect(url).await?;
    let (known, view) = loop {
        sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut connection)
            .await
            .map_err(read)?;
        let view: String = sqlx::query_scalar("SELECT pg_export_snapshot()")
            .fetch_one(&mut connection)
            .await
            .map_err(read)?;
        let known = meta(&mut connection).await?;
        let keys = sqlx::query_scalar(NAMED).fetch_all(&mut connection).await.map_err(read)?;
        let held;
        (held, hold) = super::blocking(move || {
            let held = hold(keys).map_err(BackupError::Hold)?;
            Ok((held, hold))
        })
        .await?;
        if held {
            break (known, view);
        }
        sqlx::query("ROLLBACK").execute(&mut connection).await.map_err(read)?;
    };
    let mut command = Command::new(tool);
    command.args(["--format=custom", "--no-owner", "--no-privileges", "--no-password"]);
    command.arg(format!("--snapshot={view}")).arg(format!("--file={}", to.display()));
    run("pg_dump", command, url).await?;
    sqlx::query("ROLLBACK").execute(&mut connection).await.map_err(read)?;
    let failed = |source| BackupError::File { what: "flush", path: to.to_owned(), source };
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
    Ok(known)
}

pub(super) async fn known(url: &str) -> Result<Option<Known>, BackupError> {
    let mut connection = connect(url).await?;
    let there: bool = sqlx::query_scalar("SELECT to_regclass('meta') IS NOT NULL")
        .fetch_one(&mut connection)
        .await
        .map_err(read)?;
    if there { meta(&mut connection).await.map(Some) } else { Ok(None) }
}

pub(super) async fn named(url: &str) -> Result<Vec<String>, BackupError> {
    let mut connection = connect(url).await?;
    sqlx::query_scalar(NAMED).fetch_all(&mut connection).await.map_err(read)
}

pub(super) async fn clock(url: &str) -> Result<(Option<i64>, Option<i64>), BackupError> {
    let mut connection = connect(url).await?;
    let now = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
    let now = sqlx::query_scalar(now).fetch_one(&mut connection).await.map_err(read)?;
    // Unnumbered ones would come first in that order.
    let newest = NEWEST_AT.replace("ORDER", "WHERE seq IS NOT NULL ORDER");
    let there: bool = sqlx::query_scalar("SELECT to_regclass('events') IS NOT NULL")
        .fetch_one(&mut connection)
        .await
        .map_err(read)?;
    if !there {
        return Ok((Some(now), None));
    }
    let newest = sqlx::query_scalar(sqlx::AssertSqlSafe(newest))
        .fetch_optional(&mut connection)
        .await
        .map_err(read)?;
    Ok((Some(now), newest))
}

pub(super) async fn bytes(url: &str) -> Result<u64, BackupError> {
    let mut connection = connect(url).await?;
    let size: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())")
        .fetch_one(&mut connection)
        .await
        .map_err(read)?;
    Ok(size.unsigned_abs())
}

/// Each master that has not said goodbye, and its counter.
pub(super) async fn counters(url: &str) -> Result<Vec<(String, i64)>, BackupError> {
    let mut connection = connect(url).await?;
    sqlx::query_as("SELECT name, counter FROM masters WHERE stopped = 0")
        .fetch_all(&mut connection)
        .await
        .map_err(read)
}

pub(super) async fn put_back(url: &str, from: &Path) -> Result<(), BackupError> {
    let mut command = Command::new(tool("pg_restore")?);
    command.args(["--clean", "--if-exists", "--no-owner", "--no-privileges", "--no-password"]);
    command.args(["--single-transaction", "--exit-on-error"]).arg(from);
    run("pg_restore", command, url).await
}

async fn meta(connection: &mut PgConnection) -> Result<Known, BackupError> {
    let rows: Vec<(String, String)> = sqlx::query_as(META).fetch_all(connection).await.map_err(read)?;
    Known::from_meta(rows)
}

/// The password goes by the environment, which only the owner of a process can read.
async fn run(name: &'static str, mut command: Command, url: &str) -> Result<(), BackupError> {
    let (url, password) = apart(url);
    command.arg(format!("--dbname={url}"));
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    let failed = |said: String| BackupError::Tool { tool: name, said };
    let output = command.kill_on_drop(true).output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// On the path, or where Debian keeps each version's programs; the newest reads all older ones.
fn tool(name: &'static str) -> Result<PathBuf, BackupError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin").join(name)))
        })
        .collect();
    versions.sort();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .chain(versions.into_iter().rev().map(|(_, path)| path))
        .find(|path| path.is_file())
        .ok_or(BackupError::NoTool(name))
}

/// A URL without its password, and the password.
fn apart(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let authority = rest.find(['/', '?']).unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else { return (url.to_owned(), None) };
    let Some((user, password)) = rest[..at].split_once(':') else { return (url.to_owned(), None) };
    (format!("{scheme}://{user}{}", &rest[at..]), Some(decoded(password)))
}

/// `%40` and the like as what they mean.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = (*first == b'%').then(|| std::str::from_utf8(more.get(..2)?).ok()).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::apart;

    #[test]
    fn a_password_is_taken_out_of_a_url() {
        let cases = [
            ("postgres://ci:pa%40ss@db:5432/rouse", "postgres://ci@db:5432/rouse", Some("pa@ss")),
            ("postgres://ci@db/rouse?sslmode=require", "postgres://ci@db/rouse?sslmode=require", None),
            ("postgresql:///rouse?user=a@b", "postgresql:///rouse?user=a@b", None),
            ("postgres://ci:%zz@db", "postgres://ci@db", Some("%zz")),
        ];
        for (url, without, password) in cases {
            assert_eq!(apart(url), (without.to_owned(), password.map(str::to_owned)), "{url}");
        }
    }
}
