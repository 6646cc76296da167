//! Tells at once when an agent's process ends. Hints only: what is not watched is found by the next list.

use crate::processes::{self, Ident};
use crate::record::Reference;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rouse_contract::Hint;
use rouse_model::worker::ProviderRef;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::HashSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Processes to watch, and those being watched. As many as there are workers.
#[derive(Default)]
pub(crate) struct Exits {
    wanted: Mutex<Wanted>,
    more: Notify,
    watched: tokio::sync::Mutex<FuturesUnordered<BoxFuture<'static, (Ident, ProviderRef)>>>,
}

#[derive(Default)]
struct Wanted {
    known: HashSet<Ident>,
    new: Vec<(Ident, ProviderRef)>,
}

impl fmt::Debug for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exits")
    }
}

impl Exits {
    /// Watches the process of a reference, once.
    pub(crate) fn watch(&self, at: &ProviderRef) {
        let Some(Reference { process: Some(process), .. }) = Reference::parse(&at.0) else { return };
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.known.insert(process.clone()) {
            wanted.new.push((process, at.clone()));
            self.more.notify_one();
        }
    }

    /// The next end of a watched process. May be cancelled: what is watched stays watched.
    pub(crate) async fn next(&self) -> Hint {
        let mut watched = self.watched.lock().await;
        loop {
            for (process, at) in self.take_new() {
                watched.push(Box::pin(ended(process, at)));
            }
            let ended = tokio::select! {
                () = self.more.notified() => None,
                ended = watched.next(), if !watched.is_empty() => ended,
            };
            if let Some((process, at)) = ended {
                let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
                wanted.known.remove(&process);
                return Hint::Instance(at);
            }
        }
    }

    fn take_new(&self) -> Vec<(Ident, ProviderRef)> {
        std::mem::take(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner).new)
    }
}

/// Comes back when the process has ended. Where the kernel cannot tell, never: the list will.
async fn ended(process: Ident, at: ProviderRef) -> (Ident, ProviderRef) {
    let handle = Pid::from_raw(process.pid).map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
    // Looked at after the handle was taken: what the handle holds is what was looked at.
    if processes::living(&process).is_none() {
        return (process, at);
    }
    let watch = match handle {
        Some(Ok(handle)) => readable_when_ended(handle),
        _ => None,
    };
    match watch {
        Some(watch) if watch.readable().await.is_ok() => (process, at),
        _ => std::future::pending().await,
    }
}

#[allow(unsafe_code)]
fn readable_when_ended(handle: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps its descriptor valid and the same until it is dropped, which `AsyncFd` does when it goes itself.
    unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE).ok() }
}
