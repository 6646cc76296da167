//! A plain HTTP/1.1 client over the endpoints of the link, for one thread: it waits, can be stopped, and tries again while the
//! master is away.

use std::fs::File;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::request::Builder;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rouse_agent_protocol::{FailureClass, OutcomeKind};
use thiserror::Error;
use tokio::runtime::Runtime;

use crate::control::Control;
use crate::host::Host;
use crate::link::{ConnectError, connect, connect_plain};
use crate::random;

/// A connection on which nothing moves for so long is given up.
const STALLED: Duration = Duration::from_secs(60);

/// A transfer that gets no further for so long fails.
const PATIENCE: Duration = Duration::from_secs(600);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Bytes read from a file at once.
const PIECE: usize = 128 * 1024;

/// Most bytes of the text that comes with an error.
const MAX_MESSAGE: usize = 400;

/// Why a request got nowhere this time.
#[derive(Debug, Error)]
pub enum HttpError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    #[error("nothing moved for {} s", STALLED.as_secs())]
    Stalled,
    /// The master's answer says to try again.
    #[error("the master answered {status}: {message}")]
    Later { status: StatusCode, message: String },
    /// It will not get better.
    #[error("{0}")]
    Final(String, FailureClass),
    #[error("stopped")]
    Stopped,
}

impl HttpError {
    /// Whether there is no way at all to whom was asked, rather than an answer of his.
    pub fn is_no_way(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Broken(_) | Self::Stalled)
    }
}

pub struct Client<'a> {
    host: &'a Host,
    control: &'a Control,
    runtime: Runtime,
    sender: Option<SendRequest<Piecewise>>,
    /// Bytes moved, either way.
    moved: Arc<AtomicU64>,
    /// Nothing more is tried past the master.
    pub avoids_store: bool,
}

impl<'a> Client<'a> {
    pub fn new(host: &'a Host, control: &'a Control) -> Result<Self, OutcomeKind> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                let message = format!("the agent could not prepare a transfer: {error}");
                OutcomeKind::Failed { message, class: FailureClass::Infrastructure }
            })?;
        Ok(Self { host, control, runtime, sender: None, moved: Arc::default(), avoids_store: false })
    }

    /// A body that sends the rest of a file from where it stands, exactly so many bytes.
    pub fn file_body(&self, file: Option<File>, length: u64) -> Piecewise {
        Piecewise { file, left: length, moved: self.moved.clone() }
    }

    /// One request and the head of its answer. Anything but success is an error, with the text that came with it.
    pub fn exchange(&mut self, request: Request<Piecewise>) -> Result<Response<Incoming>, HttpError> {
        let result = self.try_exchange(request);
        if result.is_err() {
            // Whatever state the connection is in.
            self.sender = None;
        }
        result
    }

    fn try_exchange(&mut self, request: Request<Piecewise>) -> Result<Response<Incoming>, HttpError> {
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.wait(open(self.host))??,
        };
        let response = self.wait(async {
            sender.ready().await?;
            sender.send_request(request).await
        })??;
        self.sender = Some(sender);
        self.judged(response)
    }

    /// The same with whom a URL names, over a connection of its own.
    pub fn exchange_at(
        &mut self,
        url: &str,
        request: Builder,
        body: Piecewise,
    ) -> Result<Response<Incoming>, HttpError> {
        let odd = |why: String| {
            HttpError::Final(format!("{url} leads nowhere: {why}"), FailureClass::Infrastructure)
        };
        let to: Uri = url.parse().map_err(|error: hyper::http::uri::InvalidUri| odd(error.to_string()))?;
        let (Some("http"), Some(host), Some(authority)) = (to.scheme_str(), to.host(), to.authority()) else {
            return Err(odd("it is no address by http".into()));
        };
        let path = to.path_and_query().map_or("/", |path| path.as_str());
        let request = request.uri(path).header("host", authority.as_str());
        let request = request.body(body).map_err(|error| odd(error.to_string()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let response = self.wait(async {
            let stream = connect_plain(host, to.port_u16().unwrap_or(80)).await?;
            let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok::<_, HttpError>(sender.send_request(request).await?)
        })??;
        self.judged(response)
    }

    /// An answer that is one; a redirection is, too.
    fn judged(&mut self, response: Response<Incoming>) -> Result<Response<Incoming>, HttpError> {
        let status = response.status();
        if status.is_success() || status == StatusCode::TEMPORARY_REDIRECT {
            return Ok(response);
        }
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Ok(Some(bytes)) = self.chunk(&mut body)
            && text.len() < MAX_MESSAGE
        {
            text.extend_from_slice(&bytes);
        }
        text.truncate(MAX_MESSAGE);
        self.sender = None;
        Err(judge(status, String::from_utf8_lossy(&text).trim().to_owned()))
    }

    /// The next bytes of an answer; `None` at its end.
    pub fn chunk(&mut self, body: &mut Incoming) -> Result<Option<Bytes>, HttpError> {
        loop {
            let frame = self.wait(std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)))?;
            match frame.transpose()?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(bytes)) => {
                    self.moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    return Ok(Some(bytes));
                }
                // Trailers.
                Some(Err(_)) => {}
            }
        }
    }

    /// Wait for something, unless the command is stopped or nothing moves any more.
    fn wait<T>(&self, what: impl Future<Output = T>) -> Result<T, HttpError> {
        let mut done = None;
        self.wait_for(std::pin::pin!(async { done = Some(what.await) }))?;
        done.ok_or(HttpError::Stopped)
    }

    /// The same for any future: the agent is to be small.
    fn wait_for(&self, what: Pin<&mut dyn Future<Output = ()>>) -> Result<(), HttpError> {
        let stalled = async {
            let mut last = None;
            loop {
                let now = self.moved.load(Ordering::Relaxed);
                if last == Some(now) {
                    return;
                }
                last = Some(now);
                tokio::time::sleep(STALLED).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                () = what => Ok(()),
                () = self.control.until_stopped() => Err(HttpError::Stopped),
                () = stalled => Err(HttpError::Stalled),
            }
        })
    }

    /// Do `attempt` again and again until it succeeds, fails for good, or nothing has moved for too long.
    pub fn persist<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, HttpError>,
    ) -> Result<T, OutcomeKind> {
        let (mut pause, mut since, mut moved) =
            (FIRST_PAUSE, Instant::now(), self.moved.load(Ordering::Relaxed));
        loop {
            let error = match attempt(self) {
                Ok(done) => return Ok(done),
                Err(HttpError::Stopped) => return Err(self.stopped()),
                Err(HttpError::Final(message, class)) => return Err(OutcomeKind::Failed { message, class }),
                Err(error) => error,
            };
            let now = self.moved.load(Ordering::Relaxed);
            if now > moved {
                (pause, since, moved) = (FIRST_PAUSE, Instant::now(), now);
            }
            if since.elapsed() > PATIENCE {
                let message = format!("the transfer got no further for {} s: {error}", PATIENCE.as_secs());
                return Err(OutcomeKind::Failed { message, class: FailureClass::Infrastructure });
            }
            self.wait(async { tokio::time::sleep(random::jittered(pause)).await })
                .map_err(|_| self.stopped())?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    pub fn stopped(&self) -> OutcomeKind {
        OutcomeKind::Stopped { reason: self.control.stop_reason().unwrap_or_default() }
    }
}

/// A connection to the first endpoint that answers.
async fn open(host: &Host) -> Result<SendRequest<Piecewise>, HttpError> {
    let mut failure = None;
    for endpoint in &host.endpoints {
        match connect(endpoint).await {
            Ok(stream) => {
                let (sender, connection) = handshake(TokioIo::new(stream)).await?;
                // Its errors come out of the requests too.
                tokio::spawn(connection);
                return Ok(sender);
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or(HttpError::Stalled, HttpError::Connect))
}

/// Which answers may become better, and whose fault the others are.
fn judge(status: StatusCode, message: String) -> HttpError {
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => HttpError::Later { status, message },
        413 | 422 => HttpError::Final(message, FailureClass::User),
        _ => {
            HttpError::Final(format!("the master answered {status}: {message}"), FailureClass::Infrastructure)
        }
    }
}

/// A file as a body, read piece by piece on the transfer's own thread. Without a file it is empty.
pub struct Piecewise {
    file: Option<File>,
    left: u64,
    moved: Arc<AtomicU64>,
}

impl Body for Piecewise {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let length = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        let Some(file) = self.file.as_mut().filter(|_| length > 0) else { return Poll::Ready(None) };
        let mut bytes = vec![0; length];
        Poll::Ready(Some(file.read_exact(&mut bytes).map(|()| {
            self.left -= length as u64;
            self.moved.fetch_add(length as u64, Ordering::Relaxed);
            Frame::data(bytes.into())
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A path within a URL: what is not plainly allowed is escaped, byte by byte; slashes stay.
pub fn escape_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(*byte))
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape_path;

    #[test]
    fn paths_are_escaped_by_bytes() {
        assert_eq!(escape_path("a b/ü?#%.txt".as_bytes()), "a%20b/%C3%BC%3F%23%25.txt");
    }
}
