//! A request each 50 ms while four workers are idle: none may wait for a quiet moment that never comes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::builds::Field;
use crate::ground::Ground;
use crate::master::Options;
use crate::report::{Row, Samples};

const EACH: Duration = Duration::from_millis(50);

pub fn run(ground: &Ground) -> Result<Row> {
    let requests: usize = ground.size.of(20, 300, 1_200);
    let field = Field::start(ground, "stream", 4, Options::default())?;
    field.round(ground, 100)?;
    let database = &field.master.database;
    let before = database.number("SELECT MAX(id) FROM requests")?;
    let mut http = field.master.http();
    let began = Instant::now();
    for number in 0..requests {
        let due = EACH * number as u32;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        http.post("/api/v1/schedulers/single/force", &json!({}))?;
    }
    let took = began.elapsed();
    let done = format!("SELECT COUNT(*) FROM requests WHERE id > {before} AND state = 'done'");
    ground.wait("all builds to end", Duration::from_secs(60), || {
        Ok(database.number(&done)? >= requests as i64)
    })?;
    let rows = database.rows(&format!(
        "SELECT r.created, c.outcome FROM requests r JOIN builds b ON b.request = r.id JOIN commands c ON c.build = b.id WHERE r.id > {before}"
    ))?;
    ensure!(rows.len() == requests, "{} commands for {requests} requests", rows.len());
    let mut delays = Samples::default();
    for row in rows {
        let outcome: serde_json::Value = serde_json::from_str(&row[1])?;
        let started = outcome["started_wall_us"].as_i64().unwrap_or(i64::MAX);
        delays.push((started - row[0].parse::<i64>()?) as f64 / 1e3);
    }
    field.master.stop();
    let mut row = Row::new("stream", "ms").rouse(&delays);
    row.rouse = delays.most();
    row.spread = None;
    Ok(row
        .with("median_ms", delays.median())
        .with("p99_ms", delays.at(0.99))
        .note(format!("worst of {requests} requests, sent in {:.1} s", took.as_secs_f64())))
}
