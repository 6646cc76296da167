//! 300 builds that print at a steady rate, and one reader that asked for a log and reads nothing: do the API and the master's heartbeat still answer
//! in time?

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::ground::Ground;
use crate::master::{Master, Options};
use crate::process;
use crate::report::{Row, Samples};

/// Lines a second of each stream: about 9 KB.
const RATE: u32 = 100;
/// How often a master writes its heartbeat.
const BEAT_MS: f64 = 2_000.0;

pub fn run(ground: &Ground) -> Result<Row> {
    let (workers, slots) = ground.size.of((2, 3), (10, 30), (10, 30));
    let streams = workers * slots;
    let watched = Duration::from_secs(ground.size.of(2, 12, 60));
    let emit = ground.own_program()?;
    // Long enough for the last stream to begin while the first still prints.
    let seconds = watched.as_secs() + ground.size.of(10, 30, 30);
    let mut text = format!(
        "version: 1\npools: {{here: {{local: {{}}, max: {workers}, slots: {slots}, reuse: {{builds: 1000000, idle: 1h}}}}}}\nbuilders:\n"
    );
    let names: Vec<String> = (0..streams).map(|i| format!("s{i}")).collect();
    for name in &names {
        let emit = emit.display();
        text.push_str(&format!(
            "  {name}: {{steps: [{{run: ['{emit}', emit, --seconds, '{seconds}', --rate, '{RATE}']}}]}}\n"
        ));
    }
    text.push_str(&format!("schedulers: {{all: {{force: {{}}, builders: [{}]}}}}\n", names.join(", ")));
    let master = Master::start(ground, "log300", &text, Options::default())?;
    let (database, mut http) = (&master.database, master.http());
    http.post("/api/v1/schedulers/all/force", &json!({}))?;
    let running = "SELECT COUNT(*) FROM builds WHERE running_from IS NOT NULL AND finished IS NULL";
    ground.wait("all streams to run", Duration::from_secs(seconds), || {
        Ok(database.number(running)? == streams as i64)
    })?;
    let log = database.number("SELECT MIN(id) FROM logs")?;
    let hung = master.http().hang(&format!("/api/v1/logs/{log}/follow"))?;
    let cpu = master.cpu()?;
    let began = Instant::now();
    let (api, beats) = std::thread::scope(|scope| {
        let beats = scope.spawn(|| heartbeats(&master, watched));
        (probe(&master, watched), beats.join().expect("it does not panic"))
    });
    let (api, beats) = (api?, beats?);
    let cpu = (master.cpu()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    let still = database.number(running)?;
    let peak = process::peak_kb(master.pid()?)? as f64 / 1e3;
    drop(hung);
    master.stop();
    ensure!(still > 0, "the streams ended before the measuring did");
    let mut row = Row::new("log300", "ms").rouse(&api);
    row.rouse = api.at(0.99);
    row.spread = None;
    Ok(row
        .with("api_p50_ms", api.median())
        .with("heartbeat_late_p99_ms", beats.at(0.99))
        .with("streams", Some(streams as f64))
        .with("master_cpus", Some(cpu))
        .with("master_peak_rss_mb", Some(peak))
        .note(format!(
            "p99 of the API's answers; each stream prints {RATE} lines a second; {still} still ran at the end"
        )))
}

/// How long answers take.
fn probe(master: &Master, watched: Duration) -> Result<Samples> {
    let mut http = master.http();
    let mut answers = Samples::default();
    let began = Instant::now();
    while began.elapsed() < watched {
        for path in ["/api/v1/builds?limit=50", "/api/v1/workers", "/readyz"] {
            let asked = Instant::now();
            let (status, _) = http.call("GET", path, None)?;
            ensure!(status == 200, "GET {path}: {status}");
            answers.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(answers)
}

/// How much later than due each heartbeat of the master is in the database.
fn heartbeats(master: &Master, watched: Duration) -> Result<Samples> {
    let counter = || master.database.number("SELECT counter FROM masters");
    let mut late = Samples::default();
    let (mut last, mut seen) = (counter()?, None::<Instant>);
    let began = Instant::now();
    // Two beats at least.
    while began.elapsed() < watched
        || (late.0.is_empty() && began.elapsed() < watched + Duration::from_secs(8))
    {
        let now = counter()?;
        if now != last {
            if let Some(before) = seen {
                late.push((before.elapsed().as_secs_f64() * 1e3 - BEAT_MS).max(0.0));
            }
            (last, seen) = (now, Some(Instant::now()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(late)
}
