//! The listener for agents of other hosts: TLS 1.3 with a certificate of the installation's own authority, and behind it the same as on a
//! worker's socket. Which worker it is says the agent, and proves it.

use super::doors::Entry;
use super::guard::{Held, Stranger};
use super::listener;
use crate::authority::{Authority, AuthorityError};
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use rouse_agent_protocol::MAX_STRANGERS;
use rouse_model::Timestamp;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::NoServerSessionStorage;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long a connection may take to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections that wait for their turn. The kernel lets fewer wait, and has those beyond try again a second later and more.
const WAITING: usize = 16_384;
/// After an `accept` that failed, for want of file descriptors for instance.
const BREATH: Duration = Duration::from_millis(100);

/// Why the listener has no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("take the certificate of the agents' listener into use")]
    Use(#[from] rustls::Error),
}

/// What the listener shows, changed while it listens.
#[derive(Debug, Default)]
pub(super) struct Certificate {
    shown: Mutex<Option<Shown>>,
}

#[derive(Debug)]
struct Shown {
    names: BTreeSet<String>,
    renew: Timestamp,
    config: Arc<rustls::ServerConfig>,
}

impl Certificate {
    /// Makes a new one where there is none yet, its time is near, or it is for other names. Connections that are there stay.
    pub(super) fn keep(
        &self,
        authority: &Authority,
        names: BTreeSet<String>,
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        let mut shown = self.shown.lock().expect("nothing panics while it is held");
        if names.is_empty() || shown.as_ref().is_some_and(|shown| shown.names == names && now < shown.renew) {
            return Ok(());
        }
        let issued = authority.certify(&names, now)?;
        let config = Arc::new(server_config(issued.certificate, issued.key)?);
        tracing::info!(?names, "the agents' listener has a new certificate");
        *shown = Some(Shown { names, renew: issued.renew, config });
        Ok(())
    }

    pub(super) fn config(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.shown
            .lock()
            .expect("nothing panics while it is held")
            .as_ref()
            .map(|shown| Arc::clone(&shown.config))
    }
}

fn server_config(certificate: Vec<u8>, key: Vec<u8>) -> Result<rustls::ServerConfig, rustls::Error> {
    let provider = CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ],
        ..ring::default_provider()
    };
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], PrivatePkcs8KeyDer::from(key).into())?;
    // Connections last: what would shorten the next handshake is memory for nothing.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Serves a bound listener until told to stop.
pub(super) fn serve(
    entry: Entry,
    listener: TcpListener,
    certificate: Arc<Certificate>,
    stop: CancellationToken,
) {
    let (shaken, ready) = mpsc::channel(MAX_STRANGERS);
    let address = listener.local_addr();
    let stopped = stop.clone();
    crate::supervisor::spawn("agents-listener", async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = shake_hands(accepted(listener), certificate, shaken) => {}
        }
    });
    let app = listener::router(entry).into_make_service_with_connect_info::<Stranger>();
    let Ok(address) = address else { return };
    crate::supervisor::spawn("agents-server", async move {
        let serving =
            axum::serve(Shaken { ready, address }, app).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::warn!(%error, "the agents' listener failed");
        }
    });
}

/// A connection, whence it comes, and its turn, which it has until it is known whose it is.
type Accepted = (TlsStream<TcpStream>, SocketAddr, OwnedSemaphorePermit);

/// Connections as they come, as long as somebody takes them.
fn accepted(listener: TcpListener) -> mpsc::Receiver<(TcpStream, SocketAddr)> {
    let (line, waiting) = mpsc::channel(WAITING);
    crate::supervisor::spawn("agents-door", async move {
        while let Ok(place) = line.reserve().await {
            tokio::select! {
                () = line.closed() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => place.send(accepted),
                    Err(error) => {
                        tracing::warn!(%error, "an agent's connection could not be accepted");
                        tokio::time::sleep(BREATH).await;
                    }
                }
            }
        }
    });
    waiting
}

async fn shake_hands(
    mut waiting: mpsc::Receiver<(TcpStream, SocketAddr)>,
    certificate: Arc<Certificate>,
    shaken: mpsc::Sender<Accepted>,
) {
    let turns = Arc::new(Semaphore::new(MAX_STRANGERS));
    while let Some((stream, peer)) = waiting.recv().await {
        let turn = Arc::clone(&turns).acquire_owned().await.expect("it is never closed");
        let Some(config) = certificate.config() else {
            tracing::debug!(%peer, "a connection of an agent, and no pool is advertised to any");
            continue;
        };
        let shaken = shaken.clone();
        tokio::spawn(async move {
            // Heartbeats and commands are small, and wait for nothing.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await {
                // Where nobody takes it any more, the listener is closing.
                Ok(Ok(stream)) => drop(shaken.send((stream, peer, turn)).await),
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "an agent's connection did not become a TLS one")
                }
                Err(_) => tracing::debug!(%peer, "an agent's connection was silent"),
            }
        });
    }
}

/// Connections that are encrypted already, as a listener: a slow hand to shake holds up nobody else.
struct Shaken {
    ready: mpsc::Receiver<Accepted>,
    address: SocketAddr,
}

impl axum::serve::Listener for Shaken {
    type Io = Held<TlsStream<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some((stream, peer, turn)) => (Held::new(stream, Stranger::of_many(turn)), peer),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}

impl Connected<IncomingStream<'_, Shaken>> for Stranger {
    fn connect_info(stream: IncomingStream<'_, Shaken>) -> Self {
        stream.io().stranger()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_anew_for_other_names_and_before_its_end() {
        let authority = Authority::derive([7; 32], "i").unwrap();
        let certificate = Certificate::default();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let now = Timestamp(1_795_391_368_000_000);
        certificate.keep(&authority, names(&[]), now).unwrap();
        assert!(certificate.config().is_none());
        let mut last: Option<Arc<rustls::ServerConfig>> = None;
        let day = Duration::from_secs(24 * 3600);
        for (told, at, changed) in [
            (names(&["10.0.0.1"]), now, true),
            (names(&["10.0.0.1"]), now + day, false),
            (names(&["10.0.0.1", "ci.example.org"]), now + day, true),
            (names(&["10.0.0.1", "ci.example.org"]), now + 20 * day, false),
            (names(&["10.0.0.1", "ci.example.org"]), now + 21 * day, true),
        ] {
            certificate.keep(&authority, told.clone(), at).unwrap();
            let shown = certificate.config().unwrap();
            let same = last.is_some_and(|last| Arc::ptr_eq(&last, &shown));
            assert_eq!(same, !changed, "{told:?}");
            last = Some(shown);
        }
    }
}
