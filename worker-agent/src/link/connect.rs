//! A byte stream to a master's listener. Which kind of endpoint it is matters here and nowhere else.

use std::io;
use std::time::Duration;

use rouse_agent_protocol::Endpoint;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(10);

/// Both directions of one connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub type Stream = Box<dyn Io>;

#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("connect to {path}: {source}")]
    Unix { path: String, source: io::Error },
    #[error("this agent cannot speak TLS, which the endpoint {address} wants")]
    NoTls { address: String },
    #[error("{path} did not answer within {} s", PATIENCE.as_secs())]
    Timeout { path: String },
}

/// Connect, within a bounded time.
pub async fn connect(endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    match endpoint {
        Endpoint::Unix { path } => match tokio::time::timeout(PATIENCE, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(source)) => Err(ConnectError::Unix { path: path.clone(), source }),
            Err(_) => Err(ConnectError::Timeout { path: path.clone() }),
        },
        Endpoint::Tls { address, .. } => Err(ConnectError::NoTls { address: address.clone() }),
    }
}
