//! A long queue: does one more request cost more, do builds come out more slowly?

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::builds::{Field, queue};
use crate::ground::Ground;
use crate::master::Options;
use crate::report::{Row, Samples};

pub fn run(ground: &Ground) -> Result<Row> {
    let pending: usize = ground.size.of(300, 10_000, 10_000);
    let drained: usize = ground.size.of(100, 1_500, 5_000);
    let field = Field::start(ground, "backlog", 16, Options::default())?;
    field.round(ground, 100)?;
    let empty = field.round(ground, drained.min(500).next_multiple_of(100))?.rate;
    let database = &field.master.database;
    let held = field.hold(ground)?;
    let mut http = field.master.http();
    let began = Instant::now();
    queue(&mut http, pending)?;
    let submitted = pending as f64 / began.elapsed().as_secs_f64();
    let cpu = field.master.cpu()?;
    let (mut accepted, more) = (Samples::default(), ground.size.of(5, 50, 200));
    for _ in 0..more {
        let sent = Instant::now();
        http.post("/api/v1/schedulers/single/force", &json!({}))?;
        accepted.push(sent.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(20));
    }
    let cpu_ms = (field.master.cpu()? - cpu).as_secs_f64() * 1e3 / f64::from(more);
    let before = database.number("SELECT MAX(id) FROM builds")?;
    held.open()?;
    let done = format!("SELECT COUNT(*) FROM builds WHERE id > {before} AND finished IS NOT NULL");
    ground.wait("the queue to drain", Duration::from_secs(180), || {
        std::thread::sleep(Duration::from_millis(100));
        Ok(database.number(&done)? >= drained as i64)
    })?;
    let times = database.numbers(&format!(
        "SELECT MIN(matched), MAX(finished) FROM (SELECT matched, finished FROM builds WHERE id > {before} AND finished IS NOT NULL \
         ORDER BY finished LIMIT {drained}) first"
    ))?;
    let rate = drained as f64 * 1e6 / (times[1] - times[0]) as f64;
    // In this order: with thousands pending, workers that end would be replaced.
    let Field { mut master, .. } = field;
    master.end_master();
    drop(master);
    let mut row = Row::new("backlog", "ms").rouse(&accepted);
    row.cpu_ms = Some(cpu_ms);
    Ok(row
        .with("drain_per_s", Some(rate))
        .with("empty_queue_per_s", Some(empty))
        .with("drain_to_empty_queue", Some(rate / empty))
        .with("submitted_per_s", Some(submitted))
        .with("pending", Some(pending as f64))
        .note("one more request: from sending it to the answer; cpu ms: of the master, for each of these"))
}
