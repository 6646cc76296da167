//! `rouse-agent run`: put the parts together, attend the link, and leave nothing behind at the end.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rouse_agent_protocol::{Endpoint, JOIN_VERSION, JoinDocument, exit};
use rustix::process::{DumpableBehavior, getpid, set_child_subreaper, set_dumpable_behavior};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::duration;
use crate::facts;
use crate::host::{Host, Private};
use crate::link::{DeadMan, Identity, Link, LinkEnd};
use crate::process::kill_everything;
use crate::random;
use crate::runner::Runner;
use crate::spool::{Spool, SpoolFile};
use crate::state::Shared;

/// How long processes that do not die are waited for at the end.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub enum StartError {
    #[error("read the join document {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("the join document {path} is malformed: {source}")]
    Malformed { path: String, source: serde_json::Error },
    #[error("the join document is of version {0}, this agent reads {JOIN_VERSION}")]
    Version(u32),
    #[error("the join document names no endpoint")]
    NoEndpoint,
    #[error("make the work directory {path}: {source}")]
    WorkDir { path: String, source: io::Error },
    #[error("{step}: {source}")]
    System { step: &'static str, source: io::Error },
}

impl StartError {
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::System { .. } => exit::INTERNAL,
            _ => exit::USAGE,
        }
    }
}

fn system(step: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { step, source }
}

/// What the command line says.
#[derive(Debug)]
pub struct Flags<'a> {
    pub join: &'a Path,
    /// Instead of the join document's work directory, for whoever starts an agent and cannot know what the document says.
    pub work: Option<&'a Path>,
    pub state: Option<&'a Path>,
}

/// Run until the end; the exit code.
pub fn run(flags: &Flags<'_>) -> Result<i32, StartError> {
    // Before the token is read: nobody of our own user may look into us. And whatever our children leave behind comes to us.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| system("forbid dumps")(e.into()))?;
    set_child_subreaper(Some(getpid())).map_err(|e| system("become the subreaper")(e.into()))?;
    let join = read_join(flags.join)?;
    let work_dir = make_work_dir(flags.work.unwrap_or(Path::new(&join.work_dir)))?;
    let incarnation = hex::encode(random::bytes::<16>());
    let private = Private::find(flags.state, &work_dir, &incarnation[..8]);
    let spool = Spool::new(SpoolFile::new(private.nameless_file("spool").ok()));
    let shared = Arc::new(Shared::new(spool));
    let host = Host::new(join.worker.clone(), work_dir, private, join.endpoints.clone());
    let host = Arc::new(host.map_err(system("start a thread"))?);
    let mut link = Link {
        identity: Identity::new(&join, incarnation, facts::gather()),
        endpoints: join.endpoints,
        shared: shared.clone(),
        runner: Runner::new(host.clone(), shared),
        dead_man: Rc::new(DeadMan::new(duration(join.expiry_s))),
        seen: (join.store_epoch, 0),
        welcomed: false,
        away: Cell::new(false),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = runtime.map_err(system("start the event loop"))?.block_on(attend(&mut link));
    kill_everything(&host.reaper, LAST_PATIENCE);
    host.private.clear();
    code.map_err(system("handle signals"))
}

async fn attend(link: &mut Link) -> io::Result<i32> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let dead_man = link.dead_man.clone();
    let (message, code) = tokio::select! {
        end = link.run() => match end {
            LinkEnd::Ended { reason } => (format!("ended by the master: {reason}"), exit::ENDED),
            LinkEnd::Refused(refused) => {
                (format!("refused by the master ({:?}): {}", refused.code, refused.message), exit::REFUSED)
            }
            LinkEnd::Broken(why) => (why, exit::INTERNAL),
        },
        () = dead_man.struck() => ("no master was heard for too long".to_owned(), exit::EXPIRED),
        _ = terminate.recv() => ("ended by SIGTERM".to_owned(), exit::SIGNALLED),
        _ = interrupt.recv() => ("ended by SIGINT".to_owned(), exit::SIGNALLED),
    };
    eprintln!("rouse-agent: {message}");
    Ok(code)
}

/// The file goes as soon as it is read. On a read-only mount it can't: whoever put it there removes it on attach.
fn read_join(path: &Path) -> Result<JoinDocument, StartError> {
    let shown = || path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| StartError::Read { path: shown(), source })?;
    let _ = fs::remove_file(path);
    let mut join: JoinDocument =
        serde_json::from_str(&text).map_err(|source| StartError::Malformed { path: shown(), source })?;
    if join.version != JOIN_VERSION {
        return Err(StartError::Version(join.version));
    }
    if join.endpoints.is_empty() {
        return Err(StartError::NoEndpoint);
    }
    // A socket beside the document, wherever the two are seen from here.
    let folder = path.parent().unwrap_or(Path::new(""));
    for endpoint in &mut join.endpoints {
        if let Endpoint::Unix { path } = endpoint {
            *path = folder.join(&*path).to_string_lossy().into_owned();
        }
    }
    Ok(join)
}

fn make_work_dir(path: &Path) -> Result<PathBuf, StartError> {
    let made = fs::create_dir_all(path).and_then(|()| fs::canonicalize(path));
    made.map_err(|source| StartError::WorkDir { path: path.display().to_string(), source })
}
