//! What makes a copy the database of a new time. Whatever was made between the copy and its return is still out there, under numbers that
//! the copy has not given out yet: so it gives out none of them. The store epoch rises, ids go on far behind, and event numbers leave a
//! gap that readers of the lost time are known by.

use super::{BackupError, Known, postgres, sqlite};
use crate::{DatabaseError, Location};
use sqlx::Connection as _;

/// Ids go on at the next full million, so that a number that a person has seen never means two builds.
const ROUND: i64 = 1_000_000;
/// Those that no person counts, of which a build has many.
const ROUND_OF_PARTS: i64 = 1_000_000_000;
/// More events than could have been written since the copy.
const GAP: i64 = 10_000_000_000;

/// How a database is to go on.
#[derive(Debug, Clone, Copy)]
pub struct Anew {
    /// The new store epoch is at least this.
    pub epoch: i64,
    /// Whether tokens of the API go on to be good: also those that were removed since the copy.
    pub keep_tokens: bool,
}

/// Makes the database one of a new time; answers its new facts.
///
/// # Errors
/// See [`BackupError`]; nothing is changed then.
pub async fn begin_anew(location: &Location, anew: Anew) -> Result<Known, BackupError> {
    match location {
        Location::Sqlite(path) => {
            let path = path.clone();
            super::blocking(move || on_sqlite(&path, anew)).await
        }
        Location::Postgres(url) => on_postgres(url, anew).await,
    }
}

/// What is to be written.
struct Plan {
    known: Known,
    statements: Vec<String>,
}

fn plan(
    mut known: Known,
    blocks: &[(String, i64)],
    top: i64,
    lost: Option<&str>,
    anew: Anew,
) -> Result<Plan, BackupError> {
    let newest = super::schema();
    if known.schema > newest {
        return Err(BackupError::TooNew { found: known.schema, known: newest });
    }
    known.facts.store_epoch = anew.epoch.max(known.facts.store_epoch + 1);
    let mut gaps: Vec<(i64, i64)> = lost.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    gaps.push((top, top + GAP));
    let gaps = serde_json::to_string(&gaps).unwrap_or_default();
    let mut statements = vec![
        format!("UPDATE meta SET value = '{}' WHERE key = 'store_epoch'", known.facts.store_epoch),
        "DELETE FROM meta WHERE key = 'lost_events'".to_owned(),
        format!("INSERT INTO meta (key, value) VALUES ('lost_events', '{gaps}')"),
        // Whoever wrote this database then is no master of this one.
        "UPDATE masters SET stopped = 1, term = term + 1".to_owned(),
    ];
    for (kind, next) in blocks {
        let next = beyond(kind, *next);
        statements.push(format!("UPDATE id_blocks SET next = {next} WHERE kind = '{kind}'"));
    }
    if !anew.keep_tokens {
        statements.push("DELETE FROM api_tokens".to_owned());
    }
    Ok(Plan { known, statements })
}

fn beyond(kind: &str, next: i64) -> i64 {
    let round = match kind {
        "step" | "command" | "log" | "artifact" => ROUND_OF_PARTS,
        _ => ROUND,
    };
    ((next + round / 2) / round + 1) * round + 1
}

fn on_sqlite(path: &std::path::Path, anew: Anew) -> Result<Known, BackupError> {
    let write = |source: rusqlite::Error| BackupError::Write(source.into());
    let known = sqlite::known(path)?
        .ok_or_else(|| BackupError::NoDatabase(format!("{} does not exist", path.display())))?;
    let mut connection = sqlite::open(path)?;
    connection.execute_batch("PRAGMA synchronous = FULL").map_err(write)?;
    let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(write)?;
    let blocks = {
        let mut found = tx.prepare("SELECT kind, next FROM id_blocks").map_err(write)?;
        let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(write)?;
        rows.collect::<Result<Vec<_>, _>>().map_err(write)?
    };
    let number = |sql: &str| tx.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(write);
    let top = number("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'events'")?;
    let lost: Option<String> = tx
        .query_row("SELECT MAX(value) FROM meta WHERE key = 'lost_events'", [], |row| row.get(0))
        .map_err(write)?;
    let plan = plan(known, &blocks, top, lost.as_deref(), anew)?;
    for statement in &plan.statements {
        tx.execute(statement, []).map_err(write)?;
    }
    tx.execute("DELETE FROM sqlite_sequence WHERE name = 'events'", []).map_err(write)?;
    tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?1)", [top + GAP])
        .map_err(write)?;
    tx.commit().map_err(write)?;
    Ok(plan.known)
}

async fn on_postgres(url: &str, anew: Anew) -> Result<Known, BackupError> {
    let write = |source: sqlx::Error| BackupError::Write(DatabaseError::Sqlx(source));
    let known = postgres::known(url).await?;
    let known = known.ok_or_else(|| BackupError::NoDatabase("it has none of our tables".into()))?;
    let mut connection = postgres::connect(url).await?;
    let mut tx = connection.begin().await.map_err(write)?;
    let blocks: Vec<(String, i64)> =
        sqlx::query_as("SELECT kind, next FROM id_blocks").fetch_all(&mut *tx).await.map_err(write)?;
    let top: i64 =
        sqlx::query_scalar(crate::dialect::TAKE_COUNTER).fetch_one(&mut *tx).await.map_err(write)?;
    let lost: Option<String> = sqlx::query_scalar("SELECT MAX(value) FROM meta WHERE key = 'lost_events'")
        .fetch_one(&mut *tx)
        .await
        .map_err(write)?;
    let mut plan = plan(known, &blocks, top, lost.as_deref(), anew)?;
    plan.statements.push(format!("UPDATE event_counter SET top = {}", top + GAP));
    for statement in plan.statements {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await.map_err(write)?;
    }
    tx.commit().await.map_err(write)?;
    Ok(plan.known)
}

#[cfg(test)]
mod tests {
    use super::beyond;

    #[test]
    fn ids_go_on_far_behind() {
        assert_eq!(beyond("build", 1), 1_000_001);
        assert_eq!(beyond("build", 499_999), 1_000_001);
        assert_eq!(beyond("build", 999_990), 2_000_001);
        assert_eq!(beyond("build", 1_000_001), 2_000_001);
        assert_eq!(beyond("command", 257), 1_000_000_001);
    }
}
