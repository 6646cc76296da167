//! Trivial builds on attached workers: how many each second, and what one costs.
//!
//! Every worker first holds one build that waits at a gate (a FIFO); then all requests are queued; then the gate opens. So neither the speed of
//! submission nor the launch of a worker is in what is measured. Times and counts are what the master wrote into its database.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::stat::Mode;
use serde_json::json;

use crate::bare;
use crate::database::{Database, Fresh};
use crate::ground::Ground;
use crate::http::Http;
use crate::master::{Master, Options};
use crate::peer;
use crate::process;
use crate::report::{Row, Samples};

/// Builders of the scheduler that is forced: each force makes so many requests.
const BUILDERS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(180);

pub fn sixteen(ground: &Ground) -> Result<Row> {
    let sizes =
        Sizes { workers: 16, builds: ground.size.of(100, 1_500, 10_000), peers: ground.size.of(4, 20, 150) };
    run(ground, "builds", &sizes, Options::default())
}

pub fn one(ground: &Ground) -> Result<Row> {
    let sizes =
        Sizes { workers: 1, builds: ground.size.of(100, 500, 3_000), peers: ground.size.of(4, 10, 100) };
    run(ground, "builds1", &sizes, Options::default())
}

pub fn sixty_four(ground: &Ground) -> Result<Row> {
    let sizes =
        Sizes { workers: 64, builds: ground.size.of(100, 1_500, 10_000), peers: ground.size.of(4, 20, 200) };
    run(ground, "builds64", &sizes, Options::default())
}

pub fn postgres(ground: &Ground) -> Result<Row> {
    let Some(server) = Ground::lent("ROUSE_TEST_POSTGRES_URL") else {
        return Ok(Row::new("builds_pg", "1/s").note(
            "skipped: needs PostgreSQL (ROUSE_TEST_POSTGRES_URL is not set; `cargo xtask bench` sets it)",
        ));
    };
    let fresh = Fresh::make(&server, "builds")?;
    let sizes =
        Sizes { workers: 16, builds: ground.size.of(100, 1_000, 5_000), peers: ground.size.of(4, 20, 200) };
    run(ground, "builds_pg", &sizes, Options { postgres: Some(fresh.url()), ..Options::default() })
}

struct Sizes {
    workers: usize,
    builds: usize,
    /// The peer's, which bears fewer.
    peers: usize,
}

fn run(ground: &Ground, work: &'static str, sizes: &Sizes, options: Options) -> Result<Row> {
    let runs = if work == "builds" { ground.size.of(1, 3, 5) } else { ground.size.of(1, 2, 5) };
    let peer_database = options.postgres.as_ref().map(|_| "postgres");
    let field = Field::start(ground, work, sizes.workers, options)?;
    let (mut peer, no_peer) = peer::start(ground, work, sizes.workers, peer_database);
    // Once unmeasured: caches, the allocator's pools, each worker's first build.
    field.round(ground, BUILDERS.min(sizes.builds))?;
    let (mut rate, mut bare, mut peers) = (Samples::default(), Samples::default(), Samples::default());
    let (mut master_ms, mut agents_ms) = (Samples::default(), Samples::default());
    for _ in 0..runs {
        bare.push(bare::spawns(2, Duration::from_secs_f64(ground.size.of(0.2, 2.0, 5.0)))?);
        let round = field.round(ground, sizes.builds)?;
        rate.push(round.rate);
        master_ms.push(round.master_ms);
        agents_ms.push(round.agents_ms);
        if let Some(peer) = &mut peer {
            peers.push(peer.builds(sizes.peers)?);
        }
    }
    field.master.stop();
    let mut row = Row::new(work, "1/s").rouse(&rate);
    row.bare = bare.median();
    row.peer = peers.median();
    row.cpu_ms = master_ms.median();
    row = row.with("agents_cpu_ms", agents_ms.median()).with("builds", Some(sizes.builds as f64));
    row = row.note(format!(
        "checked: each of {} builds has its step, its log and its events",
        sizes.builds * runs
    ));
    Ok(no_peer.into_iter().fold(row, Row::note))
}

/// A master whose workers are attached and can be held at a gate.
pub struct Field {
    pub master: Master,
    workers: usize,
    gate: PathBuf,
}

pub struct Round {
    /// Builds each second.
    pub rate: f64,
    /// CPU of the master, of all agents, for one build.
    pub master_ms: f64,
    pub agents_ms: f64,
}

impl Field {
    pub fn start(ground: &Ground, name: &str, workers: usize, options: Options) -> Result<Self> {
        let gate = ground.folder(name)?.join("gate");
        // Workers have users of their own.
        nix::unistd::mkfifo(&gate, Mode::empty())?;
        std::fs::set_permissions(&gate, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        let master = Master::start(ground, name, &config(workers, &gate), options)?;
        Ok(Self { master, workers, gate })
    }

    /// Queues builds while all workers are held, lets them go, waits for the end and checks what is in the database.
    pub fn round(&self, ground: &Ground, builds: usize) -> Result<Round> {
        let held = self.hold(ground)?;
        let database = &self.master.database;
        let before = database.number("SELECT MAX(id) FROM builds")?;
        let mut http = self.master.http();
        queue(&mut http, builds)?;
        let (pid, agents) = (self.master.pid()?, self.master.agents()?);
        ensure!(agents.len() == self.workers, "{} agents are attached, not {}", agents.len(), self.workers);
        let (master_cpu, agents_cpu) = (process::cpu(&[pid]), process::cpu(&agents));
        held.open()?;
        let done = format!(
            "SELECT COUNT(*) FROM builds WHERE id > {before} AND builder LIKE 'b%' AND finished IS NOT NULL"
        );
        ground.wait("all builds to end", PATIENCE, || {
            std::thread::sleep(Duration::from_millis(100));
            Ok(database.number(&done)? >= builds as i64)
        })?;
        let master_ms = (process::cpu(&[pid]) - master_cpu).as_secs_f64() * 1e3 / builds as f64;
        let agents_ms = (process::cpu(&agents) - agents_cpu).as_secs_f64() * 1e3 / builds as f64;
        check(database, before, builds)?;
        let times = database.numbers(&format!(
            "SELECT MIN(matched), MAX(finished) FROM builds WHERE id > {before} AND builder LIKE 'b%'"
        ))?;
        let rate = builds as f64 * 1e6 / (times[1] - times[0]) as f64;
        Ok(Round { rate, master_ms, agents_ms })
    }

    /// Every worker gets a build that waits.
    pub fn hold(&self, ground: &Ground) -> Result<Held<'_>> {
        let database = &self.master.database;
        let before = database.number("SELECT COALESCE(MAX(id), 0) FROM builds")?;
        self.master.http().post("/api/v1/schedulers/gates/force", &json!({}))?;
        let waiting = format!(
            "SELECT COUNT(*) FROM builds WHERE id > {before} AND builder LIKE 'gate%' AND running_from IS NOT NULL"
        );
        ground.wait("all workers to be held", PATIENCE, || {
            Ok(database.number(&waiting)? >= self.workers as i64)
        })?;
        Ok(Held { gate: &self.gate })
    }
}

/// Builds that wait for [`Held::open`].
pub struct Held<'a> {
    gate: &'a Path,
}

impl Held<'_> {
    /// A FIFO lets its readers go as soon as it has a writer.
    pub fn open(self) -> Result<()> {
        let writer = OpenOptions::new().write(true).open(self.gate).context("the gate")?;
        // A reader that comes to its open a moment later needs the writer, too.
        std::thread::sleep(Duration::from_millis(5));
        drop(writer);
        Ok(())
    }
}

/// Makes so many requests, in as few calls as can be.
pub fn queue(http: &mut Http, builds: usize) -> Result<()> {
    ensure!(builds.is_multiple_of(BUILDERS), "{builds} is no multiple of {BUILDERS}");
    for _ in 0..builds / BUILDERS {
        http.post("/api/v1/schedulers/many/force", &json!({}))?;
    }
    Ok(())
}

fn config(workers: usize, gate: &Path) -> String {
    let mut text = format!(
        "version: 1\npools:\n  here: {{local: {{}}, max: {workers}, reuse: {{builds: 1000000, idle: 1h}}}}\nbuilders:\n"
    );
    let names = |prefix: &str, count: usize| (0..count).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
    let (gates, many) = (names("gate", workers), names("b", BUILDERS));
    for name in &gates {
        text.push_str(&format!("  {name}: {{steps: [{{run: ': < {}'}}]}}\n", gate.display()));
    }
    for name in many.iter().chain(&["one".to_owned()]) {
        text.push_str(&format!("  {name}: {{steps: [{{run: ['true']}}]}}\n"));
    }
    text.push_str(&format!(
        "schedulers:\n  gates: {{force: {{}}, builders: [{}]}}\n  many: {{force: {{}}, builders: [{}]}}\n  \
         single: {{force: {{}}, builders: one}}\n",
        gates.join(", "),
        many.join(", ")
    ));
    text
}

/// Each build is there with all that belongs to it, once.
fn check(database: &Database, before: i64, builds: usize) -> Result<()> {
    let these = format!("id > {before} AND builder LIKE 'b%'");
    let of_these = format!("build IN (SELECT id FROM builds WHERE {these})");
    let count = |statement: String, expected: usize| -> Result<()> {
        let found = database.number(&statement)?;
        ensure!(found == expected as i64, "{found}, not {expected}: {statement}");
        Ok(())
    };
    count(format!("SELECT COUNT(*) FROM builds WHERE {these}"), builds)?;
    count(format!("SELECT COUNT(*) FROM builds WHERE {these} AND result = 0"), builds)?;
    count(format!("SELECT COUNT(DISTINCT request) FROM builds WHERE {these}"), builds)?;
    count(format!("SELECT COUNT(*) FROM steps WHERE {of_these} AND result = 0"), builds)?;
    count(format!("SELECT COUNT(*) FROM commands WHERE {of_these} AND state = 'done'"), builds)?;
    count(format!("SELECT COUNT(*) FROM logs WHERE {of_these} AND sealed = 1"), builds)?;
    for kind in ["build_started", "build_phase", "build_finished"] {
        let subject = format!("SELECT 'build/' || id FROM builds WHERE {these}");
        count(
            format!("SELECT COUNT(*) FROM events WHERE kind = '{kind}' AND subject IN ({subject})"),
            builds,
        )?;
    }
    Ok(())
}
