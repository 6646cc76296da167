//! How long a master with a long past takes from its start to being ready.

use anyhow::{Result, ensure};

use super::seed;
use crate::ground::Ground;
use crate::process;
use crate::report::{Row, Samples};

pub fn run(ground: &Ground) -> Result<Row> {
    let (builders, builds) = ground.size.of((20, 500), (1_000, 100_000), (1_000, 100_000));
    let mut master = seed::master(ground, "start", builders, builds)?;
    let (mut took, mut cpu, mut rss) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..ground.size.of(1, 5, 10) {
        took.push(master.run()?.as_secs_f64());
        cpu.push(master.cpu()?.as_secs_f64() * 1e3);
        rss.push(process::rss_kb(master.pid()?)? as f64 / 1e3);
        let listed = master.http().get("/api/v1/builds?limit=50")?;
        ensure!(
            listed["items"].as_array().is_some_and(|items| items.len() == 50),
            "the builds are not there"
        );
        master.end_master();
    }
    drop(master);
    let mut row = Row::new("start", "s").rouse(&took);
    row.cpu_ms = cpu.median();
    Ok(row
        .with("builds", Some(builds as f64))
        .with("builders", Some(builders as f64))
        .with("master_rss_mb", rss.median())
        .note("from the process's start to /readyz; files in the page cache; cpu ms: of one start"))
}
