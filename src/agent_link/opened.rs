//! Streams that this master opens to an agent that cannot come by itself, and what is served over them: the same as on the agent's own socket, within
//! TLS, as whoever else is in the worker may listen there, too.
//!
//! One stream waits for the agent; once it is taken, another is opened. It is opened anew every while, as it may lead nowhere any more.

use super::doors::{Door, Entry};
use super::guard::{Counted, Guard, Stranger};
use super::listener;
use super::tls::Certificate;
use crate::accounts::Account;
use crate::ctx::Ctx;
use rouse_contract::{Duplex, Streams};
use rouse_model::WorkerId;
use rouse_model::worker::ProviderRef;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// For opening one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one waits for the agent to take it.
const FRESH: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A stream that the agent has taken.
pub(super) type Opened = TlsStream<Box<dyn Duplex>>;

/// Whose agent it is, and how it is reached.
pub(super) struct To {
    pub worker: WorkerId,
    pub account: Account,
    pub at: ProviderRef,
    pub socket: String,
}

/// Opens streams and serves them until the token is cancelled.
pub(super) fn serve(
    ctx: &Arc<Ctx>,
    to: To,
    certificate: &Arc<Certificate>,
    stop: &CancellationToken,
    guard: Arc<Guard>,
) {
    let (taken, ready) = mpsc::channel(1);
    let worker = to.worker;
    let (stopped, certificate) = (stop.clone(), Arc::clone(certificate));
    crate::supervisor::spawn("agent-streams", async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = keep_one_open(&to, &certificate, taken) => {}
        }
    });
    let door =
        Door { ctx: Arc::clone(ctx), worker, stop: stop.clone(), dir: None, guard: Arc::clone(&guard) };
    let app = listener::router(Entry::One(door)).into_make_service_with_connect_info::<Stranger>();
    let inner = Counted { inner: Ready(ready), guard, ctx: Arc::clone(ctx) };
    let served = stop.clone();
    crate::supervisor::spawn("agent-streams-server", async move {
        let serving = axum::serve(inner, app).with_graceful_shutdown(served.clone().cancelled_owned());
        if let Err(error) = serving.await {
            tracing::warn!(%error, %worker, "what is served over an agent's streams failed");
        }
        served.cancel();
    });
}

async fn keep_one_open(to: &To, certificate: &Certificate, taken: mpsc::Sender<Opened>) {
    let Some(streams) = to.account.provider.streams() else { return };
    let mut pause = FIRST_PAUSE;
    loop {
        match next(streams, to, certificate).await {
            Ok(Some(stream)) => {
                pause = FIRST_PAUSE;
                if taken.send(stream).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(worker = %to.worker, error, "no stream to an agent");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A stream that the agent has taken; `None` where it has not in a while.
async fn next(streams: &dyn Streams, to: &To, certificate: &Certificate) -> Result<Option<Opened>, String> {
    let config = certificate.config().ok_or("there is no certificate yet")?;
    let opened = tokio::time::timeout(PATIENCE, streams.open(&to.at, &to.socket)).await;
    let stream = opened
        .map_err(|_| "the host did not answer in time".to_owned())?
        .map_err(|error| crate::supervisor::chain(&error))?;
    match tokio::time::timeout(FRESH, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Ok(Some(stream)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Ok(None),
    }
}

/// Streams as they are taken, as a listener.
pub(super) struct Ready(mpsc::Receiver<Opened>);

impl axum::serve::Listener for Ready {
    type Io = Opened;
    type Addr = ();

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(())
    }
}
