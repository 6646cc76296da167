//! TLS to servers that are not ours: a Vault, an object store, a collector. Version 1.3 by the one provider of cryptography that there is, and trust in those
//! whom the host trusts, or whom a file names.

use futures::future::BoxFuture;
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For a connection, with TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the authorities stand that the host trusts.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why nobody can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the authorities in {path} cannot be used: {why}")]
pub struct AuthoritiesError {
    pub path: PathBuf,
    pub why: String,
}

/// How connections are made, by the authorities of a file or, without one, of the host.
///
/// # Errors
/// Where there is no certificate to be had.
pub fn client(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, AuthoritiesError> {
    let usual = || BUNDLES.iter().map(Path::new).find(|path| path.exists());
    let path = ca_file.or_else(usual).unwrap_or(Path::new(BUNDLES[0]));
    let refused = |why: String| AuthoritiesError { path: path.to_owned(), why };
    let mut roots = rustls::RootCertStore::empty();
    let all = CertificateDer::pem_file_iter(path).map_err(|e| refused(e.to_string()))?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(|e| refused(e.to_string()))?;
    // Of a host's many some are always too old for somebody.
    if roots.add_parsable_certificates(all).0 == 0 {
        return Err(refused("there is no certificate in it".into()));
    }
    Ok(trusting(roots))
}

/// How connections are made to whom one authority alone vouches for, given as PEM.
///
/// # Errors
/// Where there is no certificate in it.
pub fn only(authority: &str) -> Result<rustls::ClientConfig, AuthoritiesError> {
    let refused = |why: String| AuthoritiesError { path: "the enrolment document".into(), why };
    let mut roots = rustls::RootCertStore::empty();
    for found in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        let found = found.map_err(|e| refused(e.to_string()))?;
        roots.add(found).map_err(|e| refused(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("there is no certificate in it".into()));
    }
    Ok(trusting(roots))
}

/// For where no TLS is meant to be spoken: nobody is trusted.
#[must_use]
pub fn nobody() -> rustls::ClientConfig {
    trusting(rustls::RootCertStore::empty())
}

fn trusting(roots: rustls::RootCertStore) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.3 needs")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Makes connections for a client of HTTP, in the clear or by TLS, as the address says.
#[derive(Debug, Clone)]
pub struct Dial {
    tls: Arc<rustls::ClientConfig>,
}

impl Dial {
    #[must_use]
    pub fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { tls }
    }
}

/// A connection, in the clear or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let tls = Arc::clone(&self.tls);
        Box::pin(async move {
            let late = |_| {
                io::Error::new(ErrorKind::TimedOut, format!("no connection within {} s", CONNECT.as_secs()))
            };
            timeout(CONNECT, dial(to, tls)).await.map_err(late)?.map(TokioIo::new)
        })
    }
}

async fn dial(to: Uri, tls: Arc<rustls::ClientConfig>) -> io::Result<Box<dyn Stream>> {
    let is_tls = to.scheme_str() == Some("https");
    let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = to.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    // Requests are written whole.
    let _ = stream.set_nodelay(true);
    if !is_tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    Ok(Box::new(TlsConnector::from(tls).connect(name, stream).await?))
}

#[cfg(test)]
pub(crate) mod tests {
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use std::sync::Arc;
    use tokio_rustls::TlsAcceptor;

    /// An authority's certificate, and a server that has one of its own for 127.0.0.1.
    pub(crate) fn server() -> (String, TlsAcceptor) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
                )
                .unwrap();
        (pem, TlsAcceptor::from(Arc::new(config)))
    }
}
