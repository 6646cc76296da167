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

/// An agent that has heard of no master for the time of the dead-man has ended itself; so much later that is certain.
const CERTAIN: Duration = DEAD_MAN.saturating_add(Duration::from_secs(120));

/// One account: a group of machines.
#[derive(Debug)]
pub(crate) struct Machines {
    hub: Arc<Hub>,
    account: String,
    /// On each machine.
    workers: usize,
    /// Where launches went that a list may not show yet: so no two machines are asked for one worker.
    placed: Mutex<HashMap<LaunchToken, Placed>>,
    /// One place is chosen at a time.
    choosing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Placed {
    machine: String,
    /// The machine has said what came of it; a list shows it from then on.
    answered: bool,
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
        Self {
            hub,
            account: account.to_owned(),
            workers,
            placed: Mutex::default(),
            choosing: tokio::sync::Mutex::default(),
        }
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
        match self.ask(machine, "list workers", Call::List {}).await? {
            Answer::Listed(all) => Ok(all.into_iter().map(|seen| named(machine, seen)).collect()),
            other => Err(unfit(machine, "list workers", &other)),
        }
    }

    /// What each connected machine has; one whose connection breaks meanwhile is as if it had not been there.
    async fn all(&self) -> Result<Vec<(String, bool, Vec<Observed>)>, ProviderError> {
        let machines = self.hub.connected(&self.account);
        let lists = machines.iter().map(|(name, _)| self.list_of(name));
        let mut all = Vec::new();
        for ((name, open), list) in machines.iter().zip(join_all(lists).await) {
            match list {
                Ok(list) => all.push((name.clone(), *open, list)),
                Err(_) if self.hub.away_for(&self.account, name).is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// The machine that has an instance already, or the one with most room, where it is written down then.
    async fn choose(&self, tag: &Tag) -> Result<Place, ProviderError> {
        let _one_at_a_time = self.choosing.lock().await;
        let before = self.placed().get(&tag.token).cloned();
        if let Some(Placed { machine, .. }) = before {
            let away = self.hub.away_for(&self.account, &machine);
            return Ok(match away {
                None => Place::On(machine),
                // What was there has ended itself.
                Some(away) if away > CERTAIN => {
                    self.placed().remove(&tag.token);
                    Place::Lost(machine)
                }
                Some(_) => Place::Lost(machine),
            });
        }
        let all = self.all().await?;
        let holder = all.iter().find(|(_, _, list)| list.iter().any(|seen| is_of(seen, &tag.token)));
        if let Some((machine, ..)) = holder {
            return Ok(Place::On(machine.clone()));
        }
        let mut placed = self.placed();
        let mut best: Option<(usize, &str)> = None;
        for (machine, open, list) in &all {
            let mut there: HashSet<&LaunchToken> =
                list.iter().filter_map(|seen| seen.tag.as_ref()).map(|tag| &tag.token).collect();
            placed.retain(|token, at| at.machine != *machine || !at.answered || there.contains(token));
            there.extend(placed.iter().filter(|(_, at)| at.machine == *machine).map(|(token, _)| token));
            let taken = there.len();
            if *open && taken < self.workers && best.is_none_or(|(least, _)| taken < least) {
                best = Some((taken, machine));
            }
        }
        let Some((_, machine)) = best else { return Ok(Place::Nowhere(self.no_room(all.len()))) };
        let machine = machine.to_owned();
        placed.insert(tag.token.clone(), Placed { machine: machine.clone(), answered: false });
        Ok(Place::On(machine))
    }

    fn no_room(&self, connected: usize) -> String {
        let Self { account, workers, .. } = self;
        match connected {
            0 => format!(
                "a worker on `{account}`: none of its machines is connected (`rouse worker machines`)"
            ),
            n => format!(
                "a worker on `{account}`: the {n} machine(s) that are connected run {workers} each, and no more"
            ),
        }
    }

    async fn launch_one(&self, spec: &LaunchSpec, item: &LaunchItem) -> LaunchOutcome {
        let machine = match self.choose(&item.tag).await {
            Ok(Place::On(machine)) => machine,
            Ok(Place::Lost(machine)) => {
                return LaunchOutcome::Unknown {
                    reason: format!("machine `{machine}` has gone away meanwhile"),
                };
            }
            Ok(Place::Nowhere(offering)) => return LaunchOutcome::NoCapacity { offering },
            Err(error) => return LaunchOutcome::Unknown { reason: error.to_string() },
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
        let token = &item.tag.token;
        match self.hub.call(&self.account, &machine, call).await {
            Ok(Answer::Launched(outcome)) => {
                if let Some(placed) = self.placed().get_mut(token) {
                    placed.answered = true;
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

fn is_of(seen: &Observed, token: &LaunchToken) -> bool {
    seen.tag.as_ref().is_some_and(|tag| tag.token == *token)
}

fn named(machine: &str, seen: Observed) -> Observed {
    Observed { at: reference(machine, &seen.at), ..seen }
}

/// An outcome with the account's own names.
fn on(machine: &str, outcome: LaunchOutcome) -> LaunchOutcome {
    match outcome {
        LaunchOutcome::Accepted { at } => LaunchOutcome::Accepted { at: reference(machine, &at) },
        LaunchOutcome::Died { at, reason, console } => {
            LaunchOutcome::Died { at: reference(machine, &at), reason, console }
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
        Ok(self.all().await?.into_iter().flat_map(|(_, _, list)| list).collect())
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
