//! Idle agents: what each costs the master in memory, and how long it takes until all are back after all connections broke.
//!
//! The agents are simulated by a second process (`crate::agents`), which connects by TLS as agents of other hosts do.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::agents::SIMULATOR;
use crate::ground::Ground;
use crate::master::{Master, Options, free_port};
use crate::process;
use crate::report::{Row, Samples};

/// Requests of one force.
const AT_ONCE: usize = 50;

pub fn run(ground: &Ground) -> Result<Row> {
    let count = ground.size.of(50, 2_000, 9_000);
    let folder = ground.folder("agents")?;
    let socket = folder.join("simulator");
    let agents = format!("127.0.0.1:{}", free_port()?);
    let names: Vec<String> = (0..AT_ONCE).map(|i| format!("b{i}")).collect();
    let mut config = format!(
        "version: 1\nserver: {{agents: {{advertise: {{many: '{agents}'}}}}}}\nproviders: {{plain: {{local: {{uids: {{count: 0}}}}}}}}\npools:\n  many: {{local: {{env: {{{SIMULATOR}: '{}'}}}}, \
         max: {count}, reuse: {{builds: 1000000, idle: 1h}}}}\nbuilders:\n",
        socket.display()
    );
    names.iter().for_each(|name| config.push_str(&format!("  {name}: {{steps: [{{run: ['true']}}]}}\n")));
    config.push_str(&format!("schedulers: {{all: {{force: {{}}, builders: [{}]}}}}\n", names.join(", ")));
    let mut simulator = Simulator::start(ground, &socket, count)?;
    let binary = beside_stand_ins(ground, &folder)?;
    let flags = vec!["--agents-listen".to_owned(), agents];
    let options = Options { binary: Some(binary), flags, ..Options::default() };
    let mut master = Master::start(ground, "agents", &config, options)?;
    let before = process::rss_kb(master.pid()?)?;
    let began = Instant::now();
    let mut http = master.http();
    for _ in 0..count.div_ceil(AT_ONCE) {
        http.post("/api/v1/schedulers/all/force", &json!({}))?;
    }
    simulator.wait_for_all(count)?;
    let launched = began.elapsed().as_secs_f64();
    simulator.tell("go")?;
    let open = "SELECT COUNT(*) FROM requests WHERE state <> 'done'";
    ground.wait("all builds to end", Duration::from_secs(120), || Ok(master.database.number(open)? == 0))?;
    // Idle: what came up with the builds has time to go, heartbeats flow.
    std::thread::sleep(Duration::from_secs(ground.size.of(1, 10, 20)));
    let each = (process::rss_kb(master.pid()?)?.saturating_sub(before)) as f64 / count as f64;
    let idle = idle_cpu(&master, Duration::from_secs(ground.size.of(1, 10, 20)))?;
    let mut back = Samples::default();
    for _ in 0..ground.size.of(1, 3, 3) {
        let began = Instant::now();
        simulator.tell("reconnect")?;
        simulator.wait_for_all(count)?;
        back.push(began.elapsed().as_secs_f64());
    }
    let lost = count as i64
        - master
            .database
            .number("SELECT COUNT(*) FROM workers WHERE gone IS NULL AND link LIKE '%attached%'")?;
    let after = process::rss_kb(master.pid()?)?.saturating_sub(before) as f64 / count as f64;
    // The master first, so that it launches nobody in place of those who go.
    master.end_master();
    drop(master);
    drop(simulator);
    let mut row = Row::new("agents", "KB").rouse(&Samples(vec![each]));
    row.cpu_ms = Some(idle * 1e3 / count as f64);
    Ok(row
        .with("agents", Some(count as f64))
        .with("all_back_s", back.median())
        .with("lost", Some(lost as f64))
        .with("kb_each_after_reconnects", Some(after))
        .with("launched_and_attached_s", Some(launched))
        .note(format!("{count} agents by TLS from a second process"))
        .note("cpu ms: of the master, for one idle agent and second"))
}

/// CPU seconds of the master in each second.
fn idle_cpu(master: &Master, time: Duration) -> Result<f64> {
    let before = master.cpu()?;
    std::thread::sleep(time);
    Ok((master.cpu()? - before).as_secs_f64() / time.as_secs_f64())
}

/// A copy of the master with stand-ins for agents beside it.
fn beside_stand_ins(ground: &Ground, folder: &Path) -> Result<PathBuf> {
    let agents = folder.join("bin/agents").join(format!("linux-{}", std::env::consts::ARCH));
    std::fs::create_dir_all(&agents)?;
    std::fs::copy(ground.own_program()?, agents.join("rouse-agent"))?;
    let binary = folder.join("bin/rouse");
    std::fs::copy(&ground.rouse, &binary)?;
    Ok(binary)
}

struct Simulator {
    child: Child,
    orders: Option<ChildStdin>,
    said: BufReader<ChildStdout>,
}

impl Simulator {
    fn start(ground: &Ground, socket: &Path, expected: usize) -> Result<Self> {
        let mut command = Command::new(ground.own_program()?);
        command.arg("simulate").arg(socket).arg(expected.to_string());
        let log = std::fs::File::create(ground.folder("agents")?.join("simulator.log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().context("the simulator could not be started")?;
        let (orders, said) = (child.stdin.take(), child.stdout.take().context("it has an output")?);
        let mut simulator = Self { child, orders, said: BufReader::new(said) };
        let line = simulator.hear()?;
        ensure!(line.starts_with("listening"), "the simulator said: {line}");
        Ok(simulator)
    }

    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.said.read_line(&mut line)? == 0 {
            bail!("the simulator ended with {}", self.child.wait()?);
        }
        Ok(line.trim().to_owned())
    }

    fn wait_for_all(&mut self, count: usize) -> Result<()> {
        let line = self.hear()?;
        ensure!(line == format!("attached {count}"), "not all agents came: {line} of {count}");
        Ok(())
    }

    fn tell(&mut self, order: &str) -> Result<()> {
        let orders = self.orders.as_mut().context("it listens")?;
        writeln!(orders, "{order}")?;
        Ok(orders.flush()?)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.orders.take();
        process::end(&mut self.child, Duration::from_secs(5));
    }
}
