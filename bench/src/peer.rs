//! The peer: Buildbot 4.3 as a user would run it, driven through its REST interface, at sizes that it can bear.
//!
//! It gets the same machine in the same run, in turns. Its workers share one process, since each of its own would only cost it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::database::{Database, Fresh};
use crate::ground::Ground;
use crate::http::Http;
use crate::master::free_port;
use crate::process;

const MASTER: &str = include_str!("../peer/master.cfg");
const WORKER: &str = include_str!("../peer/worker.tac");
/// It takes its time.
const PATIENCE: Duration = Duration::from_secs(240);

pub struct Peer<'a> {
    ground: &'a Ground,
    folder: PathBuf,
    python: PathBuf,
    environment: Vec<(&'static str, String)>,
    workers: usize,
    www: u16,
    database: Database,
    processes: Vec<Child>,
    // Dropped after the processes have ended.
    _fresh: Option<Fresh>,
}

/// The peer with attached workers, or why it is not measured.
pub fn start<'a>(
    ground: &'a Ground,
    work: &str,
    workers: usize,
    database: Option<&str>,
) -> (Option<Peer<'a>>, Option<String>) {
    let python = match &ground.peer {
        Ok(python) => python,
        Err(why) => return (None, Some(format!("no peer: {why}"))),
    };
    let started = Peer::prepare(ground, python, work, workers, database).and_then(|mut peer| {
        peer.run()?;
        Ok(peer)
    });
    match started {
        Ok(peer) => (Some(peer), None),
        Err(error) => (None, Some(format!("no peer: it did not start: {error:#}"))),
    }
}

impl<'a> Peer<'a> {
    /// Its folder and its empty database.
    pub fn prepare(
        ground: &'a Ground,
        python: &Path,
        work: &str,
        workers: usize,
        database: Option<&str>,
    ) -> Result<Self> {
        let folder = ground.folder(&format!("{work}-peer"))?;
        let fresh = match database {
            Some(_) => {
                let server = Ground::lent("ROUSE_TEST_POSTGRES_URL").context("no PostgreSQL")?;
                Some(Fresh::make(&server, "peer")?)
            }
            None => None,
        };
        let (url, database) = match &fresh {
            Some(fresh) => {
                let url = fresh.url();
                (url.replacen("postgres://", "postgresql+psycopg2://", 1), Database::Postgres(url))
            }
            None => ("sqlite:///state.sqlite".to_owned(), Database::Sqlite(folder.join("state.sqlite"))),
        };
        let www = free_port()?;
        let environment = vec![
            ("PEER_WORKERS", workers.to_string()),
            ("PEER_PB", free_port()?.to_string()),
            ("PEER_WWW", www.to_string()),
            ("PEER_DATABASE", url),
            ("PEER_LINES", peer_lines(ground)?.display().to_string()),
            ("PEER_FOLDER", folder.display().to_string()),
        ];
        let processes = Vec::new();
        let mut peer = Self {
            ground,
            folder,
            python: python.to_owned(),
            environment,
            workers,
            www,
            database,
            processes,
            _fresh: fresh,
        };
        peer.create()?;
        Ok(peer)
    }

    fn create(&mut self) -> Result<()> {
        std::fs::write(self.folder.join("master.cfg"), MASTER)?;
        std::fs::write(self.folder.join("worker.tac"), WORKER)?;
        let url =
            self.environment.iter().find(|(name, _)| *name == "PEER_DATABASE").map(|(_, url)| url.clone());
        let mut command = self.program("buildbot");
        command.args(["create-master", "--force", "--db", &url.unwrap_or_default(), "."]);
        let output = command.stdin(Stdio::null()).output().context("buildbot could not be run")?;
        ensure!(output.status.success(), "create-master: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Starts master and workers, and waits until all are attached.
    pub fn run(&mut self) -> Result<()> {
        let mut master = self.program("buildbot");
        master.args(["start", "--nodaemon", "."]);
        self.spawn(master, "master.log")?;
        // A worker that comes before there is a master tries again much later.
        self.wait("the peer's master to listen", |peer| Ok(peer.http().get("/api/v2/workers").is_ok()))?;
        let mut workers = self.program("twistd");
        workers.args(["--nodaemon", "--pidfile=", "-y", "worker.tac"]);
        self.spawn(workers, "workers.log")?;
        let expected = self.workers;
        self.wait("the peer's workers to attach", |peer| {
            let answer = peer.http().get("/api/v2/workers")?;
            let all = answer["workers"].as_array().cloned().unwrap_or_default();
            Ok(all.iter().filter(|w| w["connected_to"].as_array().is_some_and(|c| !c.is_empty())).count()
                == expected)
        })
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.python.with_file_name(name));
        command.current_dir(&self.folder).envs(self.environment.iter().map(|(n, v)| (n, v)));
        command
    }

    fn spawn(&mut self, mut command: Command, log: &str) -> Result<()> {
        let log = File::create(self.folder.join(log))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.processes.push(command.spawn().context("the peer could not be started")?);
        Ok(())
    }

    pub fn end(&mut self) {
        for mut child in self.processes.drain(..).rev() {
            process::end(&mut child, Duration::from_secs(15));
        }
    }

    pub fn http(&self) -> Http {
        Http::new(&format!("127.0.0.1:{}", self.www), None)
    }

    /// Where its builds are, for who seeds it while it is down.
    pub fn database_file(&self) -> PathBuf {
        self.folder.join("state.sqlite")
    }

    fn wait(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let ground = self.ground;
        ground.wait(what, PATIENCE, || {
            for child in &mut self.processes {
                if let Some(status) = child.try_wait()? {
                    anyhow::bail!("a process of the peer ended with {status}");
                }
            }
            so(self)
        })
    }

    fn force(&self, http: &mut Http, builder: &str) -> Result<()> {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "force", "params": {}});
        let answer = http.post(&format!("/api/v2/forceschedulers/{builder}"), &call)?;
        ensure!(answer.get("error").is_none(), "force: {answer}");
        Ok(())
    }

    fn pause(&self, http: &mut Http, method: &str) -> Result<()> {
        for worker in 1..=self.workers {
            let call =
                json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"reason": "measuring"}});
            http.post(&format!("/api/v2/workers/{worker}"), &call)?;
        }
        Ok(())
    }

    fn ended(&self) -> Result<i64> {
        self.database.number("SELECT COUNT(*) FROM builds WHERE complete_at IS NOT NULL")
    }

    fn wait_for(&mut self, builds: i64) -> Result<()> {
        self.wait("the peer's builds to end", |peer| Ok(peer.ended()? >= builds))
    }

    /// One build of `true`, nobody measures it. Its worker is not paused: one that is set to work again may leave a single request alone for
    /// a minute.
    pub fn build(&mut self) -> Result<()> {
        let before = self.ended()?;
        self.force(&mut self.http(), "true")?;
        self.wait_for(before + 1)
    }

    /// Builds of `true` each second, queued while all workers are paused.
    pub fn builds(&mut self, builds: usize) -> Result<f64> {
        let mut http = self.http();
        let before = self.ended()?;
        self.pause(&mut http, "pause")?;
        for _ in 0..builds {
            self.force(&mut http, "true")?;
        }
        let began = Instant::now();
        self.pause(&mut http, "unpause")?;
        self.wait_for(before + builds as i64)?;
        Ok(builds as f64 / began.elapsed().as_secs_f64())
    }

    /// Milliseconds from sending a request to the command's own clock.
    pub fn latency(&mut self) -> Result<f64> {
        let mut http = self.http();
        let before = self.ended()?;
        let sent = now_us();
        self.force(&mut http, "date")?;
        self.wait_for(before + 1)?;
        let build = self.database.number("SELECT MAX(id) FROM builds")?;
        let (status, text) =
            http.call("GET", &format!("/api/v2/builds/{build}/steps/run/logs/stdio/raw"), None)?;
        ensure!(status == 200, "the peer's log: {status}");
        let text = String::from_utf8_lossy(&text);
        let clock =
            text.lines().find_map(|line| line.trim().parse::<i64>().ok().filter(|n| *n > 1_000_000_000_000));
        Ok((clock.context("the command printed no time")? / 1_000 - sent) as f64 / 1e3)
    }

    /// MB/s of one stream, from asking for the build to its end.
    pub fn log(&mut self) -> Result<f64> {
        let mut http = self.http();
        let before = self.ended()?;
        let bytes = std::fs::metadata(peer_lines(self.ground)?)?.len();
        let began = Instant::now();
        self.force(&mut http, "log")?;
        self.wait_for(before + 1)?;
        Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The first part of the lines: so much as it bears.
fn peer_lines(ground: &Ground) -> Result<PathBuf> {
    let file = ground.folder("peer")?.join("lines");
    if !file.exists() {
        let all = std::fs::read(ground.lines()?)?;
        let most = ground.size.of(200_000, 30_000_000, 60_000_000).min(all.len());
        let end = all[..most].iter().rposition(|b| *b == b'\n').map_or(most, |i| i + 1);
        std::fs::write(&file, &all[..end])?;
    }
    Ok(file)
}

pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// For whoever reads an answer of the peer that is a list.
pub fn list<'v>(answer: &'v Value, key: &str) -> &'v [Value] {
    answer[key].as_array().map_or(&[], Vec::as_slice)
}
