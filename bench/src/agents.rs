//! Many agents in one process: each has its own key, connection and worker, and does next to nothing.
//!
//! The master's local provider starts, as it would the agent, this program under the agent's name ([`stand_in`]). The stand-in hands its join document
//! to the simulator over a Unix socket and waits to be ended; the simulator joins in its place. A command is reported as started and, once the
//! simulator is told `go`, as finished.

mod link;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rouse_agent_protocol::JoinDocument;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use link::Link;

/// Names the simulator's socket in a stand-in's environment.
pub const SIMULATOR: &str = "BENCH_SIMULATOR";

/// What all simulated agents are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Commands may end.
    pub go: bool,
    /// Connections of an older generation are dropped and made anew.
    pub generation: u64,
}

/// What all simulated agents have in common.
#[derive(Default)]
struct Shared {
    attached: AtomicUsize,
    /// Trust in the one authority of the installation, made by the first that comes.
    tls: OnceLock<TlsConnector>,
}

/// `rouse-agent run --join FILE …`, as a provider starts it.
pub fn stand_in() -> ExitCode {
    match wait_in_place() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wait_in_place() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let place = arguments.iter().position(|a| a == "--join").context("no --join")?;
    let file = Path::new(arguments.get(place + 1).context("no join document")?);
    let mut text = std::fs::read_to_string(file)?;
    std::fs::remove_file(file)?;
    let folder = file.parent().context("the join document lies in a folder")?;
    text.retain(|c| c != '\n');
    let simulator = std::env::var(SIMULATOR).context("no simulator")?;
    let mut stream = std::os::unix::net::UnixStream::connect(simulator)?;
    writeln!(stream, "{}\t{text}", folder.display())?;
    // Until the simulator ends, or somebody ends us.
    let _ = stream.read(&mut [0; 1]);
    Ok(())
}

/// Runs agents until its input ends. Reads `go` and `reconnect`; prints `attached N` when so many as `expected` are attached.
pub fn simulate(socket: &Path, expected: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = runtime.block_on(async { UnixListener::bind(socket) })?;
    let (tell, told) = watch::channel(Told::default());
    let shared = Arc::new(Shared::default());
    let attached = &shared.attached;
    runtime.spawn(accept(listener, told, Arc::clone(&shared)));
    say(&format!("listening {}", socket.display()))?;
    wait_for(attached, expected, Duration::from_secs(900))?;
    for line in BufReader::new(std::io::stdin()).lines() {
        match line?.as_str() {
            "go" => tell.send_modify(|told| told.go = true),
            "reconnect" => {
                attached.store(0, Ordering::SeqCst);
                tell.send_modify(|told| told.generation += 1);
                wait_for(attached, expected, Duration::from_secs(120))?;
            }
            other => bail!("unknown: {other}"),
        }
    }
    Ok(())
}

fn wait_for(attached: &AtomicUsize, expected: usize, patience: Duration) -> Result<()> {
    let began = Instant::now();
    while attached.load(Ordering::SeqCst) < expected {
        if began.elapsed() > patience {
            say(&format!("attached {}", attached.load(Ordering::SeqCst)))?;
            bail!("only {} of {expected} are attached", attached.load(Ordering::SeqCst));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    say(&format!("attached {expected}"))
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

async fn accept(listener: UnixListener, told: watch::Receiver<Told>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (told, shared) = (told.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            if let Err(error) = one(stream, told, shared).await {
                eprintln!("an agent ended: {error:#}");
            }
        });
    }
}

/// One agent, for as long as its stand-in lives.
async fn one(stream: UnixStream, told: watch::Receiver<Told>, shared: Arc<Shared>) -> Result<()> {
    let mut reader = tokio::io::BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let (folder, document) = line.split_once('\t').context("no join document")?;
    let join: JoinDocument = serde_json::from_str(document)?;
    ensure!(!join.endpoints.is_empty(), "the join document names no endpoint");
    let mut link = Link::new(join, Path::new(folder))?;
    let mut end = [0; 1];
    tokio::select! {
        outcome = link.run(told, shared) => outcome,
        _ = reader.read(&mut end) => Ok(()),
    }
}
