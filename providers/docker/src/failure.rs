//! What a call to the daemon can end with, and which class that is.

use bollard::errors::Error;
use rouse_contract::ProviderError;
use rouse_model::failure::FailureClass;
use std::time::Duration;

/// When to ask a daemon again that was away.
const AWAY: Duration = Duration::from_secs(2);

/// A call to the daemon that did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Call(#[from] Error),
    /// Said by the provider itself, with its class.
    #[error("{message}")]
    Said { class: FailureClass, message: String },
}

impl Failed {
    pub(crate) fn said(class: FailureClass, message: impl Into<String>) -> Self {
        Self::Said { class, message: message.into() }
    }

    /// The status of the daemon's answer, where it answered.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Call(Error::DockerResponseServerError { status_code, .. }) => Some(*status_code),
            _ => None,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.status() == Some(404)
    }

    /// Podman has no status of its own for a name that is taken, and for a container that is just ending.
    pub(crate) fn is_conflict(&self) -> bool {
        let says = |words: &str| self.message().contains(words);
        self.status() == Some(409)
            || (self.status() == Some(500) && (says("is already in use") || says("container state improper")))
    }

    /// What the daemon said, for a person.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Call(Error::DockerResponseServerError { message, .. }) => message.trim().to_owned(),
            Self::Call(Error::DockerStreamError { error }) => error.trim().to_owned(),
            Self::Call(Error::RequestTimeoutError) => "the daemon does not answer".into(),
            Self::Call(error) => chain(error),
            Self::Said { message, .. } => message.clone(),
        }
    }

    /// Whether the daemon was not reached, or did not answer to the end.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Call(error) if !matches!(error, Error::DockerResponseServerError { .. } | Error::DockerStreamError { .. }))
    }

    pub(crate) fn class(&self) -> FailureClass {
        match self {
            Self::Said { class, .. } => *class,
            // Its fault or its state: another time or another daemon may do.
            Self::Call(_) => FailureClass::Offering,
        }
    }
}

/// Gives a failure the words for what was being done.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, ProviderError>;
}

impl<T, E: Into<Failed>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, ProviderError> {
        self.map_err(|error| {
            let failed: Failed = error.into();
            let error = ProviderError::new(failed.class(), what(), failed.message());
            let error = if failed.is_away() { error.retry_after(AWAY) } else { error };
            error.caused_by(failed)
        })
    }
}

/// An error with its causes in one line; the client's own words say little (`client error (Connect)`).
fn chain(error: &Error) -> String {
    let mut line = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    line
}
