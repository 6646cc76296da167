//! What a listener serves, the link itself and the files beside it; and one worker's own listener, a Unix socket.

use super::doors::{Door, Entry};
use super::guard::{Counted, Guard, Stranger};
use super::{files, machines, session};
use crate::ctx::Ctx;
use axum::Router;
use axum::extract::{ConnectInfo, State, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use rouse_agent_protocol::{LINK_PATH, MAX_CONTROL_BYTES};
use rouse_model::WorkerId;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// A listener that serves until its token is cancelled.
#[derive(Debug)]
pub(super) struct Listener {
    pub stop: CancellationToken,
    /// None where the agent does not come to it by itself.
    socket: Option<Socket>,
}

impl Listener {
    /// Whether agents still find it: another master, or one that was and does not know it yet, may have put its own in this place.
    pub(super) fn is_found(&self) -> bool {
        !self.stop.is_cancelled() && self.socket.as_ref().is_none_or(Socket::is_there)
    }

    pub(super) fn of_streams(stop: CancellationToken) -> Self {
        Self { stop, socket: None }
    }
}

/// A socket's file: which one at that path is ours.
#[derive(Debug, Clone)]
struct Socket {
    path: PathBuf,
    id: (u64, u64),
}

impl Socket {
    fn of(path: PathBuf) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(&path)?;
        Ok(Self { path, id: (found.dev(), found.ino()) })
    }

    fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.id)
    }
}

/// Binds the socket and serves it until the token is cancelled.
pub(super) fn open(
    ctx: &Arc<Ctx>,
    worker: WorkerId,
    dir: &Path,
    stop: CancellationToken,
    guard: Arc<Guard>,
) -> io::Result<Listener> {
    if !dir.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", dir.display())));
    }
    let path = dir.join("sock");
    // A socket that another process has left; ours are closed before they are bound again.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Who may come here is decided by the folder; who he is, by his token and key.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    let socket = Socket::of(path)?;
    let ours = socket.clone();
    let inner = Counted { inner: listener, guard: Arc::clone(&guard), ctx: Arc::clone(ctx) };
    let door = Door { ctx: Arc::clone(ctx), worker, stop: stop.clone(), dir: Some(Arc::from(dir)), guard };
    let app = router(Entry::One(door)).into_make_service_with_connect_info::<Stranger>();
    let served = stop.clone();
    crate::supervisor::spawn("agent-listener", async move {
        let serving = axum::serve(inner, app).with_graceful_shutdown(served.clone().cancelled_owned());
        if let Err(error) = serving.await {
            tracing::warn!(%error, %worker, "an agent's listener failed");
        }
        served.cancel();
        // The folder may be gone with the worker, and the worker to another master.
        if ours.is_there() {
            let _ = std::fs::remove_file(&ours.path);
        }
    });
    Ok(Listener { stop, socket: Some(socket) })
}

pub(super) fn router(entry: Entry) -> Router {
    Router::new()
        .route(LINK_PATH, get(upgrade))
        .route(rouse_provider_enrolled::wire::PATH, get(machines::upgrade))
        .route("/files/{worker}/{*path}", get(files::get).head(files::head).put(files::put).post(files::post))
        .with_state(entry)
}

async fn upgrade(
    State(entry): State<Entry>,
    ConnectInfo(stranger): ConnectInfo<Stranger>,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Of those that come by one listener there may be thousands, most of them idle. What the first long message, the hello, makes of the room to
    // read in stays: it doubles where it does not suffice.
    let (read, write) = match &entry {
        Entry::One(_) => (4096, 4096),
        Entry::Any { .. } => (512, 1024),
    };
    upgrade
        .read_buffer_size(read)
        .write_buffer_size(write)
        .max_message_size(MAX_CONTROL_BYTES)
        .max_frame_size(MAX_CONTROL_BYTES)
        .on_upgrade(move |socket| session::serve(entry, socket, stranger))
}
