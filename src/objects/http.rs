//! HTTP to an object store: the master's own client and its one provider of cryptography, in place of the one that the library would bring.
//! Nothing waits for ever: to connect, to answer and to go on each have their time.

use crate::tls_client::Dial;
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use rustls::ClientConfig;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, timeout};

/// For the beginning of an answer, beside the time that what is sent may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Bytes of a second, at the least, that are sent.
const SLOWEST: u64 = 64 * 1024;
/// For the next bytes of an answer.
const GO_ON: Duration = Duration::from_secs(30);
/// A connection that nobody uses is closed before most servers close it.
const IDLE: Duration = Duration::from_secs(20);

/// Makes the clients that the library asks for.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) tls: Arc<ClientConfig>,
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client())
    }
}

impl Connector {
    pub(super) fn client(&self) -> HttpClient {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(Dial::new(Arc::clone(&self.tls)));
        HttpClient::new(Service { client })
    }
}

#[derive(Debug)]
struct Service {
    client: Client<Dial, HttpRequestBody>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let patience = ANSWER + Duration::from_secs(request.body().content_length() as u64 / SLOWEST);
        let (parts, body) = request.into_parts();
        let sent = self.client.request(Request::from_parts(parts, body));
        let answer = timeout(patience, sent).await.map_err(|_| late(patience))?.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
            HttpError::new(kind, error)
        })?;
        let (parts, body) = answer.into_parts();
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(Patient::new(body))))
    }
}

fn late(waited: Duration) -> HttpError {
    let said = format!("nothing came within {} s", waited.as_secs());
    HttpError::new(HttpErrorKind::Timeout, io::Error::new(ErrorKind::TimedOut, said))
}

/// An answer's body, for as long as it goes on.
struct Patient {
    inner: Incoming,
    until: Pin<Box<Sleep>>,
}

impl Patient {
    fn new(inner: Incoming) -> Self {
        Self { inner, until: Box::pin(sleep(GO_ON)) }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.until.as_mut().reset(Instant::now() + GO_ON);
                Poll::Ready(frame.map(|got| got.map_err(|e| HttpError::new(HttpErrorKind::Interrupted, e))))
            }
            Poll::Pending => self.until.poll_unpin(cx).map(|()| Some(Err(late(GO_ON)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
