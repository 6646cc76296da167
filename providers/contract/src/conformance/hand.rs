//! The master's part in a launch, by hand: link folder, join document, socket, call.

use super::{Bench, Joins, Of};
use crate::{LaunchItem, LaunchOutcome, LaunchSpec, Observed, ObservedState, Provider, Tag};
use rouse_model::worker::{LaunchToken, ProviderRef};
use rouse_model::{Timestamp, WorkerId};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How long a case waits for what must come about, before it counts as never.
const PATIENCE: Duration = Duration::from_secs(60);

/// One provider object, and what a master keeps beside it: sockets that nobody answers on.
pub struct Hand<'a> {
    pub bench: &'a dyn Bench,
    pub provider: Arc<dyn Provider>,
    pub spec: LaunchSpec,
    of: Of,
    sockets: std::sync::Mutex<HashMap<LaunchToken, UnixListener>>,
}

impl<'a> Hand<'a> {
    pub async fn new(bench: &'a dyn Bench, of: Of) -> Self {
        let spec = bench.spec().await;
        Self { bench, provider: bench.provider(of), spec, of, sockets: std::sync::Mutex::default() }
    }

    /// As after a crash of the master: nothing is known, the sockets are closed.
    pub fn restart(&mut self) {
        self.provider = self.bench.provider(self.of);
        self.sockets = std::sync::Mutex::default();
    }

    /// A fresh worker's tag.
    pub fn tag(&self, name: &str) -> Tag {
        static NEXT: AtomicI64 = AtomicI64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let installation = self.bench.installation(self.of);
        let store_epoch = if self.of == Of::Restored { 2 } else { 1 };
        Tag {
            token: LaunchToken(format!("{installation}-{store_epoch}-{number}-1")),
            installation,
            store_epoch,
            pool: "suite".into(),
            worker: WorkerId(number),
            name: format!("{name}-{number}"),
        }
    }

    /// Makes the link folder with what the master puts there.
    pub async fn prepare(&self, tag: &Tag, joins: Joins) -> LaunchItem {
        let join = self.bench.join_document(tag, joins);
        if let Some(folder) = self.provider.link_dir(tag).await.expect("a link folder") {
            write_document(&folder, &join);
            let path = folder.join("sock");
            if !self.sockets.lock().expect("not poisoned").contains_key(&tag.token) {
                // A former master's.
                let _ = std::fs::remove_file(&path);
            }
            match UnixListener::bind(&path) {
                Ok(socket) => {
                    let all = std::fs::Permissions::from_mode(0o666);
                    std::fs::set_permissions(&path, all).expect("the socket's mode");
                    self.sockets.lock().expect("not poisoned").insert(tag.token.clone(), socket);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                Err(error) => panic!("{} cannot be listened on: {error}", path.display()),
            }
        }
        LaunchItem {
            tag: tag.clone(),
            join,
            needs_network: false,
            offering: None,
            expires: Timestamp::from_secs(4_000_000_000),
        }
    }

    pub async fn launch(&self, item: &LaunchItem) -> LaunchOutcome {
        let mut outcomes = self.provider.launch(&self.spec, std::slice::from_ref(item)).await;
        assert_eq!(outcomes.len(), 1, "one outcome for each item");
        outcomes.remove(0)
    }

    /// Launches one that lives on.
    pub async fn launched(&self, tag: &Tag) -> ProviderRef {
        let item = self.prepare(tag, Joins::InVain).await;
        accepted(self.launch(&item).await)
    }

    /// Waits until its agent has come: through the link folder to the socket, where there is one.
    pub async fn wait_joined(&self, tag: &Tag) {
        let socket = {
            let sockets = self.sockets.lock().expect("not poisoned");
            sockets.get(&tag.token).map(|socket| socket.try_clone().expect("the socket"))
        };
        if let Some(socket) = &socket {
            socket.set_nonblocking(true).expect("the socket's mode");
        }
        until(&format!("the agent of {} joins", tag.name), async || {
            assert!(!self.is_dead(tag).await, "{} is dead", tag.name);
            match &socket {
                Some(socket) => socket.accept().is_ok(),
                None => self.bench.joined(tag).await,
            }
        })
        .await;
    }

    async fn is_dead(&self, tag: &Tag) -> bool {
        for seen in self.listed(tag).await {
            if let ObservedState::Ended { detail, .. } = &seen.state {
                let console = self.provider.console_tail(&seen.at, 1000).await;
                eprintln!("{detail}; {console:?}");
                return true;
            }
        }
        false
    }

    pub async fn listed(&self, tag: &Tag) -> Vec<Observed> {
        let all = self.provider.list().await.expect("a list");
        all.into_iter().filter(|o| o.tag.as_ref() == Some(tag)).collect()
    }

    pub async fn wait_running(&self, tag: &Tag, count: usize) {
        until(&format!("{count} instances of {} run", tag.name), async || {
            self.bench.running(tag).await == count
        })
        .await;
    }

    /// What an instance has printed, once these words are in it: it may be written down a moment after its end.
    pub async fn console_with(&self, at: &ProviderRef, words: &str) -> String {
        let mut console = String::new();
        until("its output is kept", async || {
            let tail = self.provider.console_tail(at, 10_000).await.expect("read");
            console = tail.unwrap_or_default();
            console.contains(words)
        })
        .await;
        console
    }

    /// Everything listed goes; then nothing is left, seen from outside.
    pub async fn clear(&self) {
        for seen in self.provider.list().await.expect("a list") {
            self.provider.terminate(&seen.at).await.expect("terminated");
        }
        assert_eq!(self.provider.list().await.expect("a list"), vec![], "still listed");
        assert_eq!(self.bench.leftovers().await, Vec::<String>::new(), "left over");
    }
}

pub(super) fn accepted(outcome: LaunchOutcome) -> ProviderRef {
    match outcome {
        LaunchOutcome::Accepted { at } => at,
        other => panic!("not accepted: {other:?}"),
    }
}

pub(super) fn is_there(observed: &Observed) -> bool {
    matches!(observed.state, ObservedState::Starting | ObservedState::Running)
}

/// Waits for a condition; where it never comes about the case has failed.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn write_document(folder: &Path, join: &[u8]) {
    let half = folder.join("join.new");
    std::fs::write(&half, join).expect("the join document");
    std::fs::set_permissions(&half, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    std::fs::rename(half, folder.join("join.json")).expect("its place");
}
