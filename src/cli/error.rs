//! What goes wrong on the command line: a message, perhaps advice, and an exit code.

use super::exit::Exit;
use super::output::{ERROR, HINT};
use crate::api::views::{ErrorBody, ErrorCode};
use std::io::Write;
use std::path::PathBuf;

/// Why a verb did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The master said no.
    #[error("{}", .0.message)]
    Api(Box<ErrorBody>),
    #[error("no master answers at {url}")]
    Connect {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("talk to the master")]
    Transport(#[source] reqwest::Error),
    /// The answer is not what this version expects.
    #[error("understand the master's answer")]
    Answer(#[source] serde_json::Error),
    #[error("{url} does not answer as a Rouse master does ({what})")]
    NotAMaster { url: String, what: String },
    #[error("read the token {path}")]
    Token {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{message}")]
    Usage { message: String, help: Option<String> },
    #[error("{message}")]
    NotFound { message: String, help: Option<String> },
    /// Whoever read our output has gone.
    #[error("the output was closed")]
    ClosedPipe,
    /// Somebody pressed Ctrl-C while following; how to return.
    #[error("detached")]
    Detached { back: String },
    /// The time for waiting is up; how to return.
    #[error("it is not done after the time given")]
    TimedOut { back: String },
    #[error("{message}")]
    Declined { message: String, help: Option<String> },
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl CliError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), help: None }
    }

    /// The master is away or not ready: the same may succeed a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Transport(_) => true,
            Self::Api(body) => body.code == ErrorCode::Unavailable,
            _ => false,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Api(body) => match body.code {
                ErrorCode::NotFound | ErrorCode::Gone => Exit::NotFound,
                ErrorCode::Unauthenticated | ErrorCode::Forbidden => Exit::Denied,
                _ => Exit::Error,
            },
            Self::Usage { .. } => Exit::Usage,
            Self::NotFound { .. } => Exit::NotFound,
            Self::ClosedPipe => Exit::Success,
            Self::Detached { .. } => Exit::Interrupted,
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::Declined { .. } => Exit::Declined,
            Self::Token { .. } => Exit::Denied,
            Self::Connect { .. }
            | Self::Transport(_)
            | Self::Answer(_)
            | Self::NotAMaster { .. }
            | Self::Io { .. }
            | Self::Other(_) => Exit::Error,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::Api(body) => body.help.clone(),
            Self::Connect { .. } => {
                Some("start one with `rouse serve`, or say where it is with --server or ROUSE_SERVER".into())
            }
            Self::Answer(_) => Some("compare the versions: rouse version".into()),
            Self::Usage { help, .. } | Self::NotFound { help, .. } | Self::Declined { help, .. } => {
                help.clone()
            }
            Self::Detached { back } => Some(format!("it goes on; come back with: {back}")),
            Self::TimedOut { back } => Some(format!("it goes on; watch it with: {back}")),
            _ => None,
        }
    }

    /// Tells a person on stderr, and gives the exit code.
    pub(crate) fn tell(&self) -> Exit {
        if matches!(self, Self::ClosedPipe) {
            return self.exit();
        }
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            cause = source.source();
            // Of a connection that failed, the layers in between say nothing.
            if cause.is_none() || !matches!(self, Self::Connect { .. } | Self::Transport(_)) {
                text = format!("{text}: {source}");
            }
        }
        let mut stderr = anstream::stderr().lock();
        // Nobody is left to be told that stderr is closed.
        let _ = match self {
            Self::Detached { .. } => writeln!(stderr),
            _ => writeln!(stderr, "{ERROR}error:{ERROR:#} {text}"),
        };
        if let Self::Api(body) = self
            && let Some(framed) = body.detail.as_ref().and_then(|d| d.get("text")).and_then(|t| t.as_str())
        {
            let _ = write!(stderr, "{framed}");
        }
        if let Some(help) = self.help() {
            let _ = writeln!(stderr, "{HINT}hint:{HINT:#} {help}");
        }
        self.exit()
    }
}

impl From<std::io::Error> for CliError {
    /// Writing to stdout is what fails without further words.
    fn from(source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::BrokenPipe {
            Self::ClosedPipe
        } else {
            Self::Io { what: "write the output".into(), source }
        }
    }
}
