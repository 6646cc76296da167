//! Values that a Vault keeps (HashiCorp's, or OpenBao), in an engine of key and value, version 2: one request for each, with the token that
//! stands in a file. Whoever does not answer is away, and that is nobody's failure.

use super::file;
use crate::config::{VaultConfig, VaultPlace};
use axum::body::Body;
use hyper::header::HOST;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[cfg(test)]
mod tests;

/// A build waits no longer for one value.
const PATIENCE: Duration = Duration::from_secs(10);
/// More is no answer of a Vault about a secret.
const MAX_ANSWER: usize = 1024 * 1024;
/// Of what a server says of its trouble so much is repeated.
const MAX_SAID: usize = 200;
/// Why a Vault gave no value. Never says the value or the token.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("it does not answer: {0}")]
    Away(String),
    #[error("the token in {path} cannot be had")]
    Token {
        path: PathBuf,
        #[source]
        source: file::FileError,
    },
    #[error(
        "the token in {path} may not read it, or is no longer valid{said}; its policy needs `path \"{policy}\" {{ capabilities = [\"read\"] }}`"
    )]
    Denied { path: PathBuf, policy: String, said: String },
    #[error(
        "there is nothing, or its newest version is deleted; see: vault kv metadata get -mount={mount} {at}"
    )]
    Missing { mount: String, at: String },
    #[error("it has no field `{field}` that is text; see: vault kv get -mount={mount} {at}")]
    NoField { field: String, mount: String, at: String },
    #[error(
        "the authorities in {path} cannot be used ({why}); give the Vault's own as `server.vault.ca_file`"
    )]
    Authorities { path: PathBuf, why: String },
    #[error("its certificate is refused ({0}); give the authority that issued it as `server.vault.ca_file`")]
    Certificate(String),
    #[error("it answered {status}{said}")]
    Refused { status: u16, said: String },
    #[error("what it answered is no answer of a Vault (key and value, version 2)")]
    NoAnswer,
}

impl VaultError {
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

/// One field of what the Vault has there now.
pub(super) async fn read(vault: &VaultConfig, place: &VaultPlace) -> Result<String, VaultError> {
    let token = file::read(&vault.token_file)
        .map_err(|source| VaultError::Token { path: vault.token_file.clone(), source })?;
    let token = token.trim();
    let asked = tokio::time::timeout(PATIENCE, ask(vault, place, token)).await;
    let late = |_| VaultError::Away(format!("nothing within {} s", PATIENCE.as_secs()));
    let (status, body) = asked.map_err(late)??;
    let said = || said(&body, token);
    let (mount, at) = (place.mount.clone(), place.path.clone());
    match status {
        StatusCode::OK => value(&body, place),
        StatusCode::FORBIDDEN => {
            let policy = api_path(place);
            Err(VaultError::Denied { path: vault.token_file.clone(), policy, said: said() })
        }
        StatusCode::NOT_FOUND => Err(VaultError::Missing { mount, at }),
        // Too many requests, not yet as new as it must be, sealed, a standby that passes nothing on.
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PRECONDITION_FAILED => {
            Err(VaultError::Away(format!("{}{}", status.as_u16(), said())))
        }
        _ if status.is_server_error() || status.is_redirection() => {
            Err(VaultError::Away(format!("{}{}", status.as_u16(), said())))
        }
        _ => Err(VaultError::Refused { status: status.as_u16(), said: said() }),
    }
}

/// Where the secret stands in the HTTP API, and in policies.
fn api_path(place: &VaultPlace) -> String {
    format!("{}/data/{}", place.mount, place.path)
}

async fn ask(
    vault: &VaultConfig,
    place: &VaultPlace,
    token: &str,
) -> Result<(StatusCode, Vec<u8>), VaultError> {
    let address =
        format!("{}/v1/{}", vault.address.as_str().trim_end_matches('/'), escaped(&api_path(place)));
    let refused = |why: String| VaultError::Refused { status: 0, said: format!(": {why}") };
    let uri: Uri = address.parse().map_err(|e| refused(format!("{address}: {e}")))?;
    let host = uri.host().unwrap_or_default().to_owned();
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let mut request = Request::get(uri.path())
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header("X-Vault-Token", token)
        .header("X-Vault-Request", "true");
    if let Some(namespace) = &vault.namespace {
        request = request.header("X-Vault-Namespace", namespace);
    }
    // The token may have a byte that no header takes; it is not repeated.
    let request =
        request.body(Body::empty()).map_err(|_| refused("the token or namespace is no text".into()))?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((bare.as_str(), port)).await.map_err(|e| away(&e))?;
    if !is_tls {
        return exchange(stream, request).await;
    }
    let tls = crate::tls_client::client(vault.ca_file.as_deref());
    let tls = tls.map_err(|error| VaultError::Authorities { path: error.path, why: error.why })?;
    let connector = TlsConnector::from(Arc::new(tls));
    let name = ServerName::try_from(bare).map_err(|e| VaultError::Certificate(e.to_string()))?;
    let stream = connector.connect(name, stream).await.map_err(|error| {
        let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match refused {
            Some(error) => VaultError::Certificate(error.to_string()),
            None => away(&error),
        }
    })?;
    exchange(stream, request).await
}

fn away(error: &(dyn std::error::Error + 'static)) -> VaultError {
    VaultError::Away(crate::supervisor::chain(error))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<(StatusCode, Vec<u8>), VaultError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| away(&e))?;
    // It ends with the answer, or when nobody waits for that any more.
    crate::supervisor::spawn("vault", async move {
        let _ = connection.await;
    });
    let answer = sender.send_request(request).await.map_err(|e| away(&e))?;
    let status = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), MAX_ANSWER);
    Ok((status, body.await.map_err(|e| away(&e))?.to_vec()))
}

/// A path as it stands in an address.
fn escaped(path: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().map(|b| if kept(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn value(body: &[u8], place: &VaultPlace) -> Result<String, VaultError> {
    let answer: serde_json::Value = serde_json::from_slice(body).map_err(|_| VaultError::NoAnswer)?;
    let fields =
        answer.pointer("/data/data").and_then(|data| data.as_object()).ok_or(VaultError::NoAnswer)?;
    fields.get(&place.field).and_then(|value| value.as_str()).map(str::to_owned).ok_or_else(|| {
        VaultError::NoField { field: place.field.clone(), mount: place.mount.clone(), at: place.path.clone() }
    })
}

/// The errors that an answer tells, in one line; an answer that is none may hold anything, and is not repeated.
fn said(body: &[u8], token: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let words: Vec<&str> = errors.iter().flat_map(|error| error.split_whitespace()).collect();
    let text: String = words.join(" ").replace(token, "***").chars().take(MAX_SAID).collect();
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}
