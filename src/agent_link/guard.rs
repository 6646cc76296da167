//! What listeners for agents bear, and where it is said what was refused. Whoever is inside a worker can reach them, and by TLS anybody:
//! connections are counted, who says nothing of use is sent away, handshakes have a pace, and each kind of refusal stands in the worker's
//! timeline and in the master's log, more rarely the more there are.

use super::opened::Ready;
use crate::ctx::Ctx;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rouse_agent_protocol::{MAX_CONNECTIONS, MAX_STRANGER_SECONDS};
use rouse_model::WorkerId;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Handshakes that may follow each other at once, and how often one may come after that. An agent of ours waits longer by itself.
const BURST: u32 = 20;
const STEP: Duration = Duration::from_millis(500);

/// How far ahead turns are given out: nobody waits longer than this without the burst, and an agent of ours is more patient than that.
const LONGEST: Duration = Duration::from_secs(20);

/// How long a connection may be a stranger's.
const STRANGE: Duration = Duration::from_secs(MAX_STRANGER_SECONDS);

/// One for each worker, whichever way its connections come; clones of the door share it.
#[derive(Debug)]
pub(super) struct Guard {
    /// None for those who are nobody's agent.
    worker: Option<WorkerId>,
    refusals: Mutex<HashMap<&'static str, u64>>,
    connections: Arc<Semaphore>,
    /// When the next handshake would be due, had all of them come at their pace.
    due: Mutex<Instant>,
}

impl Guard {
    pub(super) fn new(worker: Option<WorkerId>) -> Self {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { worker, refusals: Mutex::default(), connections, due: Mutex::new(Instant::now()) }
    }

    /// Waits for a handshake's turn.
    pub(super) async fn turn(&self) {
        let turn = {
            let mut due = self.due.lock().expect("nothing panics while it is held");
            let now = Instant::now();
            // Whoever has caused a long queue is not what the worker's own agent waits for in the end.
            *due = ((*due).max(now) + STEP).min(now + LONGEST);
            *due - STEP * BURST
        };
        tokio::time::sleep_until(turn).await;
    }

    /// Says that something was refused: the first time, the second, the fourth, and so on. `code` is one of a few words.
    pub(super) async fn refused(&self, ctx: &Ctx, code: &'static str, message: &str) {
        let times = {
            let mut refusals = self.refusals.lock().expect("nothing panics while it is held");
            let times = refusals.entry(code).or_default();
            *times += 1;
            *times
        };
        if !times.is_power_of_two() {
            return;
        }
        let Some(worker) = self.worker else {
            tracing::warn!(code, times, message, "refused on the agents' listener");
            return;
        };
        tracing::warn!(%worker, code, times, message, "refused on an agent's connection");
        let message = match times {
            1 => format!("{code}: {message}"),
            _ => format!("{code}: {message} ({times} times so far)"),
        };
        if let Err(error) = crate::workers::alarm(ctx, worker, message).await {
            tracing::warn!(%error, %worker, "a refusal could not be recorded");
        }
    }
}

/// A listener with so many connections at a time; one more is closed at once, and said.
pub(super) struct Counted<L> {
    pub inner: L,
    pub guard: Arc<Guard>,
    pub ctx: Arc<Ctx>,
}

impl<L: Listener> Listener for Counted<L>
where
    L::Io: AsyncRead + AsyncWrite,
{
    type Io = Held<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (io, address) = self.inner.accept().await;
            if let Ok(permit) = Arc::clone(&self.guard.connections).try_acquire_owned() {
                return (Held::new(io, Stranger::at_its_door(permit)), address);
            }
            drop(io);
            let why = format!("more than {MAX_CONNECTIONS} connections at a time");
            self.guard.refused(&self.ctx, "connections", &why).await;
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// Whose a connection is, which it has to show soon. What it is counted by is held as long as it lives.
#[derive(Debug, Clone)]
pub(super) struct Stranger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The place of one who has shown nothing yet.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
    /// The place of a worker's connection.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    known: OnceLock<()>,
}

impl Stranger {
    /// On a worker's own socket: it is counted there.
    fn at_its_door(place: OwnedSemaphorePermit) -> Self {
        Self::with(None, Some(place))
    }

    /// On the listener for many: it is counted among the strangers.
    pub(super) fn of_many(turn: OwnedSemaphorePermit) -> Self {
        Self::with(Some(turn), None)
    }

    fn with(turn: Option<OwnedSemaphorePermit>, place: Option<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new(Inner { turn: Mutex::new(turn), place: Mutex::new(place), known: OnceLock::new() }))
    }

    /// It has shown that it is this worker's, and is counted there from now on; not where that has too many.
    pub(super) fn is_of(&self, guard: &Guard) -> bool {
        let mut place = self.0.place.lock().expect("nothing panics while it is held");
        if place.is_none() {
            *place = Arc::clone(&guard.connections).try_acquire_owned().ok();
        }
        if place.is_some() {
            let _ = self.0.known.set(());
            drop(self.0.turn.lock().expect("nothing panics while it is held").take());
        }
        place.is_some()
    }

    fn is_known(&self) -> bool {
        self.0.known.get().is_some()
    }
}

impl Connected<IncomingStream<'_, Counted<UnixListener>>> for Stranger {
    fn connect_info(stream: IncomingStream<'_, Counted<UnixListener>>) -> Self {
        stream.io().stranger()
    }
}

impl Connected<IncomingStream<'_, Counted<Ready>>> for Stranger {
    fn connect_info(stream: IncomingStream<'_, Counted<Ready>>) -> Self {
        stream.io().stranger()
    }
}

/// A connection that is counted for as long as it lives, and ends where it is a stranger's for too long.
pub(super) struct Held<T> {
    io: T,
    stranger: Stranger,
    patience: Option<Pin<Box<Sleep>>>,
}

impl<T> Held<T> {
    pub(super) fn new(io: T, stranger: Stranger) -> Self {
        Self { io, stranger, patience: Some(Box::pin(tokio::time::sleep(STRANGE))) }
    }

    /// Whose it is.
    pub(super) fn stranger(&self) -> Stranger {
        self.stranger.clone()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Held<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stranger.is_known() {
            self.patience = None;
        } else if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Held<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn handshakes_have_a_pace() {
        let guard = Guard::new(Some(WorkerId(1)));
        let began = Instant::now();
        for _ in 0..BURST {
            guard.turn().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..4 {
            guard.turn().await;
        }
        assert_eq!(began.elapsed(), STEP * 4);
        for _ in 0..1_000 {
            let _ = guard.turn().now_or_never();
        }
        guard.turn().await;
        assert!(began.elapsed() < LONGEST);
        tokio::time::sleep(LONGEST).await;
        let later = Instant::now();
        guard.turn().await;
        assert_eq!(later.elapsed(), Duration::ZERO);
    }
}
