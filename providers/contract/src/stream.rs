//! Streams to the agents of instances that cannot reach their master: by the way on which the provider itself is reached.

use crate::ProviderError;
use async_trait::async_trait;
use rouse_model::worker::ProviderRef;
use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite};

/// Both directions of a stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A provider that can open them. Calls have no deadline: the caller adds it.
#[async_trait]
pub trait Streams: fmt::Debug + Send + Sync {
    /// Runs `rouse-agent relay SOCKET` within an instance; its input and output are the stream. What it says otherwise goes to the log. It ends with
    /// the stream.
    ///
    /// # Errors
    /// Where it could not be run.
    async fn open(&self, at: &ProviderRef, socket: &str) -> Result<Box<dyn Duplex>, ProviderError>;
}
