//! The way to a daemon by the host's own `ssh`, as Docker's client goes it: each connection is `docker system dial-stdio` over there. Keys, jump
//! hosts and known hosts are as that user's configuration of `ssh` has them.

use bollard::errors::Error;
use bollard::{BollardRequest, ClientVersion, Docker};
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Join};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tower_service::Service;

/// A connection that nobody uses costs a process on both sides.
const IDLE: Duration = Duration::from_secs(30);
/// For the words of an `ssh` that has ended.
const A_MOMENT: Duration = Duration::from_secs(2);
/// Nobody is there to be asked for a password; a host that is not there is found out, and one that goes away.
const OPTIONS: [&str; 4] =
    ["-oBatchMode=yes", "-oConnectTimeout=15", "-oServerAliveInterval=15", "-oServerAliveCountMax=2"];
/// What the client calls a daemon whose name does not matter.
const ANYWHERE: &str = "http://daemon";

/// A client of the daemon at `ssh://[USER@]HOST[:PORT]`.
pub(crate) fn connect(host: &str, patience: u64, version: &ClientVersion) -> Result<Docker, Error> {
    let said = Said::default();
    let dial = Dial { host: host.into(), said: said.clone() };
    let client = Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .build(dial);
    let request = move |request: BollardRequest| {
        let answer = client.request(request);
        let said = said.clone();
        async move {
            match answer.await {
                Ok(answer) => Ok(answer),
                Err(error) => Err(match said.take().await {
                    Some(line) => io::Error::other(format!("ssh: {line}")).into(),
                    None => error.into(),
                }),
            }
        }
    };
    Docker::connect_with_custom_transport(request, Some(ANYWHERE), patience, version)
}

/// The last line that `ssh` has complained in.
#[derive(Debug, Clone, Default)]
struct Said(watch::Sender<Option<String>>);

impl Said {
    async fn listen(self, errors: ChildStderr) {
        let mut lines = BufReader::new(errors).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.0.send_replace(Some(line.trim().to_owned()));
        }
    }

    /// Its connection is closed a moment before it is heard why.
    async fn take(&self) -> Option<String> {
        let mut told = self.0.subscribe();
        let _ = tokio::time::timeout(A_MOMENT, told.wait_for(Option::is_some)).await;
        self.0.send_replace(None)
    }
}

/// Makes connections.
#[derive(Debug, Clone)]
struct Dial {
    host: Arc<str>,
    said: Said,
}

impl Dial {
    fn dial(&self) -> io::Result<Stream> {
        let mut command = Command::new("ssh");
        command.args(OPTIONS).arg("-T").arg("--").arg(&*self.host).args(["docker", "system", "dial-stdio"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("ssh cannot be started: {error}")))?;
        let (Some(to), Some(from), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("ssh has no pipes"));
        };
        tokio::spawn(self.said.clone().listen(errors));
        Ok(Stream { io: TokioIo::new(tokio::io::join(from, to)), _child: child })
    }
}

impl Service<Uri> for Dial {
    type Response = Stream;
    type Error = io::Error;
    type Future = Ready<io::Result<Stream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.dial())
    }
}

/// What `ssh` reads and writes. It is ended with it.
struct Stream {
    io: TokioIo<Join<ChildStdout, ChildStdin>>,
    _child: Child,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
