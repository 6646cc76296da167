//! From what an agent answered to how a step ended.

use crate::objects::disk::words as words_of_size;
use rouse_agent_protocol::{FailureClass as AgentClass, NoRoom, Outcome, OutcomeKind};
use rouse_model::BuildResult;
use rouse_model::failure::FailureClass;
use rouse_model::logs::Artifact;
use rouse_model::plan::PlannedStep;
use std::time::Duration;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub result: BuildResult,
    pub class: Option<FailureClass>,
    pub summary: String,
}

impl End {
    pub(super) fn success(summary: String) -> Self {
        Self { result: BuildResult::Success, class: None, summary }
    }

    pub(super) fn failure(summary: String) -> Self {
        Self { result: BuildResult::Failure, class: Some(FailureClass::User), summary }
    }
}

/// A command that ran a program.
pub(super) fn of_run(outcome: &Outcome, planned: &PlannedStep) -> End {
    let mut end = match &outcome.kind {
        OutcomeKind::Exited { code } => {
            let result = planned.rules.of_exit(*code);
            let class = (result == BuildResult::Failure).then_some(FailureClass::User);
            let summary = if *code == 0 { "ok".into() } else { format!("exit {code}") };
            End { result, class, summary }
        }
        OutcomeKind::Signalled { signal } if outcome.oom_killed => {
            End::failure(format!("killed by signal {signal}: the build ran out of memory"))
        }
        OutcomeKind::Signalled { signal: SIGKILL } => killed_from_outside(),
        OutcomeKind::Signalled { signal } => End::failure(format!("killed by signal {signal}")),
        other => trouble_of(other).unwrap_or_else(|| End::success("ok".into())),
    };
    if outcome.oom_killed && end.result == BuildResult::Failure && !end.summary.contains("memory") {
        end.summary.push_str("; the build ran out of memory");
    }
    if outcome.leftovers > 0 {
        end.summary.push_str(&format!("; {} left-over processes killed", outcome.leftovers));
    }
    blame_disk(end, outcome)
}

/// A disk that is full is the infrastructure's, whoever filled it: others write there, too.
fn blame_disk(end: End, outcome: &Outcome) -> End {
    let Some(NoRoom { path, free, size }) = &outcome.no_room else { return end };
    // Memory that ran out is the build's own, however full the disk was.
    if end.result != BuildResult::Failure || outcome.oom_killed {
        return end;
    }
    let (free, size) = (words_of_size(*free), words_of_size(*size));
    let summary =
        format!("the worker's file system is full, {free} of {size} are free ({path}): {}", end.summary);
    End { result: BuildResult::Retry, class: Some(FailureClass::AgentLost), summary }
}

/// A step's own process does not die of this by itself, and neither its agent nor its memory limit has sent it.
const SIGKILL: i32 = 9;

/// By a person, by a host that wants its memory back, with what surrounds the worker: not by what is built.
fn killed_from_outside() -> End {
    End {
        result: BuildResult::Retry,
        class: Some(FailureClass::AgentLost),
        summary: format!("killed by signal {SIGKILL} from outside the build"),
    }
}

/// What went wrong, where something did, with a command that moves files or runs a helper.
pub(super) fn trouble(outcome: &Outcome) -> Option<End> {
    let end = match &outcome.kind {
        OutcomeKind::Exited { code: 0 } => None,
        OutcomeKind::Exited { code } => Some(End::failure(format!("exit {code}"))),
        OutcomeKind::Signalled { signal: SIGKILL } if !outcome.oom_killed => Some(killed_from_outside()),
        OutcomeKind::Signalled { signal } => Some(End::failure(format!("killed by signal {signal}"))),
        other => trouble_of(other),
    };
    end.map(|end| blame_disk(end, outcome))
}

/// The exit code by which a checkout says that the source could not be fetched: the revision is known to be there, so it is nobody's code that
/// failed.
pub(super) const NOT_FETCHED: i32 = 75;
/// Those by which it says that the worker lacks what it needs. That is the pool's image, which is as somebody has chosen it, and no other worker of the
/// pool has more.
pub(super) const NO_GIT: i32 = 76;
pub(super) const NO_LFS: i32 = 77;

/// What went wrong with a checkout by the worker itself, where something did.
pub(super) fn of_checkout(outcome: &Outcome) -> Option<End> {
    match &outcome.kind {
        OutcomeKind::Exited { code: NOT_FETCHED } => Some(End {
            result: BuildResult::Retry,
            class: Some(FailureClass::Master),
            summary: "the source could not be fetched".into(),
        }),
        OutcomeKind::Exited { code: NO_GIT } => Some(End::failure(
            "there is no git on the worker, by which this checkout is; install it in the pool's image, or leave `by: worker` and `lfs` out".into(),
        )),
        OutcomeKind::Exited { code: NO_LFS } => Some(End::failure(
            "there is no git-lfs on the worker, which `lfs: true` needs; install it in the pool's image, or leave `lfs` out for pointers".into(),
        )),
        _ => trouble(outcome),
    }
}

/// An upload.
pub(super) fn of_transfer(outcome: &Outcome) -> End {
    trouble(outcome).unwrap_or_else(|| match &outcome.kind {
        OutcomeKind::Transferred { files } => {
            let bytes = files.iter().map(|f| f.size).fold(0, u64::saturating_add);
            End::success(words_of_files(files.len(), bytes))
        }
        _ => End::success("ok".into()),
    })
}

fn words_of_files(files: usize, bytes: u64) -> String {
    let plural = if files == 1 { "file" } else { "files" };
    format!("{files} {plural}, {bytes} bytes")
}

/// An upload of which something is said that is not so: what counts is what has arrived.
pub(super) fn of_upload(said: &Outcome, arrived: &[&Artifact]) -> Option<End> {
    let OutcomeKind::Transferred { files } = &said.kind else { return None };
    let bytes = |path: &str| arrived.iter().find(|a| a.path == path).map(|a| a.bytes.unsigned_abs());
    let missing = files.iter().find(|file| bytes(&file.path) != Some(file.size))?;
    let have = words_of_files(arrived.len(), arrived.iter().map(|a| a.bytes.unsigned_abs()).sum());
    let name: String = missing.path.chars().take(100).collect();
    Some(End {
        result: BuildResult::Exception,
        class: Some(FailureClass::AgentLost),
        summary: format!("the agent says that it sent {name:?}, which did not arrive so; kept: {have}"),
    })
}

fn trouble_of(kind: &OutcomeKind) -> Option<End> {
    Some(match kind {
        OutcomeKind::TimedOut { after_s } => timed_out(*after_s),
        OutcomeKind::Silent { after_s } => End::failure(format!("no output for {}", words(*after_s))),
        OutcomeKind::Stopped { reason } => {
            End { result: BuildResult::Cancelled, class: None, summary: format!("stopped: {reason}") }
        }
        OutcomeKind::CouldNotStart { message } => End::failure(message.clone()),
        OutcomeKind::Failed { message, class: AgentClass::User } => End::failure(message.clone()),
        OutcomeKind::Failed { message, class: AgentClass::Infrastructure } => {
            End { result: BuildResult::Retry, class: Some(FailureClass::AgentLost), summary: message.clone() }
        }
        OutcomeKind::Exited { .. }
        | OutcomeKind::Signalled { .. }
        | OutcomeKind::PathsDone { .. }
        | OutcomeKind::Transferred { .. } => {
            return None;
        }
    })
}

/// What took longer than it may.
pub(super) fn timed_out(after_s: f64) -> End {
    End::failure(format!("timed out after {}", words(after_s)))
}

fn words(seconds: f64) -> String {
    let after = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    if after.subsec_millis() == 0 && after.as_secs() >= 60 && after.as_secs().is_multiple_of(60) {
        format!("{} min", after.as_secs() / 60)
    } else if after.subsec_millis() == 0 {
        format!("{} s", after.as_secs())
    } else {
        format!("{seconds:.1} s")
    }
}
