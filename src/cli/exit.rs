//! Exit codes: part of the interface, told in `docs/reference/cli.md`.

use crate::api::views::BuildResult;
use std::process::ExitCode;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `plan`: no changes.
    Success = 0,
    /// The network, the server, a bug.
    Error = 1,
    /// `config plan --detailed-exitcode`: there are changes.
    Changes = 2,
    NotFound = 3,
    /// A token is needed, or does not allow it.
    Denied = 4,
    /// Somebody said no to a question.
    Declined = 5,
    BuildFailed = 10,
    /// Cancelled or skipped.
    BuildCancelled = 11,
    /// Not the code's fault.
    Infrastructure = 12,
    /// Waiting took too long; the build goes on.
    TimedOut = 13,
    /// Can never be scheduled.
    NeverRuns = 14,
    Usage = 64,
    Interrupted = 130,
}

impl Exit {
    pub(crate) const ALL: [(Self, &'static str); 13] = [
        (Self::Success, "done; for `config plan`, nothing would change"),
        (Self::Error, "an error: the network, the server, a file, a bug; for `config check`, faults"),
        (Self::Changes, "`config plan --detailed-exitcode`: something would change"),
        (Self::NotFound, "what was named is not there"),
        (Self::Denied, "a token is needed, or the one given does not allow it"),
        (Self::Declined, "a question was answered with no, or could not be asked"),
        (Self::BuildFailed, "with `--wait`: the build failed"),
        (Self::BuildCancelled, "with `--wait`: the build was cancelled or skipped"),
        (Self::Infrastructure, "with `--wait`: the infrastructure failed, not the code"),
        (Self::TimedOut, "with `--wait --timeout`: the time is up; the build goes on"),
        (Self::NeverRuns, "no pool can ever run it"),
        (Self::Usage, "wrong usage: an unknown verb or flag, a bad value"),
        (Self::Interrupted, "interrupted by Ctrl-C; what was being watched goes on"),
    ];

    /// What a build's end means to whoever waited for it.
    #[must_use]
    pub fn of_build(result: BuildResult) -> Self {
        match result {
            BuildResult::Success | BuildResult::Warnings => Self::Success,
            BuildResult::Failure => Self::BuildFailed,
            BuildResult::Cancelled | BuildResult::Skipped => Self::BuildCancelled,
            BuildResult::Exception | BuildResult::Retry => Self::Infrastructure,
        }
    }

    /// The one to give where there are several: the first bad one in order of how much a person must do.
    pub(crate) fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        let weight = |exit: &Self| match exit {
            Self::BuildFailed => 5,
            Self::Infrastructure => 4,
            Self::NeverRuns => 3,
            Self::BuildCancelled => 2,
            Self::TimedOut => 1,
            _ => 0,
        };
        all.into_iter().max_by_key(weight).unwrap_or(Self::Success)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
