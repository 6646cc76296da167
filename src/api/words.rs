//! The words that states have on the wire: one list each, in the field's own language.

use rouse_model::approval::ApprovalOf as Asked;
use rouse_model::build::VisiblePhase;
use rouse_model::buildset::RequestState as State;
use rouse_model::failure::FailureClass as Class;
use rouse_model::test_report::TestOutcome as Tested;
use rouse_model::worker::{CauseCode as Code, Link, Phase, Wanted, Worker};
use rouse_model::{BuildResult as Outcome, Trust as Level};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
            pub enum $name {
                $($(#[$vdoc])* #[serde(rename = $word)] $variant),+
            }

            impl $name {
                pub const ALL: &'static [Self] = &[$(Self::$variant),+];

                #[must_use]
                pub fn as_str(self) -> &'static str {
                    match self { $(Self::$variant => $word),+ }
                }
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.pad(self.as_str())
                }
            }

            impl std::str::FromStr for $name {
                type Err = String;
                fn from_str(text: &str) -> Result<Self, String> {
                    Self::ALL.iter().copied().find(|w| w.as_str() == text).ok_or_else(|| {
                        let all: Vec<&str> = Self::ALL.iter().map(|w| w.as_str()).collect();
                        format!("`{text}` is none of {}", all.join(", "))
                    })
                }
            }
        )*
    };
}

words! {
    /// What a token allows; each includes the ones before.
    Role { Read = "read", Operate = "operate", Admin = "admin" }

    /// How something ended.
    BuildResult {
        Success = "success", Warnings = "warnings", Failure = "failure", Skipped = "skipped", Exception = "exception",
        Retry = "retry", Cancelled = "cancelled",
    }

    /// What a build is doing.
    BuildPhase {
        Queued = "queued", Provisioning = "provisioning", Preparing = "preparing", Running = "running", Finishing = "finishing",
        Finished = "finished",
    }

    /// Where a request is in its life.
    RequestState { Unapproved = "unapproved", Queued = "queued", Claimed = "claimed", Done = "done" }

    /// Which requests of a builder wait for a person.
    ApprovalOf { Strangers = "strangers", All = "all" }

    /// How far the origin of a build is trusted.
    Trust { Untrusted = "untrusted", Trusted = "trusted" }

    /// Whose fault a failure is.
    FailureClass {
        User = "user", Image = "image", Boot = "boot", Offering = "offering", Quota = "quota", Throttle = "throttle",
        Auth = "auth", Preempted = "preempted", AgentLost = "agent_lost", Master = "master",
    }

    /// What we intend with a worker.
    WorkerWanted { Run = "run", Drain = "drain", Hold = "hold", Park = "park", End = "end" }

    /// What the provider has of a worker.
    WorkerPhase {
        Requested = "requested", Launching = "launching", Booting = "booting", Up = "up", Parking = "parking", Parked = "parked",
        Resuming = "resuming", Terminating = "terminating", Gone = "gone",
    }

    /// What a worker's agent says.
    WorkerLink { Never = "never", Attached = "attached", Silent = "silent", Lost = "lost" }

    /// A worker in one word, of all four facts.
    WorkerState {
        Requested = "requested", Launching = "launching", Booting = "booting", Idle = "idle", Busy = "busy", Draining = "draining",
        Held = "held", Silent = "silent", Parked = "parked", Ending = "ending", Gone = "gone",
    }

    /// Why a worker ended or is to end.
    CauseCode {
        Used = "used", Idle = "idle", Displaced = "displaced", Budget = "budget", Age = "age", LaunchRefused = "launch_refused", Deadline = "deadline",
        Died = "died", Silent = "silent", PoolChanged = "pool_changed", Operator = "operator", Shutdown = "shutdown",
        ParkFailed = "park_failed", ResumeFailed = "resume_failed", Alarm = "alarm",
    }

    /// What became of a test.
    TestOutcome { Passed = "passed", Skipped = "skipped", Failed = "failed", Error = "error" }

    /// What sets a scheduler off.
    TriggerKind { Changes = "changes", Every = "every", Cron = "cron", After = "after", Force = "force" }
}

macro_rules! same {
    ($($from:ident => $to:ident { $($variant:ident),+ })*) => {
        $(
            impl From<$from> for $to {
                fn from(word: $from) -> Self {
                    match word { $($from::$variant => Self::$variant),+ }
                }
            }

            impl From<$to> for $from {
                fn from(word: $to) -> Self {
                    match word { $($to::$variant => Self::$variant),+ }
                }
            }
        )*
    };
}

same! {
    Outcome => BuildResult { Success, Warnings, Failure, Skipped, Exception, Retry, Cancelled }
    VisiblePhase => BuildPhase { Queued, Provisioning, Preparing, Running, Finishing, Finished }
    State => RequestState { Unapproved, Queued, Claimed, Done }
    Asked => ApprovalOf { Strangers, All }
    Level => Trust { Untrusted, Trusted }
    Tested => TestOutcome { Passed, Skipped, Failed, Error }
    Class => FailureClass { User, Image, Boot, Offering, Quota, Throttle, Auth, Preempted, AgentLost, Master }
    Code => CauseCode {
        Used, Idle, Displaced, Budget, Age, LaunchRefused, Deadline, Died, Silent, PoolChanged, Operator, Shutdown, ParkFailed,
        ResumeFailed, Alarm
    }
}

impl From<&Wanted> for WorkerWanted {
    fn from(wanted: &Wanted) -> Self {
        match wanted {
            Wanted::Run => Self::Run,
            Wanted::Drain { .. } => Self::Drain,
            Wanted::Hold { .. } => Self::Hold,
            Wanted::Park => Self::Park,
            Wanted::End { .. } => Self::End,
        }
    }
}

impl From<&Phase> for WorkerPhase {
    fn from(phase: &Phase) -> Self {
        match phase {
            Phase::Requested { .. } => Self::Requested,
            Phase::Launching { .. } => Self::Launching,
            Phase::Booting { .. } => Self::Booting,
            Phase::Up { .. } => Self::Up,
            Phase::Parking { .. } => Self::Parking,
            Phase::Parked { .. } => Self::Parked,
            Phase::Resuming { .. } => Self::Resuming,
            Phase::Terminating { .. } => Self::Terminating,
            Phase::Gone { .. } => Self::Gone,
        }
    }
}

impl From<&Link> for WorkerLink {
    fn from(link: &Link) -> Self {
        match link {
            Link::Never => Self::Never,
            Link::Attached { .. } => Self::Attached,
            Link::Silent { .. } => Self::Silent,
            Link::Lost { .. } => Self::Lost,
        }
    }
}

impl WorkerState {
    /// The word for a worker of which so many slots are taken.
    #[must_use]
    pub fn of(worker: &Worker, taken: usize) -> Self {
        match (&worker.phase, &worker.wanted) {
            (Phase::Gone { .. }, _) => Self::Gone,
            (Phase::Terminating { .. }, _) | (_, Wanted::End { .. }) => Self::Ending,
            (Phase::Requested { .. }, _) => Self::Requested,
            (Phase::Launching { .. }, _) => Self::Launching,
            (Phase::Booting { .. } | Phase::Resuming { .. }, _) => Self::Booting,
            (Phase::Parking { .. } | Phase::Parked { .. }, Wanted::Run) => Self::Booting,
            (Phase::Parking { .. } | Phase::Parked { .. }, _) | (Phase::Up { .. }, Wanted::Park) => {
                Self::Parked
            }
            (Phase::Up { .. }, Wanted::Drain { .. }) => Self::Draining,
            (Phase::Up { .. }, Wanted::Hold { .. }) => Self::Held,
            (Phase::Up { .. }, Wanted::Run) => match worker.link {
                Link::Attached { .. } if taken > 0 => Self::Busy,
                Link::Attached { .. } => Self::Idle,
                Link::Never | Link::Silent { .. } | Link::Lost { .. } => Self::Silent,
            },
        }
    }
}
