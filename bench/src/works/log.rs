//! One or eight streams of lines: how fast they come to durable storage, and whether all of them do.
//!
//! From the start of the first build to the end of the last; a build ends when its log is sealed. What is stored is read back and its SHA-256 compared
//! with what was printed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::bare;
use crate::ground::Ground;
use crate::master::{Master, Options};
use crate::peer;
use crate::process;
use crate::report::{Row, Samples};

const PATIENCE: Duration = Duration::from_secs(300);

pub fn one(ground: &Ground) -> Result<Row> {
    run(ground, "log", 1, ground.size.of(2, 15, 150))
}

pub fn eight(ground: &Ground) -> Result<Row> {
    run(ground, "log8", 8, ground.size.of(1, 2, 20))
}

/// `copies` of the file of lines on each stream.
fn run(ground: &Ground, work: &'static str, streams: usize, copies: usize) -> Result<Row> {
    let lines = ground.lines()?;
    let secret = ground.folder(work)?.join("secret");
    std::fs::write(&secret, "a-secret-that-no-line-has\n")?;
    // A master refuses a secret that everybody can read.
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let mut text = format!(
        "version: 1\nsecrets: {{hidden: {{file: {}}}}}\npools: {{here: {{local: {{}}, max: {streams}, reuse: {{builds: 1000000, \
         idle: 1h}}}}}}\nbuilders:\n  warm: {{steps: [{{run: ['true']}}]}}\n",
        secret.display()
    );
    let printed = vec![format!("'{}'", lines.display()); copies].join(", ");
    let names: Vec<String> = (0..streams).map(|i| format!("log{i}")).collect();
    for name in &names {
        text.push_str(&format!("  {name}: {{steps: [{{run: [cat, {printed}]}}]}}\n"));
    }
    text.push_str(&format!(
        "  masked: {{env: {{HIDDEN: 'secret:hidden'}}, steps: [{{run: [cat, {printed}]}}]}}\n"
    ));
    text.push_str(&format!(
        "schedulers:\n  logs: {{force: {{}}, builders: [{}]}}\n  masked: {{force: {{}}, builders: masked}}\n",
        names.join(", ")
    ));
    // The full size is past what is kept of a log unless somebody says otherwise.
    let flags = vec!["--log-limit".to_owned(), "16GiB".to_owned()];
    let master = Master::start(ground, work, &text, Options { flags, ..Options::default() })?;
    let expected = Expected::of(&std::fs::read(lines)?, copies);
    let stream = Measured { ground, master: &master, expected: &expected };
    let (mut rate, mut bare, mut masked) = (Samples::default(), Samples::default(), Samples::default());
    let (mut cpu, mut agents, mut peak) = (Samples::default(), Samples::default(), Samples::default());
    // Attaches the workers.
    stream.one("logs", streams)?;
    for _ in 0..ground.size.of(1, 3, 3) {
        bare.push(bare::compression(lines, streams.min(2))?);
        let found = stream.one("logs", streams)?;
        rate.push(found.rate);
        cpu.push(found.master_ms);
        agents.push(found.agents_ms);
        peak.push(found.peak_mb);
    }
    if streams == 1 {
        masked.push(stream.one("masked", 1)?.rate);
    }
    master.stop();
    let (mut peers, mut no_peer) = (Samples::default(), None);
    if streams == 1 {
        let (peer, why) = peer::start(ground, work, 1, None);
        no_peer = why;
        if let Some(mut peer) = peer {
            peers.push(peer.log()?);
        }
    }
    let mut row = Row::new(work, "MB/s").rouse(&rate);
    row.bare = bare.median();
    row.peer = peers.median();
    row.cpu_ms = cpu.median();
    row = row
        .with("agents_cpu_ms_per_100_mb", agents.median())
        .with("master_peak_rss_mb", peak.most())
        .with("mb_per_stream", Some(expected.bytes as f64 / 1e6));
    if streams == 1 {
        row = row.with("with_a_secret_mb_s", masked.median());
    }
    row = row.note(
        "cpu ms: of the master, for 100 MB; checked: the SHA-256 of each stored log is what was printed",
    );
    Ok(no_peer.into_iter().fold(row, Row::note))
}

struct Expected {
    bytes: u64,
    sha256: String,
}

impl Expected {
    fn of(text: &[u8], copies: usize) -> Self {
        let mut hasher = Sha256::new();
        (0..copies).for_each(|_| hasher.update(text));
        Self { bytes: (text.len() * copies) as u64, sha256: hex::encode(hasher.finalize()) }
    }
}

struct Measured<'a> {
    ground: &'a Ground,
    master: &'a Master,
    expected: &'a Expected,
}

struct Found {
    rate: f64,
    /// CPU for 100 MB.
    master_ms: f64,
    agents_ms: f64,
    peak_mb: f64,
}

impl Measured<'_> {
    fn one(&self, scheduler: &str, streams: usize) -> Result<Found> {
        let (database, pid) = (&self.master.database, self.master.pid()?);
        let agents = self.master.agents()?;
        process::forget_peak(pid)?;
        let (master_cpu, agents_cpu) = (process::cpu(&[pid]), process::cpu(&agents));
        let made = self.master.http().post(&format!("/api/v1/schedulers/{scheduler}/force"), &json!({}))?;
        let set = made["buildset"].as_i64().context("a buildset was made")?;
        let done = format!("SELECT COUNT(*) FROM builds WHERE buildset = {set} AND result = 0");
        self.ground
            .wait("the logs to be stored", PATIENCE, || Ok(database.number(&done)? == streams as i64))?;
        let failed = database
            .rows(&format!("SELECT id, summary FROM builds WHERE buildset = {set} AND result <> 0"))?;
        ensure!(failed.is_empty(), "not every build succeeded: {failed:?}");
        let per_100 = self.expected.bytes as f64 * streams as f64 / 1e8;
        let master_ms = (process::cpu(&[pid]) - master_cpu).as_secs_f64() * 1e3 / per_100;
        let agents_ms = (process::cpu(&agents).saturating_sub(agents_cpu)).as_secs_f64() * 1e3 / per_100;
        let peak_mb = process::peak_kb(pid)? as f64 / 1e3;
        let times = database.numbers(&format!(
            "SELECT MIN(running_from), MAX(finished) FROM builds WHERE buildset = {set}"
        ))?;
        let rate = self.expected.bytes as f64 * streams as f64 / (times[1] - times[0]) as f64;
        let logs = database.rows(&format!(
            "SELECT l.id, l.bytes, l.sealed FROM logs l JOIN builds b ON b.id = l.build WHERE b.buildset = {set}"
        ))?;
        ensure!(logs.len() == streams, "{} logs, not {streams}", logs.len());
        for log in &logs {
            ensure!(
                log[1] == self.expected.bytes.to_string() && log[2] == "1",
                "log {} has {} bytes",
                log[0],
                log[1]
            );
            self.compare(&log[0])?;
        }
        Ok(Found { rate, master_ms, agents_ms, peak_mb })
    }

    fn compare(&self, log: &str) -> Result<()> {
        let mut hasher = Sha256::new();
        let path = format!("/api/v1/logs/{log}/raw");
        let status = self.master.http().stream("GET", &path, None, &mut |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        ensure!(status == 200, "GET {path}: {status}");
        let found = hex::encode(hasher.finalize());
        ensure!(found == self.expected.sha256, "log {log} is not what was printed");
        Ok(())
    }
}
