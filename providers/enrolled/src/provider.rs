//! The contract over the machines of one account: each call goes to the machine that has, or is to have, the instance.

use crate::Hub;
use crate::hub::{CallError, reference};
use crate::wire::{Answer, Call, Secret};
use async_trait::async_trait;
use futures::future::join_all;
use rouse_contract::{
    Capabilities, Hint, LaunchItem, LaunchOutcome, LaunchSpec, Observed, Provider, ProviderError,
    ResolveRequest, Resolved, Tag,
};
use rouse_model::failure::FailureClass;
use rouse_model::worker::{DEAD_MAN, LaunchToken, ProviderRef};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// An agent that has heard of no master for the time of the dead-man has ended itself; so much later that is certain.
const CERTAIN: Duration = DEAD_MAN.saturating_add(Duration::from_secs(120));

/// A machine that has not said by then what it has gets no new worker; nobody waits for it longer than that.
const LISTING: Duration = Duration::from_secs(10);
/// Where nobody has asked for a launch for so long, its call is over, and nobody asks for it again: whether there is something is what the machine's list says.
const UNASKED: Duration = Duration::from_secs(180);

/// One account: a group of machines.
#[derive(Debug)]
pub(crate) struct Machines {
    hub: Arc<Hub>,
    account: String,
    /// On each machine.
    workers: usize,
    /// Where launches went that a list may not show yet: so no two machines are asked for one worker, and none for too many.
    placed: Mutex<HashMap<LaunchToken, Placed>>,
}

#[derive(Debug, Clone)]
struct Placed {
    machine: String,
    /// A list that was asked for later shows what there is.
    shown: Instant,
}

/// What a connected machine has.
struct Listed {
    machine: String,
    /// It may be launched on.
    open: bool,
    /// Or why it did not say so.
    there: Result<Vec<Observed>, ProviderError>,
}

/// Where an instance is to be.
enum Place {
    On(String),
    /// Nobody knows what became of it while this machine is away.
    Lost(String),
    Nowhere(String),
}

impl Machines {
    pub(crate) fn new(hub: Arc<Hub>, account: &str, workers: usize) -> Self {
        Self { hub, account: account.to_owned(), workers, placed: Mutex::default() }
    }

    fn placed(&self) -> MutexGuard<'_, HashMap<LaunchToken, Placed>> {
        self.placed.lock().expect("nothing panics while it is held")
    }

    async fn ask(&self, machine: &str, doing: &str, call: Call) -> Result<Answer, ProviderError> {
        match self.hub.call(&self.account, machine, call).await {
            Ok(Answer::Failed { class, doing, message }) => {
                Err(ProviderError::new(class, format!("machine `{machine}`: {doing}"), message))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(ProviderError::new(FailureClass::Offering, doing, error.to_string())),
        }
    }

    async fn list_of(&self, machine: &str) -> Result<Vec<Observed>, ProviderError> {
        const DOING: &str = "list workers";
        let late = |_| {
            let message = format!("machine `{machine}` did not answer within {} s", LISTING.as_secs());
            ProviderError::new(FailureClass::Offering, DOING, message)
        };
        match timeout(LISTING, self.ask(machine, DOING, Call::List {})).await.map_err(late)?? {
            Answer::Listed(all) => Ok(all.into_iter().map(|seen| named(machine, seen)).collect()),
            other => Err(unfit(machine, DOING, &other)),
        }
    }

    /// What each connected machine has; one whose connection breaks meanwhile is as if it had not been there.
    async fn all(&self) -> Vec<Listed> {
        let machines = self.hub.connected(&self.account);
        let listed = machines.into_iter().map(async |(machine, open)| {
            let there = self.list_of(&machine).await;
            Listed { machine, open, there }
        });
        let mut all = join_all(listed).await;
        all.retain(|of| of.there.is_ok() || self.hub.away_for(&self.account, &of.machine).is_none());
        all
    }

    /// The machine that has an instance already, or the one with most room, where it is written down then.
    async fn choose(&self, token: &LaunchToken) -> Place {
        if let Some(place) = self.place_before(&mut self.placed(), token) {
            return place;
        }
        let asked = Instant::now();
        let all = self.all().await;
        let mut placed = self.placed();
        // Somebody may have asked for the same meanwhile.
        if let Some(place) = self.place_before(&mut placed, token) {
            return place;
        }
        let mut best: Option<(usize, &str)> = None;
        for Listed { machine, open, there } in &all {
            let Ok(there) = there else { continue };
            let mut taken: HashSet<&LaunchToken> =
                there.iter().filter_map(|seen| seen.tag.as_ref()).map(|tag| &tag.token).collect();
            if taken.contains(token) {
                return Place::On(machine.clone());
            }
            placed.retain(|token, at| at.machine != *machine || at.shown >= asked || taken.contains(token));
            taken.extend(placed.iter().filter(|(_, at)| at.machine == *machine).map(|(token, _)| token));
            let taken = taken.len();
            if *open && taken < self.workers && best.is_none_or(|(least, _)| taken < least) {
                best = Some((taken, machine));
            }
        }
        let Some((_, machine)) = best else { return Place::Nowhere(self.no_room(&all)) };
        let machine = machine.to_owned();
        let shown = Instant::now() + UNASKED;
        placed.insert(token.clone(), Placed { machine: machine.clone(), shown });
        Place::On(machine)
    }

    /// Where a launch went before.
    fn place_before(&self, placed: &mut HashMap<LaunchToken, Placed>, token: &LaunchToken) -> Option<Place> {
        let before = placed.get_mut(token)?;
        before.shown = Instant::now() + UNASKED;
        let machine = before.machine.clone();
        let Some(away) = self.hub.away_for(&self.account, &machine) else { return Some(Place::On(machine)) };
        if away > CERTAIN {
            // What was there has ended itself.
            placed.remove(token);
        }
        Some(Place::Lost(machine))
    }

    fn no_room(&self, all: &[Listed]) -> String {
        let Self { account, workers, .. } = self;
        let silent: Vec<String> =
            all.iter().filter_map(|of| of.there.as_ref().err()).map(ToString::to_string).collect();
        let mut why = match all.len() - silent.len() {
            0 if silent.is_empty() => {
                "none of its machines is connected (`rouse worker machines`)".to_owned()
            }
            0 => "none of its machines that are connected answers".to_owned(),
            n => format!("the {n} machine(s) that are connected run {workers} each, and no more"),
        };
        for silent in silent {
            why = format!("{why}; {silent}");
        }
        format!("a worker on `{account}`: {why}")
    }

    async fn launch_one(&self, spec: &LaunchSpec, item: &LaunchItem) -> LaunchOutcome {
        let token = &item.tag.token;
        let machine = match self.choose(token).await {
            Place::On(machine) => machine,
            Place::Lost(machine) => {
                return LaunchOutcome::Unknown {
                    reason: format!("machine `{machine}` has gone away meanwhile"),
                };
            }
            Place::Nowhere(offering) => return LaunchOutcome::NoCapacity { offering },
        };
        let Ok(join) = String::from_utf8(item.join.clone()) else {
            let reason = "the join document is not text".to_owned();
            return LaunchOutcome::Invalid { class: FailureClass::Master, reason };
        };
        let call = Call::Launch {
            spec: Box::new(spec.clone()),
            tag: item.tag.clone(),
            join: Secret(join),
            expires: item.expires.0,
        };
        match self.hub.call(&self.account, &machine, call).await {
            Ok(Answer::Launched(outcome)) => {
                let is_settled = !matches!(outcome, LaunchOutcome::Unknown { .. } | LaunchOutcome::Pending);
                if let Some(placed) = self.placed().get_mut(token).filter(|_| is_settled) {
                    placed.shown = Instant::now();
                }
                on(&machine, outcome)
            }
            Ok(Answer::Failed { doing, message, .. }) => {
                LaunchOutcome::Unknown { reason: format!("machine `{machine}`: {doing}: {message}") }
            }
            Ok(other) => LaunchOutcome::Unknown { reason: unfit(&machine, "launch", &other).to_string() },
            Err(error @ CallError::Away(_)) => {
                // It was never asked: another one may be.
                self.placed().remove(token);
                LaunchOutcome::Unknown { reason: error.to_string() }
            }
            Err(error @ CallError::Broke(_)) => LaunchOutcome::Unknown { reason: error.to_string() },
        }
    }

    /// The machine and its own name of an instance; `None` for what is no reference of ours.
    fn split(at: &ProviderRef) -> Option<(&str, ProviderRef)> {
        let (machine, own) = at.0.split_once('/')?;
        Some((machine, ProviderRef(own.to_owned())))
    }

    /// Whether what a machine had has ended itself for want of a master.
    fn has_ended_itself(&self, machine: &str) -> bool {
        self.hub.away_for(&self.account, machine).is_some_and(|away| away > CERTAIN)
    }
}

fn named(machine: &str, seen: Observed) -> Observed {
    Observed { at: reference(machine, &seen.at), ..seen }
}

/// An outcome with the account's own names.
fn on(machine: &str, outcome: LaunchOutcome) -> LaunchOutcome {
    match outcome {
        LaunchOutcome::Accepted { at } => LaunchOutcome::Accepted { at: reference(machine, &at) },
        LaunchOutcome::Died { at, reason, by, console } => {
            LaunchOutcome::Died { at: reference(machine, &at), reason, by, console }
        }
        other => other,
    }
}

fn unfit(machine: &str, doing: &str, answer: &Answer) -> ProviderError {
    let message = format!("machine `{machine}` answered something else: {answer:?}");
    ProviderError::new(FailureClass::Offering, doing, message)
}

#[async_trait]
impl Provider for Machines {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            images: false,
            host_bound: false,
            console: true,
            shares_host_network: false,
            largest_batch: 1,
            park: false,
        }
    }

    async fn resolve(&self, _request: &ResolveRequest) -> Result<Resolved, ProviderError> {
        Ok(Resolved { image: String::new(), id: "machine".into() })
    }

    async fn link_dir(&self, _tag: &Tag) -> Result<Option<PathBuf>, ProviderError> {
        Ok(None)
    }

    async fn launch(&self, spec: &LaunchSpec, items: &[LaunchItem]) -> Vec<LaunchOutcome> {
        join_all(items.iter().map(|item| self.launch_one(spec, item))).await
    }

    /// Of the machines that are connected: those that are away can be asked nothing, and what they have is not believed to be gone before they are asked.
    async fn list(&self) -> Result<Vec<Observed>, ProviderError> {
        let all: Result<Vec<Vec<Observed>>, ProviderError> =
            self.all().await.into_iter().map(|of| of.there).collect();
        Ok(all?.into_iter().flatten().collect())
    }

    async fn inspect(&self, at: &ProviderRef) -> Result<Option<Observed>, ProviderError> {
        let Some((machine, own)) = Self::split(at) else { return Ok(None) };
        if self.has_ended_itself(machine) {
            return Ok(None);
        }
        match self.ask(machine, &format!("inspect {}", at.0), Call::Inspect { at: own }).await? {
            Answer::Inspected(seen) => Ok(seen.map(|seen| named(machine, seen))),
            other => Err(unfit(machine, "inspect", &other)),
        }
    }

    async fn terminate(&self, at: &ProviderRef) -> Result<(), ProviderError> {
        let Some((machine, own)) = Self::split(at) else { return Ok(()) };
        if self.has_ended_itself(machine) {
            return Ok(());
        }
        match self.ask(machine, &format!("terminate {}", at.0), Call::Terminate { at: own }).await? {
            Answer::Done {} => Ok(()),
            other => Err(unfit(machine, "terminate", &other)),
        }
    }

    async fn next_hint(&self) -> Hint {
        self.hub.next_hint(&self.account).await
    }

    async fn console_tail(
        &self,
        at: &ProviderRef,
        max_bytes: usize,
    ) -> Result<Option<String>, ProviderError> {
        let Some((machine, own)) = Self::split(at) else { return Ok(None) };
        let call = Call::Console { at: own, max_bytes };
        match self.ask(machine, &format!("read the console of {}", at.0), call).await? {
            Answer::Console(text) => Ok(text),
            other => Err(unfit(machine, "read a console", &other)),
        }
    }
}

#[cfg(test)]
mod tests;
