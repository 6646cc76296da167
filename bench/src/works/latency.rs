//! An idle master with one attached worker: how long a request waits until its command runs.
//!
//! Rouse's figure goes from the master's acceptance (the request's own time) to the agent's start of the process, both on this machine's clock. Beside
//! it, and for the peer, stands what can be seen from outside alone: from sending the request to the time that the command itself prints.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bare;
use crate::ground::Ground;
use crate::master::{Master, Options};
use crate::peer::{self, now_us};
use crate::report::{Row, Samples};

const CONFIG: &str = "version: 1
pools: {here: {local: {}, max: 1, reuse: {builds: 1000000, idle: 1h}}}
builders: {date: {steps: [{run: [date, '+%s%N']}]}}
schedulers: {date: {force: {}, builders: date}}
";

pub fn run(ground: &Ground) -> Result<Row> {
    let runs = ground.size.of(5, 60, 300);
    let master = Master::start(ground, "latency", CONFIG, Options::default())?;
    let (mut inside, mut outside) = (Samples::default(), Samples::default());
    let mut cpu = Duration::ZERO;
    // The first launches the worker.
    once(ground, &master)?;
    for _ in 0..runs {
        let before = master.cpu()?;
        let one = once(ground, &master)?;
        inside.push(one.0);
        outside.push(one.1);
        cpu += master.cpu()? - before;
    }
    master.stop();
    let bare = 1e3 / bare::spawns(1, Duration::from_secs_f64(ground.size.of(0.1, 1.0, 3.0)))?;
    let (mut peer, no_peer) = peer::start(ground, "latency", 1, None);
    let mut peers = Samples::default();
    if let Some(peer) = &mut peer {
        peer.latency()?;
        for _ in 0..ground.size.of(1, 15, 40) {
            peers.push(peer.latency()?);
        }
    }
    let mut row = Row::new("latency", "ms").rouse(&inside);
    row.bare = Some(bare);
    row.peer = peers.median();
    row.cpu_ms = Some(cpu.as_secs_f64() * 1e3 / runs as f64);
    row = row
        .with("p95_ms", inside.at(0.95))
        .with("outside_ms", outside.median())
        .with("outside_p95_ms", outside.at(0.95))
        .with("peer_p95_ms", peers.at(0.95));
    row = row.note("peer and outside: from sending the request to the time that the command prints");
    Ok(no_peer.into_iter().fold(row, Row::note))
}

/// Accepted → started, and sent → the command's own clock.
fn once(ground: &Ground, master: &Master) -> Result<(f64, f64)> {
    let mut http = master.http();
    http.get("/api/v1/master")?;
    let sent = now_us();
    let made = http.post("/api/v1/schedulers/date/force", &json!({}))?;
    let request = made["requests"][0]["id"].as_i64().context("a request was made")?;
    let ended = format!("SELECT COUNT(*) FROM requests WHERE id = {request} AND state = 'done'");
    ground.wait("the build to end", Duration::from_secs(60), || Ok(master.database.number(&ended)? == 1))?;
    let found = master.database.rows(&format!(
        "SELECT r.created, c.outcome, l.id FROM requests r JOIN builds b ON b.request = r.id JOIN commands c ON c.build = b.id \
         JOIN logs l ON l.build = b.id WHERE r.id = {request}"
    ))?;
    let row = found.first().context("the build has a command")?;
    let accepted: i64 = row[0].parse()?;
    let outcome: serde_json::Value = serde_json::from_str(&row[1])?;
    ensure!(outcome["kind"]["exited"]["code"] == 0, "the command ended with {outcome}");
    let started = outcome["started_wall_us"].as_i64().context("the command has a start")?;
    let (_, printed) = http.call("GET", &format!("/api/v1/logs/{}/raw", row[2]), None)?;
    let printed: i64 = String::from_utf8_lossy(&printed).trim().parse()?;
    Ok(((started - accepted) as f64 / 1e3, (printed / 1_000 - sent) as f64 / 1e3))
}
