//! TLS to a master's listener: version 1.3 alone, and no trust in anybody but the authority that the join document brings.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{
    CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms, ring,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::{Io, Stream};
use super::{opened, resolve};
use crate::random;

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("it is not HOST:PORT")]
    Address,
    #[error("the join document's certificate authority cannot be read: {0}")]
    Authority(String),
    #[error("look up {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("{0}")]
    Tcp(#[source] io::Error),
    #[error("{0}")]
    Tls(#[source] io::Error),
    #[error(
        "its certificate is not of this installation's authority ({0}): another master, or somebody in between"
    )]
    Stranger(rustls::Error),
    #[error("its certificate is for other names or addresses than this one ({0})")]
    OtherName(rustls::Error),
    #[error("its certificate is not valid at this moment, by this machine's clock ({0})")]
    Time(rustls::Error),
}

pub async fn connect(address: &str, ca: &str) -> Result<TlsStream<Stream>, TlsError> {
    let (host, port) = address.rsplit_once(':').ok_or(TlsError::Address)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port: u16 = port.parse().map_err(|_| TlsError::Address)?;
    let (name, connector) = (name_of(host)?, connector(ca)?);
    let stream = dial(host, port).await?;
    // Heartbeats and commands are small, and wait for nothing.
    let _ = stream.set_nodelay(true);
    connector.connect(name, boxed(stream)).await.map_err(explain)
}

/// The next stream that the master opens. One that comes from somebody else, or has ended while it waited here, is passed over.
pub async fn accept(socket: &str, name: &str, ca: &str) -> Result<TlsStream<Stream>, TlsError> {
    let (name, connector) = (name_of(name)?, connector(ca)?);
    loop {
        let stream = opened::accept(socket).await.map_err(TlsError::Tcp)?;
        if let Ok(stream) = connector.connect(name.clone(), boxed(stream)).await {
            return Ok(stream);
        }
    }
}

/// Of one type, so that there is one TLS in the agent.
fn boxed(stream: impl Io + 'static) -> Stream {
    Box::new(stream)
}

fn name_of(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Address)
}

fn connector(ca: &str) -> Result<TlsConnector, TlsError> {
    let config = config(ca).map_err(|error| TlsError::Authority(error.to_string()))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The first of the host's addresses that answers.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, TlsError> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolve::addresses(host)
            .await
            .map_err(|source| TlsError::Resolve { host: host.to_owned(), source })?,
    };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(TlsError::Tcp(last))
}

fn config(ca: &str) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".into());
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Connections last; a ticket would be kept for nothing.
    config.resumption = Resumption::disabled();
    Ok(config)
}

static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ED25519],
    mapping: &[(SignatureScheme::ED25519, &[webpki::ring::ED25519])],
};

/// One of each kind, as masters have them all: what is not named here is not linked in, and the agent stays small.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        signature_verification_algorithms: ALGORITHMS,
        secure_random: &Kernel,
        key_provider: &Kernel,
    }
}

/// Randomness for TLS; there are no keys of ours in it.
#[derive(Debug)]
struct Kernel;

impl SecureRandom for Kernel {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        for part in bytes.chunks_mut(32) {
            part.copy_from_slice(&random::bytes::<32>()[..part.len()]);
        }
        Ok(())
    }
}

impl KeyProvider for Kernel {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("an agent shows no certificate".into()))
    }
}

/// What went wrong, in words that say where to look.
fn explain(error: io::Error) -> TlsError {
    use rustls::CertificateError as Why;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else { return TlsError::Tls(error) };
    let whole = rustls::Error::InvalidCertificate(why.clone());
    match why {
        Why::NotValidForName | Why::NotValidForNameContext { .. } => TlsError::OtherName(whole),
        Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. } => {
            TlsError::Time(whole)
        }
        _ => TlsError::Stranger(whole),
    }
}
