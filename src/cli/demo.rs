//! `rouse demo`: the whole way from a push to a green build on a worker that did not exist, told on the terminal.
//!
//! A demo is an installation of its own: its folder holds the sample project, the configuration and the state of a master that runs within
//! this process. Whatever it makes carries that installation's tag, and is gone when it ends, however it ends.

mod image;
mod project;
mod story;

use crate::boot;
use anyhow::Context;
use clap::Args;
use project::Project;
use rouse_store::Location;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A build of the demo that takes longer never ends.
const BUILD: Duration = Duration::from_secs(300);
/// The same for a worker that is to go.
const GONE: Duration = Duration::from_secs(120);
/// How long taking everything away may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// `rouse demo`
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Keep the sample project and its configuration to go on from
    #[arg(long)]
    pub keep: bool,
    /// Where the demo lives
    #[arg(long, value_name = "DIR", default_value = "rouse-demo")]
    pub dir: PathBuf,
    /// Leave after the two builds
    #[arg(long)]
    pub once: bool,
    /// What makes the workers
    #[arg(long, value_enum, default_value = "auto")]
    pub provider: Choice,
    /// Where the demo's master listens; 0 takes a free port
    #[arg(long, default_value_t = 8010)]
    pub port: u16,
}

/// What makes the demo's workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// Docker where a daemon answers, else local processes
    Auto,
    Docker,
    Local,
}

/// What `--once -o json` prints.
#[derive(Debug, Clone, serde::Serialize)]
struct Summary {
    green: u32,
    red: u32,
    provider: &'static str,
    seconds_to_green: f64,
    left_over: usize,
}

/// Whether and how Docker can be used.
#[derive(Debug)]
struct Chosen {
    docker: Option<image::Docker>,
    why: String,
}

impl Chosen {
    fn name(&self) -> &'static str {
        if self.docker.is_some() { "docker" } else { "local" }
    }
}

/// Runs the demo; `json` asks for one summary object on stdout, and for the story on stderr.
///
/// # Errors
/// With the step that failed; what had been made is gone then, too.
pub async fn run(demo: Demo, json: bool) -> anyhow::Result<u8> {
    // Before anything is made: from here on whoever interrupts gets it taken away.
    let mut interrupts = Interrupts::listen()?;
    let folder = Folder::make(&demo.dir)?;
    let say = story::Teller::new(json);
    let mut docker = None;
    let ended = tokio::select! {
        biased;
        () = interrupts.next() => Ok(None),
        ended = tell(&demo, &folder, &say, &mut docker) => ended,
    };
    let ended = match ended {
        // A program that was being started may have been hit by the same Ctrl-C, and told of sooner.
        Err(_) if tokio::time::timeout(HEARD, interrupts.next()).await.is_ok() => Ok(None),
        ended => ended,
    };
    let left_over = folder.clear(demo.keep, docker.as_ref()).await;
    if let (Ok(Some(mut summary)), true) = (ended.as_ref().map(Clone::clone), json) {
        summary.left_over = left_over;
        let mut out = std::io::stdout();
        serde_json::to_writer(&mut out, &summary)?;
        writeln!(out)?;
    }
    match ended {
        Ok(Some(summary)) if summary.green == 1 && summary.red == 1 && left_over == 0 => Ok(0),
        Ok(Some(_)) => Ok(1),
        // To leave when all has been told is no interruption.
        Ok(None) => Ok(if say.is_done() { 0 } else { 130 }),
        Err(error) => Err(error),
    }
}

/// A signal to the whole group is heard by all of it within this.
const HEARD: std::time::Duration = std::time::Duration::from_millis(100);

/// Ctrl-C, a polite kill, a terminal that is closed.
struct Interrupts([tokio::signal::unix::Signal; 3]);

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

async fn tell(
    demo: &Demo,
    folder: &Folder,
    say: &story::Teller,
    docker: &mut Option<image::Docker>,
) -> anyhow::Result<Option<Summary>> {
    let project = Project::make(&folder.path.join("project")).await?;
    say.done("project", &format!("{} (a git repository, 3 files)", shown(&folder.path.join("project"))));
    let chosen = choose(demo.provider).await?;
    let image = match &chosen.docker {
        Some(found) => {
            *docker = Some(found.clone());
            Some(image::make(found).await?)
        }
        None => None,
    };
    let config = folder.path.join("rouse.yaml");
    std::fs::write(&config, project::config(&project.path, image.as_deref()))?;
    let stop = CancellationToken::new();
    let _stops_with_us = stop.clone().drop_guard();
    let options = boot::Options {
        config,
        state: folder.path.join("state"),
        database: Location::Sqlite(folder.path.join("state").join("rouse.db")),
        objects: None,
        listen: ([127, 0, 0, 1], demo.port).into(),
        agents: None,
        name: "demo".into(),
        log_bytes: crate::logs::Limits::default().log_bytes,
    };
    let options = if demo.port == 8010 && is_taken(options.listen) {
        boot::Options { listen: ([127, 0, 0, 1], 0).into(), ..options }
    } else {
        options
    };
    let running = boot::start(options, stop.clone()).await?;
    let (address, ctx) = (running.address, running.ctx.clone());
    folder.remember(running);
    say.done("master", &format!("http://{address}  (SQLite, log store: directory)"));
    say.done("provider", &format!("{} ({})", chosen.name(), chosen.why));
    tokio::select! {
        told = story(demo, &project, &ctx, say, chosen.name()) => told.map(Some),
        () = stop.cancelled() => anyhow::bail!("the demo's master has ended; what it said stands above"),
    }
}

async fn story(
    demo: &Demo,
    project: &Project,
    ctx: &Arc<crate::ctx::Ctx>,
    say: &story::Teller,
    provider: &'static str,
) -> anyhow::Result<Summary> {
    let mut story = story::Story::new(ctx, say);
    story.wait_for_first_look("project").await?;
    let pushed = Instant::now();
    story.pushed(&project.count_words().await?);
    let first = story.follow_one_build(Some(BUILD)).await?;
    let seconds_to_green = pushed.elapsed().as_secs_f64();
    story.worker_gone(Some(GONE)).await?;
    story.pushed(&project.break_counting().await?);
    let second = story.follow_one_build(Some(BUILD)).await?;
    story.worker_gone(Some(GONE)).await?;
    let mut summary = Summary { green: 0, red: 0, provider, seconds_to_green, left_over: 0 };
    for result in [first, second] {
        if result.is_good() {
            summary.green += 1;
        } else if result == rouse_model::BuildResult::Failure {
            summary.red += 1;
        }
    }
    if demo.once {
        return Ok(summary);
    }
    say.plain(&format!("nothing is running; Ctrl-C to leave, or push to {} and watch", shown(&project.path)));
    say.all_done();
    loop {
        story.follow_one_build(None).await?;
        story.worker_gone(None).await?;
    }
}

fn is_taken(address: std::net::SocketAddr) -> bool {
    std::net::TcpListener::bind(address).is_err()
}

async fn choose(choice: Choice) -> anyhow::Result<Chosen> {
    if choice == Choice::Local {
        return Ok(Chosen { docker: None, why: "as asked".into() });
    }
    match image::Docker::find().await {
        Ok(docker) => {
            let why = format!("Engine {} answers at {}", docker.version, docker.host);
            Ok(Chosen { docker: Some(docker), why })
        }
        Err(error) if choice == Choice::Docker => Err(error).context("use Docker"),
        Err(error) => Ok(Chosen { docker: None, why: format!("no Docker daemon answers: {error}") }),
    }
}

fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here)
        .map_or_else(|_| path.display().to_string(), |below| format!("./{}", below.display()))
}

/// The demo's folder, and what must be taken away with it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    master: std::sync::Mutex<Option<Master>>,
}

/// The demo's master, and what it has made.
#[derive(Debug)]
struct Master {
    leftovers: boot::Leftovers,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Folder {
    fn make(dir: &Path) -> anyhow::Result<Self> {
        match std::fs::create_dir(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => anyhow::bail!(
                "{} is there already; remove it, or choose another folder with --dir",
                dir.display()
            ),
            Err(error) => return Err(error).with_context(|| format!("make the folder {}", dir.display())),
        }
        Ok(Self { path: dir.canonicalize()?, master: std::sync::Mutex::default() })
    }

    /// Lets a master run, whom [`Self::clear`] ends.
    fn remember(&self, running: boot::Running) {
        let leftovers = running.leftovers();
        let ended = tokio::spawn(running.wait());
        *self.master.lock().expect("nothing panics while it is held") = Some(Master { leftovers, ended });
    }

    /// Ends every instance of the demo's installation, removes its image and its files. Answers how many things could not be removed.
    async fn clear(&self, keep: bool, docker: Option<&image::Docker>) -> usize {
        let master = self.master.lock().expect("nothing panics while it is held").take();
        let mut left = 0;
        if let Some(master) = master {
            left += master.leftovers.remove(PATIENCE).await;
            // Its files are its own until it has ended.
            if tokio::time::timeout(PATIENCE, master.ended).await.is_err() {
                eprintln!("the demo's master does not end");
                left += 1;
            }
        }
        if let Some(docker) = docker {
            left += docker.remove().await;
        }
        let (gone, what) =
            if keep { (self.path.join("state"), "its state") } else { (self.path.clone(), "its folder") };
        if let Err(error) = remove_folder(&gone).await {
            eprintln!("the demo could not remove {what} {}: {error}", gone.display());
            left += 1;
        }
        if keep {
            let config = project::kept_config(&self.path.join("project"));
            if let Err(error) = std::fs::write(self.path.join("rouse.yaml"), config) {
                eprintln!("the configuration could not be kept: {error}");
            }
        }
        left
    }
}

/// With all that is in it; what is still being written there delays it.
async fn remove_folder(folder: &Path) -> std::io::Result<()> {
    let mut tries = 0;
    loop {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && tries < 50 => {}
            ended => return ended,
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
