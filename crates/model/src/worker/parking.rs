//! A worker that lies stopped at its provider until work comes for it: what is wanted decides, what the provider has follows.

use super::{Effect, Link, Phase, Transition, Wanted, Worker, WorkerEvent};
use crate::Timestamp;

impl Worker {
    /// The events of parking. Whoever wants it again says so at any time; a provider that was asked to stop it is let finish first.
    pub(super) fn parking(&self, event: &WorkerEvent, now: Timestamp) -> Transition {
        use Transition::{AlreadySatisfied, Conflict};
        match (event, &self.wanted, &self.phase) {
            (WorkerEvent::Park, Wanted::Park, _) => AlreadySatisfied,
            (
                WorkerEvent::Park,
                Wanted::Run,
                Phase::Up { .. } | Phase::Parking { .. } | Phase::Parked { .. },
            ) => self.wanting(Wanted::Park, vec![]),
            (WorkerEvent::Park, ..) => Conflict("it is not idle"),
            (WorkerEvent::Resume, Wanted::Park, _) => self.wanting(Wanted::Run, vec![]),
            (WorkerEvent::Resume, Wanted::Run, _) => AlreadySatisfied,
            (WorkerEvent::Resume, ..) => Conflict("something else is wanted of it"),
            (WorkerEvent::ParkIssued, Wanted::Park, Phase::Up { at }) => {
                self.to(Phase::Parking { at: at.clone(), since: now }, vec![Effect::CallPark])
            }
            (WorkerEvent::ParkIssued, _, Phase::Parking { .. } | Phase::Parked { .. })
            | (WorkerEvent::ParkConfirmed, _, Phase::Parked { .. })
            | (WorkerEvent::ResumeIssued { .. }, _, Phase::Resuming { .. }) => AlreadySatisfied,
            (WorkerEvent::ParkIssued, ..) => Conflict("it is wanted again"),
            (WorkerEvent::ParkConfirmed, _, Phase::Parking { at, .. }) => {
                let mut next = self.with(Phase::Parked { at: at.clone(), since: now });
                // Its agent ended with it. The next one is another, with a key of its own. Who was given up meanwhile does not come back.
                if !matches!(self.link, Link::Lost { .. }) {
                    next.link = Link::Never;
                    (next.incarnation, next.agent_key, next.idle_since) = (None, None, None);
                }
                Transition::Applied { next: Box::new(next), effects: vec![] }
            }
            (WorkerEvent::ResumeIssued { deadline }, Wanted::Run, Phase::Parked { at, .. }) => {
                let (at, deadline) = (at.clone(), *deadline);
                let mut next = self.with(Phase::Resuming { at, since: now, deadline });
                next.resumes += 1;
                Transition::Applied { next: Box::new(next), effects: vec![Effect::CallResume] }
            }
            _ => Conflict("it is not parked"),
        }
    }

    /// Stopped, or being stopped: nothing runs in it that one could rely on.
    #[must_use]
    pub fn lies(&self) -> bool {
        matches!(self.phase, Phase::Parking { .. } | Phase::Parked { .. })
    }

    /// Since when it has been in the state of parking that it is in.
    #[must_use]
    pub fn parked_since(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Parking { since, .. } | Phase::Parked { since, .. } | Phase::Resuming { since, .. } => {
                Some(since)
            }
            _ => None,
        }
    }

    /// What is wanted of one whose drain was taken back.
    pub(super) fn undrained(&self) -> Wanted {
        if self.lies() { Wanted::Park } else { Wanted::Run }
    }
}
