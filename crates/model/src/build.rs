//! A build and its parts: attempts on an attached worker, their steps, and the commands that an agent was asked to run.

use crate::failure::FailureClass;
use crate::{
    BuildId, BuildResult, BuildsetId, CommandId, ConfigRevisionId, LogId, MasterId, RequestId, StepId,
    Timestamp, Trust, WorkerId,
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// One attempt of a request on a slot of an attached worker. Made when they are matched, never before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    pub id: BuildId,
    pub request: RequestId,
    pub buildset: BuildsetId,
    pub builder: String,
    pub project: String,
    /// Counted from 1 for each request.
    pub attempt: i64,
    /// `None` for the build of a request whose launch can't be retried.
    pub worker: Option<WorkerId>,
    pub slot: i64,
    /// Whose driver works on it.
    pub master: MasterId,
    pub config: ConfigRevisionId,
    /// Hash of its plan.
    pub plan: String,
    pub trust: Trust,
    /// For a person: what it does now, or why it ended so.
    pub summary: String,
    /// The wish to end it, with who and why.
    pub cancel: Option<String>,
    pub result: Option<BuildResult>,
    pub class: Option<FailureClass>,
    /// When the request was made; the phases below tile the time from here to `finished`.
    pub requested: Timestamp,
    /// Launch of its worker was asked for; equals `matched` on a warm worker.
    pub provisioned_from: Timestamp,
    /// Matched to a slot: this row's birth.
    pub matched: Timestamp,
    /// First command of its own sent.
    pub running_from: Option<Timestamp>,
    /// Since then it only waits for builds that it has started.
    pub waiting_from: Option<Timestamp>,
    /// Last step ended.
    pub finishing_from: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub generation: i64,
}

/// What a person sees a build doing. Provisioning is never shown as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VisiblePhase {
    Queued,
    Provisioning,
    Preparing,
    Running,
    Finishing,
    Finished,
}

/// How long each visible phase took, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTimes {
    pub queued: i64,
    pub provisioning: i64,
    pub preparing: i64,
    pub running: i64,
    pub finishing: i64,
}

impl Build {
    #[must_use]
    pub fn visible_phase(&self) -> VisiblePhase {
        match (self.finished, self.finishing_from, self.running_from) {
            (Some(_), ..) => VisiblePhase::Finished,
            (None, Some(_), _) => VisiblePhase::Finishing,
            (None, None, Some(_)) => VisiblePhase::Running,
            (None, None, None) => VisiblePhase::Preparing,
        }
    }

    /// The time by phase, until `now` where it still goes on.
    #[must_use]
    pub fn phase_times(&self, now: Timestamp) -> PhaseTimes {
        let end = self.finished.unwrap_or(now);
        let finishing = self.finishing_from.unwrap_or(end).min(end);
        let running = self.running_from.unwrap_or(finishing).min(finishing);
        let span = |from: Timestamp, to: Timestamp| (to.0 - from.0).max(0);
        PhaseTimes {
            queued: span(self.requested, self.provisioned_from),
            provisioning: span(self.provisioned_from, self.matched),
            preparing: span(self.matched, running),
            running: span(running, finishing),
            finishing: span(finishing, end),
        }
    }
}

/// One part of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub id: StepId,
    pub build: BuildId,
    /// Its place in the plan.
    pub seq: i64,
    pub name: String,
    pub result: Option<BuildResult>,
    pub class: Option<FailureClass>,
    /// For a person: `exit 2`, `ok`, `timed out after 20m`.
    pub summary: String,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    /// What a driver must remember of a step of several commands, as JSON; empty for most.
    pub memory: String,
    pub generation: i64,
}

/// Where a command is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandState {
    /// Written; the agent may or may not know it yet.
    Wanted,
    /// Its outcome is recorded.
    Done,
}

/// One thing an agent was asked to do. Written before it is sent, so it runs at most once per attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub id: CommandId,
    pub build: BuildId,
    pub step: StepId,
    /// Counted from 0 within the step.
    pub seq: i64,
    pub worker: WorkerId,
    /// The agent process that it was written for; another incarnation never runs it.
    pub incarnation: String,
    pub log: LogId,
    pub state: CommandState,
    /// The rendered action as JSON, with secrets as placeholders.
    pub action: String,
    /// The agent's outcome as JSON.
    pub outcome: Option<String>,
    /// The wish to stop it, and why.
    pub stop: Option<String>,
    pub generation: i64,
}

/// A slot of a worker taken by a build. Idle and busy are derived from these rows, never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub worker: WorkerId,
    pub slot: i64,
    pub build: BuildId,
    pub since: Timestamp,
}

/// Workers all of whose builds are among those that only wait for others.
#[must_use]
pub fn waiting_workers(leases: &[Lease], waiting: &[BuildId]) -> HashSet<WorkerId> {
    let waits = |lease: &&Lease| waiting.contains(&lease.build);
    let at_work: HashSet<WorkerId> =
        leases.iter().filter(|lease| !waits(lease)).map(|lease| lease.worker).collect();
    leases.iter().filter(waits).map(|lease| lease.worker).filter(|id| !at_work.contains(id)).collect()
}

/// A property of one build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildProperty {
    pub build: BuildId,
    pub name: String,
    pub property: crate::property::Property,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(running: Option<i64>, finishing: Option<i64>, finished: Option<i64>) -> Build {
        let at = |moment: Option<i64>| moment.map(Timestamp);
        Build {
            id: BuildId(1),
            request: RequestId(1),
            buildset: BuildsetId(1),
            builder: "unit".into(),
            project: "default".into(),
            attempt: 1,
            worker: None,
            slot: 0,
            master: MasterId(1),
            config: ConfigRevisionId(1),
            plan: String::new(),
            trust: Trust::Trusted,
            summary: String::new(),
            cancel: None,
            result: None,
            class: None,
            requested: Timestamp(100),
            provisioned_from: Timestamp(101),
            matched: Timestamp(104),
            running_from: at(running),
            waiting_from: None,
            finishing_from: at(finishing),
            finished: at(finished),
            generation: 0,
        }
    }

    #[test]
    fn phases_tile_the_time_from_the_request_to_the_end() {
        let of = |build: Build| {
            let times = build.phase_times(Timestamp(200));
            let all = [times.queued, times.provisioning, times.preparing, times.running, times.finishing];
            (build.visible_phase(), all)
        };
        assert_eq!(of(build(None, None, None)), (VisiblePhase::Preparing, [1, 3, 96, 0, 0]));
        assert_eq!(of(build(Some(110), None, None)), (VisiblePhase::Running, [1, 3, 6, 90, 0]));
        assert_eq!(of(build(Some(110), Some(150), None)), (VisiblePhase::Finishing, [1, 3, 6, 40, 50]));
        assert_eq!(of(build(Some(110), Some(150), Some(157))), (VisiblePhase::Finished, [1, 3, 6, 40, 7]));
        // One that ended before it had begun, and one whose clock was set back.
        assert_eq!(of(build(None, None, Some(130))), (VisiblePhase::Finished, [1, 3, 26, 0, 0]));
        assert_eq!(of(build(Some(180), Some(150), Some(140))), (VisiblePhase::Finished, [1, 3, 36, 0, 0]));
    }

    #[test]
    fn a_worker_waits_when_all_its_builds_do() {
        let lease = |worker, slot, build| Lease {
            worker: WorkerId(worker),
            slot,
            build: BuildId(build),
            since: Timestamp(0),
        };
        let leases = [lease(1, 0, 1), lease(2, 0, 2), lease(2, 1, 3), lease(3, 0, 4), lease(3, 1, 5)];
        let waiting = [1, 2, 4, 5].map(BuildId);
        assert_eq!(waiting_workers(&leases, &waiting), HashSet::from([WorkerId(1), WorkerId(3)]));
    }
}
