//! Instances that lie stopped.

use super::{Cloud, Fault, Instance, State, number_of, on};
use rouse_contract::ObservedState;
use rouse_model::Timestamp;
use rouse_model::worker::ProviderRef;
use std::time::Duration;

impl Cloud {
    /// Parks an instance, and answers whether there is one that could be: one that has ended is none.
    pub(crate) fn park(&self, installation: &str, at: &ProviderRef) -> bool {
        let (mut state, now) = self.state();
        let Some(instance) = state.of(installation, at, now) else { return false };
        if !instance.lies(now) {
            instance.parked = Some((now, None));
            instance.outlasts(now);
        }
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// Resumes an instance, and answers whether there is one.
    pub(crate) fn resume(&self, installation: &str, at: &ProviderRef, join: &[u8]) -> bool {
        let (mut state, now) = self.state();
        let fate = state.of(installation, at, now).is_some_and(|i| i.lies(now));
        let fate = if fate { state.script.next(on::INSTANCE) } else { None };
        let Some(instance) = state.of(installation, at, now) else { return false };
        if let (true, Some((from, None))) = (instance.lies(now), instance.parked) {
            instance.parked = Some((from, Some(now)));
            let slower = if let Some(Fault::Slow(by)) = fate { by } else { Duration::ZERO };
            instance.boots = now + instance.resume + slower;
            instance.joins = fate != Some(Fault::Mute) && instance.used.insert(join.to_vec());
            match fate {
                Some(Fault::Dies) => instance.ends(instance.boots, "exit status 1"),
                Some(Fault::Vanishes(after)) => {
                    (instance.gone, instance.vanishes) = (Some(instance.boots + after), true);
                }
                _ => {}
            }
        }
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// How many instances lie parked.
    #[must_use]
    pub fn parked(&self) -> usize {
        let (state, now) = self.state();
        state.instances.values().filter(|i| i.is_there(now) && i.state(now) == ObservedState::Parked).count()
    }
}

impl Instance {
    pub(super) fn lies(&self, at: Timestamp) -> bool {
        self.parked.is_some_and(|(from, until)| from <= at && until.is_none_or(|until| until > at))
    }

    fn ends(&mut self, at: Timestamp, how: &str) {
        self.ended = Some((at, how.to_owned(), String::new()));
    }

    /// What was to happen to it while it ran does not.
    fn outlasts(&mut self, now: Timestamp) {
        if self.gone.is_some_and(|gone| gone > now) {
            (self.gone, self.vanishes) = (None, false);
        }
        if self.ended.as_ref().is_some_and(|(ended, _, _)| *ended > now) {
            (self.ended, self.wanted_back) = (None, false);
        }
    }
}

impl State {
    /// One that is there and has not ended.
    fn of(&mut self, installation: &str, at: &ProviderRef, now: Timestamp) -> Option<&mut Instance> {
        let instance = self.instances.get_mut(&number_of(at)?)?;
        let ended = instance.ended.as_ref().is_some_and(|(ended, _, _)| *ended <= now);
        (instance.tag.installation == installation && instance.is_there(now) && !ended).then_some(instance)
    }
}
