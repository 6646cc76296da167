//! A worker's life as four facts that are never folded into one: what we want of it, what its provider has, what its agent says, and
//! (as lease rows elsewhere) what it is busy with. Transitions are pure; the caller commits the next value by compare-and-set, then acts.

mod cause;
mod event;
mod limits;
mod parking;

pub use cause::{Cause, CauseCode};
pub use event::{Effect, Transition, WorkerEvent};
pub use limits::{DEAD_MAN, Deadlines};

use crate::failure::FailureClass;
use crate::money::Price;
use crate::{ConfigRevisionId, DecisionId, MasterId, Timestamp, Trust, WorkerId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The provider's own name of an instance: a container id, a process id with its start time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProviderRef(pub String);

/// Public and derived from installation, store epoch, worker and attempt; makes a launch idempotent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaunchToken(pub String);

/// What we intend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    Run,
    /// No new builds; ends when its slots are free. Can be taken back.
    Drain {
        cause: Cause,
    },
    /// No new builds, and kept for somebody to look at; taken back, or over by itself.
    Hold {
        until: Timestamp,
        /// Who, and why where that was said.
        by: String,
    },
    /// No new builds; to lie stopped at its provider until work comes for it. Can be taken back at any time.
    Park,
    End {
        cause: Cause,
    },
}

/// What the provider has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The intent is on record; nobody was asked yet.
    Requested {
        token: LaunchToken,
    },
    /// The provider was, or is about to be, asked. The outcome is unknown until it answers or its list does.
    Launching {
        token: LaunchToken,
        since: Timestamp,
        deadline: Timestamp,
    },
    Booting {
        at: ProviderRef,
        deadline: Timestamp,
    },
    Up {
        at: ProviderRef,
    },
    /// The provider was, or is about to be, asked to stop it. Left only when it has said that it lies.
    Parking {
        at: ProviderRef,
        since: Timestamp,
    },
    Parked {
        at: ProviderRef,
        since: Timestamp,
    },
    /// The provider was, or is about to be, asked to start it again; its agent is to come by then.
    Resuming {
        at: ProviderRef,
        since: Timestamp,
        deadline: Timestamp,
    },
    /// Left only when the provider confirms absence. Without a `ref` the token is what is looked for.
    Terminating {
        at: Option<ProviderRef>,
        since: Timestamp,
        cause: Cause,
    },
    Gone {
        cause: Cause,
    },
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    Never,
    Attached { session: String, since: Timestamp },
    Silent { since: Timestamp },
    Lost { at: Timestamp },
}

/// A latent worker's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub id: WorkerId,
    /// `POOL-xxxx`, derived like the launch token.
    pub name: String,
    pub pool: String,
    /// The account that makes it.
    pub provider: String,
    /// Which of what its pool may be launched as it is; never another one. `None` where there is nothing to choose.
    pub offering: Option<String>,
    /// What it costs while it is there.
    pub price: Price,
    /// With pool, digest and trust: the class of builds that it may be reused for.
    pub project: String,
    pub trust: Trust,
    /// Digest of its launch spec over the resolved image id.
    pub spec_digest: String,
    /// The rendered launch spec as JSON.
    pub spec: String,
    /// Config revision that it was launched under.
    pub config: ConfigRevisionId,
    /// What the scaler came to when it asked for it; absent for one from before those were kept.
    pub decision: Option<DecisionId>,
    pub attempt: i64,
    /// Whose driver is the only writer of its state.
    pub master: MasterId,
    /// Rises when another master takes it over.
    pub term: i64,
    pub slots: i64,
    /// Builds that it may serve in all.
    pub max_builds: i64,
    pub builds_done: i64,
    pub wanted: Wanted,
    pub phase: Phase,
    pub link: Link,
    /// The agent process that joined; a changed one means that the agent was lost.
    pub incarnation: Option<String>,
    /// Hex of the Ed25519 key that its join token is bound to.
    pub agent_key: Option<String>,
    /// What the agent said of its machine, as JSON.
    pub facts: Option<String>,
    pub requested: Timestamp,
    pub accepted: Option<Timestamp>,
    pub attached: Option<Timestamp>,
    /// When its last slot became free.
    pub idle_since: Option<Timestamp>,
    pub gone: Option<Timestamp>,
    /// After this it takes no new work, whatever happens.
    pub expires: Timestamp,
    /// The last lines that a failed instance printed.
    pub console: Option<String>,
    /// How often it was asked to be resumed: each time its agent is another one, with a token of its own.
    pub resumes: i64,
    /// How long the last time took, from the wish to the agent.
    pub resume_took: Option<Duration>,
    pub generation: i64,
}

impl Worker {
    /// Whether a provider may have something of it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !matches!(self.phase, Phase::Gone { .. })
    }

    /// On its way up: capacity that must always be subtracted from demand.
    #[must_use]
    pub fn is_coming(&self) -> bool {
        matches!(self.wanted, Wanted::Run)
            && (self.is_being_resumed()
                || matches!(
                    self.phase,
                    Phase::Requested { .. } | Phase::Launching { .. } | Phase::Booting { .. }
                ))
    }

    /// It was parked, and is wanted again.
    #[must_use]
    pub fn is_being_resumed(&self) -> bool {
        matches!(self.wanted, Wanted::Run)
            && matches!(self.phase, Phase::Parking { .. } | Phase::Parked { .. } | Phase::Resuming { .. })
    }

    /// It lies stopped, or is to, and serves nobody until it is wanted again.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        matches!(self.wanted, Wanted::Park)
    }

    /// May be given a build at `now` if a slot is free.
    #[must_use]
    pub fn takes_work(&self, now: Timestamp) -> bool {
        self.is_steady() && self.builds_done < self.max_builds && now < self.expires
    }

    /// Up, attached and to go on: nothing about it waits for anybody.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        matches!(self.wanted, Wanted::Run)
            && matches!(self.phase, Phase::Up { .. })
            && matches!(self.link, Link::Attached { .. })
    }

    #[must_use]
    pub fn provider_ref(&self) -> Option<&ProviderRef> {
        match &self.phase {
            Phase::Booting { at, .. }
            | Phase::Up { at }
            | Phase::Parking { at, .. }
            | Phase::Parked { at, .. }
            | Phase::Resuming { at, .. } => Some(at),
            Phase::Terminating { at, .. } => at.as_ref(),
            Phase::Requested { .. } | Phase::Launching { .. } | Phase::Gone { .. } => None,
        }
    }

    /// Of the master that takes it over from one that is dead. The agent, which had its session there, has the time to come that it has after
    /// any other loss of its connection.
    #[must_use]
    pub fn adopted(&self, by: MasterId, now: Timestamp) -> Self {
        let mut next = Self { master: by, term: self.term + 1, ..self.clone() };
        if matches!(next.link, Link::Attached { .. }) {
            next.link = Link::Silent { since: now };
        }
        next
    }

    /// The next value and the effects of an event.
    #[must_use]
    pub fn on(&self, event: WorkerEvent, now: Timestamp) -> Transition {
        use Transition::{AlreadySatisfied, Conflict};
        match event {
            WorkerEvent::LaunchIssued { deadline } => match &self.phase {
                Phase::Requested { .. } if matches!(self.wanted, Wanted::End { .. }) => {
                    Conflict("it is to end before it was launched")
                }
                Phase::Requested { token } => self.to(
                    Phase::Launching { token: token.clone(), since: now, deadline },
                    vec![Effect::CallLaunch],
                ),
                // A restarted master asks again under the same token.
                Phase::Launching { .. } => AlreadySatisfied,
                _ => Conflict("it was launched before"),
            },
            WorkerEvent::Accepted { at, attach_deadline } => match &self.phase {
                Phase::Launching { .. } => {
                    let phase = if matches!(self.link, Link::Attached { .. }) {
                        Phase::Up { at }
                    } else {
                        Phase::Booting { at, deadline: attach_deadline }
                    };
                    let mut next = self.with(phase);
                    next.accepted = Some(now);
                    if matches!(next.phase, Phase::Up { .. }) {
                        next.idle_since = Some(now);
                    }
                    Transition::Applied { next: Box::new(next), effects: vec![] }
                }
                Phase::Booting { at: known, .. } | Phase::Up { at: known } if *known == at => {
                    AlreadySatisfied
                }
                Phase::Terminating { at: None, since, cause } => self.to(
                    Phase::Terminating { at: Some(at), since: *since, cause: cause.clone() },
                    vec![Effect::CallTerminate],
                ),
                Phase::Terminating { at: Some(known), .. } if *known == at => AlreadySatisfied,
                _ => Conflict("nothing was being launched"),
            },
            WorkerEvent::LaunchRefused { cause } => match &self.phase {
                Phase::Requested { .. } | Phase::Launching { .. } => self.closed(cause, now),
                Phase::Gone { .. } => AlreadySatisfied,
                _ => Conflict("the launch was accepted before"),
            },
            WorkerEvent::Attached { session, incarnation } => self.attach(session, incarnation, now),
            WorkerEvent::Detached { session } => match &self.link {
                Link::Attached { session: current, .. } if *current == session => {
                    self.linked(Link::Silent { since: now }, vec![])
                }
                // A newer session has replaced it.
                _ => AlreadySatisfied,
            },
            WorkerEvent::GraceOver => match &self.link {
                Link::Silent { .. } => {
                    let cause = Cause::new(
                        CauseCode::Silent,
                        Some(FailureClass::AgentLost),
                        "the agent did not come back within its grace period",
                    );
                    Transition::Applied {
                        next: Box::new(self.lost(&cause, now)),
                        effects: vec![Effect::BuildsLost(cause)],
                    }
                }
                Link::Lost { .. } => AlreadySatisfied,
                Link::Never | Link::Attached { .. } => Conflict("the agent is not silent"),
            },
            WorkerEvent::InstanceDied { cause } => match &self.phase {
                Phase::Gone { .. } | Phase::Terminating { .. } => AlreadySatisfied,
                // Whatever ends it now was decided before, and nobody speaks any more.
                _ if matches!(self.wanted, Wanted::End { .. })
                    && matches!(self.link, Link::Never | Link::Lost { .. }) =>
                {
                    AlreadySatisfied
                }
                _ => Transition::Applied {
                    next: Box::new(self.lost(&cause, now)),
                    effects: vec![Effect::BuildsLost(cause)],
                },
            },
            WorkerEvent::Drain { cause } => match self.wanted {
                Wanted::Run | Wanted::Hold { .. } | Wanted::Park => {
                    self.wanting(Wanted::Drain { cause }, vec![])
                }
                Wanted::Drain { .. } | Wanted::End { .. } => AlreadySatisfied,
            },
            WorkerEvent::CancelDrain => match self.wanted {
                Wanted::Drain { .. } => self.wanting(self.undrained(), vec![]),
                Wanted::Run | Wanted::Park => AlreadySatisfied,
                _ => Conflict("its end was decided"),
            },
            WorkerEvent::Hold { until, by } => match &self.wanted {
                Wanted::End { .. } => Conflict("its end was decided"),
                Wanted::Drain { .. } => Conflict("it is being drained; take that back first"),
                _ if self.lies() => Conflict("it is parked: nothing runs in it that could be looked at"),
                Wanted::Hold { until: u, by: b } if *u == until && *b == by => AlreadySatisfied,
                _ => self.wanting(Wanted::Hold { until, by }, vec![]),
            },
            WorkerEvent::Release => match self.wanted {
                Wanted::Hold { .. } => {
                    let mut next = self.clone();
                    next.wanted = Wanted::Run;
                    // It did not wait for a build meanwhile.
                    next.idle_since = next.idle_since.map(|_| now);
                    Transition::Applied { next: Box::new(next), effects: vec![] }
                }
                _ => AlreadySatisfied,
            },
            WorkerEvent::Park
            | WorkerEvent::Resume
            | WorkerEvent::ParkIssued
            | WorkerEvent::ParkConfirmed
            | WorkerEvent::ResumeIssued { .. } => self.parking(&event, now),
            WorkerEvent::End { cause } => match (&self.wanted, &self.phase) {
                (Wanted::End { .. }, _) | (_, Phase::Gone { .. }) => AlreadySatisfied,
                _ => self.wanting(Wanted::End { cause }, vec![Effect::TellAgentEnd]),
            },
            WorkerEvent::TerminateIssued => match (&self.wanted, &self.phase) {
                (_, Phase::Gone { .. } | Phase::Terminating { .. }) => AlreadySatisfied,
                (Wanted::End { cause }, Phase::Requested { .. }) => self.closed(cause.clone(), now),
                (Wanted::End { cause }, _) => self.to(
                    Phase::Terminating { at: self.provider_ref().cloned(), since: now, cause: cause.clone() },
                    vec![Effect::CallTerminate],
                ),
                _ => Conflict("its end was not decided"),
            },
            WorkerEvent::AbsenceConfirmed => match &self.phase {
                Phase::Terminating { cause, .. } => self.closed(cause.clone(), now),
                Phase::Gone { .. } => AlreadySatisfied,
                _ => Conflict("its end was not asked for"),
            },
        }
    }

    fn attach(&self, session: String, incarnation: String, now: Timestamp) -> Transition {
        match &self.phase {
            Phase::Gone { .. } | Phase::Terminating { .. } => {
                return Transition::Conflict("the worker has ended");
            }
            Phase::Requested { .. } => return Transition::Conflict("the worker was never launched"),
            Phase::Parking { .. } | Phase::Parked { .. } => {
                return Transition::Conflict("the worker is parked");
            }
            _ => {}
        }
        match &self.link {
            Link::Lost { .. } => return Transition::Conflict("the worker was given up"),
            Link::Attached { session: known, .. }
                if *known == session && self.incarnation.as_ref() == Some(&incarnation) =>
            {
                return Transition::AlreadySatisfied;
            }
            Link::Never | Link::Attached { .. } | Link::Silent { .. } => {}
        }
        let mut next = self.clone();
        let mut effects = Vec::new();
        if let Some(known) = &self.incarnation
            && *known != incarnation
        {
            effects.push(Effect::BuildsLost(Cause::new(
                CauseCode::Died,
                Some(FailureClass::AgentLost),
                "the agent was restarted; what it ran is lost",
            )));
        }
        next.link = Link::Attached { session, since: now };
        next.incarnation = Some(incarnation);
        if let Phase::Booting { at, .. } = &self.phase {
            next.phase = Phase::Up { at: at.clone() };
        }
        if let Phase::Resuming { at, since, .. } = &self.phase {
            next.phase = Phase::Up { at: at.clone() };
            next.resume_took = Some(now.since(*since));
            next.idle_since = Some(now);
        }
        if self.attached.is_none() {
            next.attached = Some(now);
            next.idle_since = Some(now);
        }
        Transition::Applied { next: Box::new(next), effects }
    }

    /// Nobody speaks any more, and it is to end: for what was decided first.
    fn lost(&self, cause: &Cause, now: Timestamp) -> Self {
        let mut next = self.clone();
        if matches!(next.link, Link::Attached { .. } | Link::Silent { .. }) {
            next.link = Link::Lost { at: now };
        }
        if !matches!(next.wanted, Wanted::End { .. }) {
            next.wanted = Wanted::End { cause: cause.clone() };
        }
        next
    }

    /// The record's end.
    fn closed(&self, cause: Cause, now: Timestamp) -> Transition {
        let mut next = self.lost(&cause, now);
        next.phase = Phase::Gone { cause };
        next.gone = Some(now);
        Transition::Applied { next: Box::new(next), effects: vec![] }
    }

    fn with(&self, phase: Phase) -> Self {
        let mut next = self.clone();
        next.phase = phase;
        next
    }

    fn to(&self, phase: Phase, effects: Vec<Effect>) -> Transition {
        Transition::Applied { next: Box::new(self.with(phase)), effects }
    }

    fn linked(&self, link: Link, effects: Vec<Effect>) -> Transition {
        let mut next = self.clone();
        next.link = link;
        Transition::Applied { next: Box::new(next), effects }
    }

    fn wanting(&self, wanted: Wanted, effects: Vec<Effect>) -> Transition {
        let mut next = self.clone();
        next.wanted = wanted;
        Transition::Applied { next: Box::new(next), effects }
    }
}
