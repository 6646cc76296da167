//! TLS to servers that are not ours: a Vault, an object store. Version 1.3 by the one provider of cryptography that there is, and trust in those
//! whom the host trusts, or whom a file names.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
