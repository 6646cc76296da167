//! A byte stream to a master's listener. Which kind of endpoint it is matters here and nowhere else.

use std::io;
use std::time::Duration;

use rouse_agent_protocol::Endpoint;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::tls::{self, TlsError};

const PATIENCE: Duration = Duration::from_secs(10);

/// Both directions of one connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub type Stream = Box<dyn Io>;

#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("connect to {path}: {source}")]
    Unix { path: String, source: io::Error },
    #[error("connect to {address}: {source}")]
    Tls { address: String, source: TlsError },
    #[error("a stream of the master's at {socket}: {source}")]
    Opened { socket: String, source: TlsError },
    #[error("{place} did not answer within {} s", PATIENCE.as_secs())]
    Timeout { place: String },
}

/// Connect, within a bounded time.
pub async fn connect(endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    let (place, connected) = match endpoint {
        Endpoint::Unix { path } => {
            let failed = |source| ConnectError::Unix { path: path.clone(), source };
            let connecting = async {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                Ok::<Stream, _>(Box::new(stream))
            };
            (path, tokio::time::timeout(PATIENCE, connecting).await)
        }
        Endpoint::Tls { address, ca } => {
            let failed = |source| ConnectError::Tls { address: address.clone(), source };
            let connecting = async {
                let stream = tls::connect(address, ca).await.map_err(failed)?;
                Ok::<Stream, _>(Box::new(stream))
            };
            (address, tokio::time::timeout(PATIENCE, connecting).await)
        }
        Endpoint::Opened { socket, name, ca } => {
            let failed = |source| ConnectError::Opened { socket: socket.clone(), source };
            let connecting = async {
                let stream = tls::accept(socket, name, ca).await.map_err(failed)?;
                Ok::<Stream, _>(Box::new(stream))
            };
            (socket, tokio::time::timeout(PATIENCE, connecting).await)
        }
    };
    connected.unwrap_or_else(|_| Err(ConnectError::Timeout { place: place.clone() }))
}

/// Connect to a host that is no master of ours, within a bounded time, in the clear.
pub async fn connect_plain(host: &str, port: u16) -> Result<Stream, ConnectError> {
    let address = format!("{host}:{port}");
    let failed = |source| ConnectError::Tls { address: address.clone(), source };
    let connected = tokio::time::timeout(PATIENCE, tls::dial(host, port)).await;
    let connected = connected.map_err(|_| ConnectError::Timeout { place: address.clone() })?;
    Ok(Box::new(connected.map_err(failed)?))
}
