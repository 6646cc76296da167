//! Wishes: a buildset is what one cause asked for at once; each of its requests is the wish to build one builder.

use crate::approval::Approval;
use crate::locks::Hold;
use crate::property::Properties;
use crate::{BuildId, BuildResult, BuildsetId, ConfigRevisionId, MasterId, RequestId, Timestamp, Trust};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Requests that were made together. `origin` is unique: whoever replays a cause after a crash finds its buildset made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Buildset {
    pub id: BuildsetId,
    /// `push/changes/17`, `nightly/at/1764032400`, `api/KEY`, `build/5/step/2/child/0`.
    pub origin: String,
    pub project: String,
    /// The scheduler, or `None` for a bare API call.
    pub scheduler: Option<String>,
    /// For a person: `2 commits on main by alice`.
    pub reason: String,
    /// Who asked, where somebody did.
    pub owner: Option<String>,
    pub properties: Properties,
    pub trust: Trust,
    pub parent: Option<BuildId>,
    pub created: Timestamp,
    pub done: Option<Timestamp>,
    pub result: Option<BuildResult>,
    pub generation: i64,
}

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// Waits for a person who says that it may be built; nobody else looks at it.
    Unapproved,
    /// Waits for a slot.
    Queued,
    /// A build runs it.
    Claimed,
    Done,
}

/// One wish to build one builder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub id: RequestId,
    pub buildset: BuildsetId,
    pub builder: String,
    pub project: String,
    /// The branch that it is about, of the first codebase that its builder checks out; `None` where there is none.
    pub branch: Option<String>,
    pub state: RequestState,
    /// Higher first; then older first.
    pub priority: i64,
    pub created: Timestamp,
    /// Not matched before this moment: back-off after an infrastructure failure.
    pub not_before: Option<Timestamp>,
    /// Attempts that were spent: builds that ended as `retry`, and failed launches charged to it.
    pub attempts: i64,
    pub trust: Trust,
    /// The wish to end it, with who and why; honoured by whoever holds the request.
    pub cancel: Option<String>,
    /// The build that runs it or ran it last.
    pub build: Option<BuildId>,
    pub claimed_by: Option<MasterId>,
    pub result: Option<BuildResult>,
    pub done: Option<Timestamp>,
    /// The revision that made it; the one it is built under is the build's.
    pub config: ConfigRevisionId,
    /// What matching remembers between ticks: the image refs resolved for this buildset, why it waits.
    pub provision: Provision,
    /// The locks that it has: taken before a worker is made for it, kept until its build ends. `None` where it has none.
    pub locks: Option<Vec<Hold>>,
    /// The word of a person that it needs; `None` where it needs none.
    pub approval: Option<Approval>,
    /// When it ends unless somebody approves it. Set while it is unapproved; long past where somebody wants it to end.
    pub lapses: Option<Timestamp>,
    pub generation: i64,
}

/// No pause between two attempts is longer.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Request {
    /// The locks that it has.
    #[must_use]
    pub fn holds(&self) -> &[Hold] {
        self.locks.as_deref().unwrap_or_default()
    }

    /// Until when it is not to be matched; `None` where it may be now. A moment farther away than the longest pause was written under a clock
    /// that has been set back since, and holds nobody up.
    #[must_use]
    pub fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.not_before.filter(|at| *at > now && at.since(now) <= LONGEST_PAUSE)
    }
}

/// What was settled for a request before there was a worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provision {
    /// Pool → the launch spec's digest, once rendered and resolved.
    #[serde(default)]
    pub digests: std::collections::BTreeMap<String, String>,
    /// What was asked of a provider → what it means for this buildset, settled once, also across a restart of the master.
    #[serde(default)]
    pub images: std::collections::BTreeMap<String, SettledImage>,
    /// Codebase → branch → what the branch was when a build first merged into it. Kept with the first request of a buildset, for all of it.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub merges: MergeTargets,
    /// Failed launches that stand in its way, newest last: worker, class, message.
    #[serde(default)]
    pub failures: Vec<LaunchFailure>,
    /// Since when its image cannot be had, where that is tried again.
    #[serde(default)]
    pub imageless_since: Option<Timestamp>,
    /// What its pool could not be given when that was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldBack>,
}

/// No account of a pool gives it another worker now: it has used up a quota, or there are no machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    pub pool: String,
    /// What is missing, and where.
    pub why: String,
    /// When that is tried again at the latest.
    pub until: Timestamp,
}

/// Codebase → branch → revision.
pub type MergeTargets = std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>;

/// The image that a buildset's builds on one provider run in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledImage {
    /// The one of the asked names that was found.
    pub image: String,
    /// Its immutable id.
    pub id: String,
}

/// One failed launch, as it is shown under every request of its class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchFailure {
    pub worker: Option<crate::WorkerId>,
    pub pool: String,
    pub class: crate::failure::FailureClass,
    pub message: String,
    pub at: Timestamp,
}

/// What a scheduler remembers, one row for each thing that it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerState {
    pub scheduler: String,
    /// What it is about: a branch's timer, the last instant of a clock, an event cursor.
    pub key: String,
    /// As JSON.
    pub value: String,
    pub generation: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::Share;

    fn request(not_before: Option<Timestamp>, locks: Option<Vec<Hold>>) -> Request {
        Request {
            id: RequestId(1),
            buildset: BuildsetId(1),
            builder: "unit".into(),
            project: "default".into(),
            branch: None,
            state: RequestState::Queued,
            priority: 0,
            created: Timestamp(0),
            not_before,
            attempts: 0,
            trust: Trust::Trusted,
            cancel: None,
            build: None,
            claimed_by: None,
            result: None,
            done: None,
            config: ConfigRevisionId(1),
            provision: Provision::default(),
            locks,
            approval: None,
            lapses: None,
            generation: 0,
        }
    }

    #[test]
    fn a_pause_is_waited_for_unless_a_clock_was_set_back() {
        let now = Timestamp::from_secs(1_000);
        let waits = |seconds| request(Some(Timestamp::from_secs(seconds)), None).waits_until(now);
        assert_eq!(request(None, None).waits_until(now), None);
        assert_eq!((waits(999), waits(1_000)), (None, None));
        assert_eq!(
            (waits(1_001), waits(1_300)),
            (Some(Timestamp::from_secs(1_001)), Some(Timestamp::from_secs(1_300)))
        );
        assert_eq!(waits(1_301), None, "nobody was told to wait for so long");
    }

    #[test]
    fn locks_are_those_that_it_has() {
        let hold = Hold { lock: "rig".into(), share: Share::Exclusive, worker: None, branch: None };
        assert_eq!(request(None, Some(vec![hold.clone()])).holds(), [hold]);
        assert_eq!(request(None, None).holds(), []);
    }
}
