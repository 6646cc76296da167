//! The page that everybody opens: the newest 50 of 100,000 builds, for eight clients at once.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use rusqlite::Connection;

use super::seed;
use crate::ground::Ground;
use crate::http::Http;
use crate::peer::{self, Peer};
use crate::report::{Row, Samples};

const CLIENTS: usize = 8;

pub fn run(ground: &Ground) -> Result<Row> {
    let builds = ground.size.of(500, 100_000, 100_000);
    let each = ground.size.of(5, 250, 1_000);
    let mut master = seed::master(ground, "rest", 100, builds)?;
    master.run()?;
    let newest = "/api/v1/builds?limit=50";
    // Once unmeasured, with a look at what comes.
    let listed = master.http().get(newest)?;
    ensure!(listed["items"].as_array().is_some_and(|items| items.len() == 50), "the builds are not there");
    let cpu = master.cpu()?;
    let mut p95 = Samples::default();
    let mut all = Samples::default();
    let runs = ground.size.of(1, 3, 5);
    for _ in 0..runs {
        let answers = ask(|| master.http(), newest, each)?;
        p95.0.extend(answers.at(0.95));
        all.0.extend(answers.0);
    }
    let cpu_ms = (master.cpu()? - cpu).as_secs_f64() * 1e3 / all.0.len() as f64;
    master.stop();
    let mut row = Row::new("rest", "ms").rouse(&p95);
    row.cpu_ms = Some(cpu_ms);
    row = row.with("p50_ms", all.median()).with("clients", Some(CLIENTS as f64));
    // The peer at a size that it bears.
    let peers_builds = ground.size.of(500, 20_000, 100_000);
    match peers(ground, peers_builds) {
        Ok(answers) => {
            row.peer = answers.at(0.95);
            row = row.with("peer_p50_ms", answers.median()).with("peer_builds", Some(peers_builds as f64));
        }
        Err(why) => row = row.note(format!("no peer: {why:#}")),
    }
    Ok(row.note("cpu ms: of the master, for one answer"))
}

fn peers(ground: &Ground, builds: usize) -> Result<Samples> {
    let python = ground.peer.as_ref().map_err(|why| anyhow::anyhow!("{why}"))?;
    let mut peer = Peer::prepare(ground, python, "rest", 1, None)?;
    peer.run()?;
    // Builder, worker and master rows are its own; one real build is the model.
    peer.build()?;
    peer.end();
    multiply(&peer.database_file(), builds)?;
    peer.run()?;
    let newest = "/api/v2/builds?order=-buildid&limit=50";
    let listed = peer.http().get(newest)?;
    ensure!(peer::list(&listed, "builds").len() == 50, "the peer's builds are not there");
    ask(|| peer.http(), newest, ground.size.of(3, 10, 100))
}

/// The peer's own rows, as many times as ours.
fn multiply(file: &Path, builds: usize) -> Result<()> {
    let mut connection = Connection::open(file)?;
    let transaction = connection.transaction()?;
    let numbers = format!(
        "WITH RECURSIVE copy(n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM copy WHERE n < {})",
        999 + builds
    );
    for (table, own) in [
        ("buildsets", &["id"][..]),
        ("buildrequests", &["id", "buildsetid"]),
        ("builds", &["id", "number", "buildrequestid"]),
    ] {
        let mut statement = transaction.prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
        let columns =
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
        let value =
            |c: &String| if own.contains(&c.as_str()) { "copy.n".into() } else { format!("model.\"{c}\"") };
        let values: Vec<String> = columns.iter().map(value).collect();
        transaction.execute_batch(&format!(
            "INSERT INTO {table} (\"{}\") {numbers} SELECT {} FROM copy, (SELECT * FROM {table} LIMIT 1) model",
            columns.join("\", \""),
            values.join(", ")
        ))?;
    }
    transaction.commit()?;
    connection.execute_batch("ANALYZE")?;
    Ok(())
}

/// How long each answer took, in ms, with eight clients that ask one after the other.
fn ask(http: impl Fn() -> Http + Sync, path: &str, each: usize) -> Result<Samples> {
    let found = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<Vec<f64>> {
                    let mut http = http();
                    let mut answers = Vec::with_capacity(each);
                    for _ in 0..each {
                        let asked = Instant::now();
                        let (status, _) = http.call("GET", path, None)?;
                        answers.push(asked.elapsed().as_secs_f64() * 1e3);
                        ensure!(status == 200, "GET {path}: {status}");
                    }
                    Ok(answers)
                })
            })
            .collect();
        clients.into_iter().map(|c| c.join().expect("it does not panic")).collect::<Result<Vec<_>>>()
    })?;
    Ok(Samples(found.into_iter().flatten().collect()))
}
