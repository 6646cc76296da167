//! A master with a long past: one real build, multiplied by SQL in one transaction while the master is down.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::Connection;
use serde_json::json;

use crate::database::Database;
use crate::ground::Ground;
use crate::master::{Master, Options};

/// A stopped master whose database holds `builds` more builds, over `builders` configured builders.
pub fn master(ground: &Ground, name: &str, builders: usize, builds: usize) -> Result<Master> {
    let mut master = Master::prepare(ground, name, &config(builders), Options::default())?;
    master.run()?;
    let made = master.http().post("/api/v1/schedulers/by-hand/force", &json!({}))?;
    let request = made["requests"][0]["id"].as_i64().context("a request was made")?;
    let database = master.database.clone();
    let done =
        format!("SELECT COUNT(*) FROM requests WHERE id = {request} AND state = 'done' AND result = 0");
    ground.wait("the model of all builds", Duration::from_secs(60), || Ok(database.number(&done)? == 1))?;
    ground.wait("its worker to go", Duration::from_secs(60), || {
        Ok(database.number("SELECT COUNT(*) FROM workers WHERE gone IS NULL")? == 0)
    })?;
    master.end_master();
    let Database::Sqlite(file) = &database else { anyhow::bail!("only SQLite is seeded") };
    multiply(file, builders, builds).context("seed the database")?;
    Ok(master)
}

fn config(builders: usize) -> String {
    let mut text = "version: 1\npools: {here: {local: {}, max: 1}}\nbuilders:\n".to_owned();
    for number in 0..builders {
        text.push_str(&format!("  b{number}: {{steps: [{{run: [echo, hello]}}]}}\n"));
    }
    text.push_str("schedulers: {by-hand: {force: {}, builders: b0}}\n");
    text
}

/// Every table that a build has rows in, with what differs from the model in a copy `n`; the rest is copied.
const TABLES: &[(&str, &[&str])] = &[
    ("buildsets", &["id", "origin"]),
    ("requests", &["id", "buildset", "builder", "build"]),
    ("builds", &["id", "request", "buildset", "builder"]),
    ("steps", &["id", "build"]),
    ("commands", &["id", "build", "step", "log"]),
    ("logs", &["id", "build", "step"]),
];

/// Copies begin here, beyond all ids that were handed out.
const FIRST: i64 = 10_000;

fn multiply(file: &Path, builders: usize, builds: usize) -> Result<()> {
    let mut connection = Connection::open(file)?;
    let transaction = connection.transaction()?;
    let last = FIRST + builds as i64 - 1;
    let numbers = format!(
        "WITH RECURSIVE copy(n) AS (SELECT {FIRST} UNION ALL SELECT n + 1 FROM copy WHERE n < {last})"
    );
    for (table, own) in TABLES {
        let columns = columns(&transaction, table)?;
        let values: Vec<String> = columns
            .iter()
            .map(|column| match column.as_str() {
                "builder" => format!("'b' || (copy.n % {builders})"),
                "origin" => "'seed/' || copy.n".to_owned(),
                column if own.contains(&column) => "copy.n".to_owned(),
                column => format!("model.\"{column}\""),
            })
            .collect();
        let names: Vec<String> = columns.iter().map(|c| format!("\"{c}\"")).collect();
        transaction.execute_batch(&format!(
            "INSERT INTO {table} ({}) {numbers} SELECT {} FROM copy, (SELECT * FROM {table} LIMIT 1) model",
            names.join(", "),
            values.join(", ")
        ))?;
    }
    // The model's own events, each under its copy's subject.
    transaction.execute_batch(&format!(
        "INSERT INTO events (kind, version, subject, project, at, payload) {numbers} \
         SELECT kind, version, substr(subject, 1, instr(subject, '/')) || copy.n, project, at, payload FROM copy, \
         (SELECT * FROM events WHERE kind LIKE 'build%' OR kind LIKE 'request%' OR kind LIKE 'step%' OR kind LIKE 'log%') \
         ORDER BY copy.n, seq"
    ))?;
    transaction.execute("UPDATE id_blocks SET next = MAX(next, ?1)", [last + 1])?;
    transaction.commit()?;
    connection.execute_batch("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}
