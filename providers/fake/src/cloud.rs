//! The back end: what is there, what is on its way there, and what goes wrong. It decides by the test's clock alone, so it goes on while no master
//! runs.

mod parking;

use rouse_contract::units::Rate;
use rouse_contract::{EndedBy, LaunchItem, Observed, ObservedState, Tag};
use rouse_model::worker::{LaunchToken, ProviderRef};
use rouse_model::{Timestamp, WorkerId};
use rouse_testkit::clock::SimClock;
use rouse_testkit::faults::Script;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What faults strike: calls, and what a launch makes.
pub mod on {
    pub const RESOLVE: &str = "resolve";
    pub const LAUNCH: &str = "launch";
    pub const LIST: &str = "list";
    pub const INSPECT: &str = "inspect";
    pub const TERMINATE: &str = "terminate";
    pub const PARK: &str = "park";
    pub const RESUME: &str = "resume";
    pub const HINT: &str = "hint";
    pub const INSTANCE: &str = "instance";
}

/// What an owner says of an instance that it wanted back.
const PREEMPTED: &str = "preempted: its owner wanted it back";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A launch is refused; the next one need not be.
    NoCapacity,
    Quota,
    /// A launch finds its image not there any more; later it may be.
    NoImage,
    /// The call is refused.
    Throttled,
    /// The call never arrives, and nobody answers.
    Unheard,
    /// It arrives so much later, whoever waits for it then.
    Late(Duration),
    /// It is done, and nobody answers.
    Unanswered,
    /// It is done, and the answer says that the connection broke. Where a hint is struck, it is lost.
    Broken,
    /// A list, or a look at one instance, shows what was there so long ago.
    Lags(Duration),
    /// An instance that takes so much longer to boot.
    Slow(Duration),
    /// An instance that ends at its boot.
    Dies,
    /// An instance that runs, and whose agent never comes.
    Mute,
    /// An instance that its cloud wants back so long after its boot: it ends, and that can be seen.
    Preempted(Duration),
    /// An instance that somebody takes away so long after its boot, without a word.
    Vanishes(Duration),
}

#[derive(Debug)]
struct Instance {
    tag: Tag,
    made: Timestamp,
    boots: Timestamp,
    joins: bool,
    /// What lets its agent join has done so before: another time nobody lets it in.
    used: HashSet<Vec<u8>>,
    /// From when until when it was parked last.
    parked: Option<(Timestamp, Option<Timestamp>)>,
    resume: Duration,
    /// When it ended by itself, how, and what it printed.
    ended: Option<(Timestamp, String, String)>,
    /// When there was nothing of it any more.
    gone: Option<Timestamp>,
    /// Nobody asked for that.
    vanishes: bool,
    /// It ended for that.
    wanted_back: bool,
    offering: Option<String>,
}

impl Instance {
    fn is_there(&self, at: Timestamp) -> bool {
        self.made <= at && self.gone.is_none_or(|gone| gone > at)
    }

    fn state(&self, at: Timestamp) -> ObservedState {
        match &self.ended {
            Some((ended, detail, _)) if *ended <= at => {
                let by = if self.wanted_back { EndedBy::Preemption } else { EndedBy::Something };
                ObservedState::Ended { detail: detail.clone(), by }
            }
            _ if self.lies(at) => ObservedState::Parked,
            _ if self.boots > at => ObservedState::Starting,
            _ => ObservedState::Running,
        }
    }

    fn runs(&self, at: Timestamp) -> bool {
        self.is_there(at) && self.state(at) == ObservedState::Running
    }
}

#[derive(Debug)]
struct State {
    script: Script<Fault>,
    images: BTreeSet<String>,
    /// All that ever were, by number.
    instances: BTreeMap<u64, Instance>,
    /// Launches that arrive later.
    late: Vec<(Timestamp, Wish)>,
    launched: HashMap<LaunchToken, usize>,
    preempted: usize,
    /// How many it has of what it has not without end.
    stock: HashMap<String, usize>,
    calls: HashMap<&'static str, Calls>,
    /// Of what is read (`false`) and what is changed.
    credit: HashMap<bool, Credit>,
}

/// Of one kind.
#[derive(Debug, Default)]
struct Calls {
    made: usize,
    refused: usize,
}

/// How much may be asked at once, by a rate.
#[derive(Debug, Clone, Copy)]
struct Credit {
    left: f64,
    at: Timestamp,
}

/// A launch as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub tag: Tag,
    pub join: Vec<u8>,
    pub boot: Duration,
    pub resume: Duration,
    pub offering: Option<String>,
}

impl Wish {
    pub(crate) fn of(item: &LaunchItem, boot: Duration, resume: Duration) -> Self {
        let LaunchItem { tag, join, offering, .. } = item.clone();
        Self { tag, join, boot, resume, offering }
    }
}

/// All accounts and installations on it see the same.
#[derive(Debug)]
pub struct Cloud {
    clock: Arc<SimClock>,
    state: Mutex<State>,
    pub(crate) changed: Notify,
}

impl Cloud {
    #[must_use]
    pub fn new(clock: Arc<SimClock>, seed: u64, images: &[&str]) -> Arc<Self> {
        let state = State {
            script: Script::of(seed),
            images: images.iter().map(|&name| name.to_owned()).collect(),
            instances: BTreeMap::new(),
            late: Vec::new(),
            launched: HashMap::new(),
            preempted: 0,
            stock: HashMap::new(),
            calls: HashMap::new(),
            credit: HashMap::new(),
        };
        Arc::new(Self { clock, state: Mutex::new(state), changed: Notify::new() })
    }

    /// As it is now: what has arrived meanwhile is there.
    fn state(&self) -> (MutexGuard<'_, State>, Timestamp) {
        let now = self.clock.steady();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, late) = std::mem::take(&mut state.late).into_iter().partition(|(at, _)| *at <= now);
        state.late = late;
        let due: Vec<(Timestamp, Wish)> = due;
        for (at, wish) in due {
            // Who remembers tokens only as long as their instance is there makes no second one of a call that was overtaken.
            if !state.launched.contains_key(&wish.tag.token) {
                state.make(wish, at);
            }
        }
        (state, now)
    }

    /// What goes wrong from now on.
    pub fn script(&self, change: impl FnOnce(&mut Script<Fault>)) {
        change(&mut self.state().0.script);
    }

    /// How many instances there may be of an offering from now on; `None`: without end.
    pub fn stock(&self, offering: &str, count: Option<usize>) {
        let mut state = self.state().0;
        match count {
            Some(count) => _ = state.stock.insert(offering.to_owned(), count),
            None => _ = state.stock.remove(offering),
        }
    }

    /// Wants back all instances of an offering.
    pub fn preempt(&self, offering: &str) {
        let (mut state, now) = self.state();
        let state = &mut *state;
        for instance in state.instances.values_mut() {
            if instance.runs(now) && instance.offering.as_deref() == Some(offering) {
                (instance.ended, instance.wanted_back) = (Some((now, PREEMPTED.into(), String::new())), true);
                state.preempted += 1;
            }
        }
        self.changed.notify_waiters();
    }

    /// How many faults have struck.
    #[must_use]
    pub fn struck(&self) -> usize {
        self.state().0.script.struck()
    }

    /// How many instances were made that their cloud wants back.
    #[must_use]
    pub fn preempted(&self) -> usize {
        self.state().0.preempted
    }

    /// Agents that run and have come to their master, with the tokens of their instances.
    #[must_use]
    pub fn agents(&self) -> Vec<(WorkerId, LaunchToken)> {
        let (state, now) = self.state();
        let there = state.instances.values().filter(|i| i.joins && i.runs(now));
        there.map(|i| (i.tag.worker, i.tag.token.clone())).collect()
    }

    /// Agents that have come, with those whose instance its cloud shows as ended and has not stopped yet.
    #[must_use]
    pub fn agents_that_speak(&self) -> Vec<(WorkerId, LaunchToken)> {
        let (state, now) = self.state();
        let there =
            state.instances.values().filter(|i| i.joins && i.is_there(now) && i.boots <= now && !i.lies(now));
        there.map(|i| (i.tag.worker, i.tag.token.clone())).collect()
    }

    /// How many instances of a token run.
    #[must_use]
    pub fn running(&self, token: &LaunchToken) -> usize {
        let (state, now) = self.state();
        state.instances.values().filter(|i| i.tag.token == *token && i.runs(now)).count()
    }

    /// All that is there, running or not, or will come by a launch that is late.
    #[must_use]
    pub fn leftovers(&self) -> Vec<Tag> {
        let (state, now) = self.state();
        let there = state.instances.values().filter(|i| i.is_there(now)).map(|i| &i.tag);
        there.chain(state.late.iter().map(|(_, wish)| &wish.tag)).cloned().collect()
    }

    /// How many instances were made of each token, but for those in the place of one that had vanished.
    #[must_use]
    pub fn launched(&self) -> HashMap<LaunchToken, usize> {
        self.state().0.launched.clone()
    }

    /// Ends the instances of a token as an operator, the kernel or their own agent would.
    pub fn kill(&self, token: &LaunchToken, detail: &str) {
        let (mut state, now) = self.state();
        for instance in state.instances.values_mut().filter(|i| i.tag.token == *token && i.runs(now)) {
            instance.ended = Some((now, detail.to_owned(), String::new()));
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// How many calls of a kind were made, and how many of them were more than the cloud takes.
    #[must_use]
    pub fn calls(&self, on: &'static str) -> (usize, usize) {
        self.state().0.calls.get(on).map_or((0, 0), |calls| (calls.made, calls.refused))
    }

    /// Counts a call; whether the cloud takes it. A second's worth may come at once.
    pub(crate) fn admits(&self, on: &'static str, rate: Option<Rate>) -> bool {
        let (mut state, now) = self.state();
        let state = &mut *state;
        let calls = state.calls.entry(on).or_default();
        calls.made += 1;
        let Some(rate) = rate.map(Rate::per_second) else { return true };
        let burst = rate.max(1.0);
        let changes = !matches!(on, self::on::LIST | self::on::INSPECT);
        let credit = state.credit.entry(changes).or_insert(Credit { left: burst, at: now });
        credit.left = (credit.left + now.since(credit.at).as_secs_f64() * rate).min(burst);
        credit.at = now;
        // The clock has whole microseconds.
        let admitted = credit.left > 1.0 - 1e-3;
        if admitted {
            credit.left -= 1.0;
        } else {
            calls.refused += 1;
        }
        admitted
    }

    pub(crate) fn fault(&self, on: &'static str) -> Option<Fault> {
        self.state().0.script.next(on)
    }

    pub(crate) fn has_image(&self, name: &str) -> bool {
        self.state().0.images.contains(name)
    }

    /// The instance of a token, made where there is none; as it is, and what it printed. `None` where there is no room for another one.
    pub(crate) fn launch(&self, wish: Wish, capacity: Option<usize>) -> Option<(Observed, String)> {
        let (mut state, now) = self.state();
        let there = state.instances.iter().filter(|(_, i)| i.is_there(now));
        let found = there.clone().find(|(_, i)| i.tag == wish.tag).map(|(number, _)| *number);
        let alike = there.clone().filter(|(_, i)| i.offering == wish.offering).count();
        let stock = wish.offering.as_ref().and_then(|offering| state.stock.get(offering));
        let is_out = stock.is_some_and(|stock| alike >= *stock);
        if found.is_none() && (is_out || capacity.is_some_and(|most| there.count() >= most)) {
            return None;
        }
        let number = found.unwrap_or_else(|| state.make(wish, now));
        let instance = &state.instances[&number];
        let console = instance.ended.as_ref().map_or(String::new(), |(_, _, console)| console.clone());
        let observed = observed(number, instance, now);
        drop(state);
        self.changed.notify_waiters();
        Some((observed, console))
    }

    pub(crate) fn launch_later(&self, wish: Wish, after: Duration) {
        let (mut state, now) = self.state();
        state.late.push((now + after, wish));
    }

    /// What an installation had so long ago.
    pub(crate) fn list(&self, installation: &str, lag: Duration) -> Vec<Observed> {
        let (state, now) = self.state();
        let at = now - lag;
        let ours = state.instances.iter().filter(|(_, i)| i.tag.installation == installation);
        ours.filter(|(_, i)| i.is_there(at)).map(|(number, i)| observed(*number, i, at)).collect()
    }

    pub(crate) fn console(&self, installation: &str, at: &ProviderRef) -> Option<String> {
        let (state, now) = self.state();
        let instance = state.instances.get(&number_of(at)?)?;
        let ours = instance.tag.installation == installation && instance.is_there(now);
        let ended = instance.ended.as_ref().filter(|(ended, _, _)| ours && *ended <= now);
        ended.map(|(_, _, console)| console.clone())
    }

    pub(crate) fn remove(&self, installation: &str, at: &ProviderRef) {
        let (mut state, now) = self.state();
        let found = number_of(at).and_then(|number| state.instances.get_mut(&number));
        if let Some(instance) = found.filter(|i| i.tag.installation == installation && i.is_there(now)) {
            (instance.gone, instance.vanishes) = (Some(now), false);
        }
    }

    /// Instances of an installation that have ended by themselves, and how long it is until the next one does.
    pub(crate) fn ends(&self, installation: &str) -> (Vec<ProviderRef>, Option<Duration>) {
        let (state, now) = self.state();
        let ours = state.instances.iter().filter(|(_, i)| i.tag.installation == installation);
        let ends = ours.filter(|(_, i)| i.is_there(now)).filter_map(|(n, i)| Some((*n, i.ended.as_ref()?.0)));
        let (over, to_come): (Vec<_>, Vec<_>) = ends.partition(|(_, at)| *at <= now);
        let next = to_come.into_iter().map(|(_, at)| at.since(now)).min();
        (over.into_iter().map(|(number, _)| reference(number)).collect(), next)
    }
}

impl State {
    fn make(&mut self, wish: Wish, now: Timestamp) -> u64 {
        let fate = self.script.next(on::INSTANCE);
        let slower = if let Some(Fault::Slow(by)) = fate { by } else { Duration::ZERO };
        let boots = now + wish.boot + slower;
        let ended = match fate {
            Some(Fault::Dies) => {
                Some((boots, "exit status 1".to_owned(), "the kernel panicked\n".to_owned()))
            }
            Some(Fault::Preempted(after)) => {
                self.preempted += 1;
                Some((boots + after, PREEMPTED.to_owned(), String::new()))
            }
            _ if serde_json::from_slice::<serde_json::Value>(&wish.join).is_err() => {
                let console = "the join document cannot be read\n".to_owned();
                Some((boots, "exit status 2".to_owned(), console))
            }
            _ => None,
        };
        let gone = if let Some(Fault::Vanishes(after)) = fate { Some(boots + after) } else { None };
        let joins = fate != Some(Fault::Mute);
        let vanished =
            self.instances.values().rev().find(|i| i.tag.token == wish.tag.token).is_some_and(|i| i.vanishes);
        *self.launched.entry(wish.tag.token.clone()).or_default() += usize::from(!vanished);
        let number = u64::try_from(self.instances.len()).unwrap_or(u64::MAX) + 1;
        self.instances.insert(
            number,
            Instance {
                tag: wish.tag,
                made: now,
                boots,
                joins,
                used: HashSet::from([wish.join]),
                parked: None,
                resume: wish.resume,
                ended,
                gone,
                vanishes: gone.is_some(),
                wanted_back: matches!(fate, Some(Fault::Preempted(_))),
                offering: wish.offering,
            },
        );
        number
    }
}

fn observed(number: u64, instance: &Instance, at: Timestamp) -> Observed {
    Observed { at: reference(number), tag: Some(instance.tag.clone()), state: instance.state(at) }
}

fn reference(number: u64) -> ProviderRef {
    ProviderRef(format!("i-{number}"))
}

fn number_of(at: &ProviderRef) -> Option<u64> {
    at.0.strip_prefix("i-")?.parse().ok()
}
