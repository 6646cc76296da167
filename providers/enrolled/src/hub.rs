//! The machines that are connected to this master, each with the calls that it is to carry out. In memory alone: they come again.

use crate::wire::{Answer, Call};
use rouse_contract::Hint;
use rouse_model::worker::ProviderRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// Calls that wait for one machine.
const WAITING: usize = 256;
/// Hints of an account that wait to be read; more are dropped, as any hint may be.
const HINTS: usize = 1_024;

/// A machine within its account.
type Name = (String, String);

/// Which machines are connected. One for each master.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    hinted: Notify,
    since: Instant,
}

#[derive(Debug, Default)]
struct State {
    machines: HashMap<Name, Machine>,
    sessions: u64,
    hints: Vec<(String, Hint)>,
}

#[derive(Debug)]
struct Machine {
    /// `None` where it is away.
    line: Option<Line>,
    heard: Instant,
    /// May be launched on; not one that is to be let go.
    open: bool,
}

#[derive(Debug)]
struct Line {
    session: u64,
    incarnation: String,
    system: String,
    calls: mpsc::Sender<Numbered>,
    pending: HashMap<u64, oneshot::Sender<Answer>>,
    next: u64,
}

/// A call with the number by which its answer is known.
#[derive(Debug)]
pub struct Numbered {
    pub id: u64,
    pub call: Call,
}

/// What a machine's connection is given.
#[derive(Debug)]
pub struct Connected {
    pub session: u64,
    pub calls: mpsc::Receiver<Numbered>,
}

/// Why a machine may not be connected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// Another process with its key is.
    #[error("a machine of this name is connected already, and this is another one")]
    Another,
}

/// How a machine stands, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub connected: bool,
    pub system: Option<String>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It was never sent.
    #[error("machine `{0}` is not connected")]
    Away(String),
    /// It may have been carried out.
    #[error("the connection to machine `{0}` broke")]
    Broke(String),
}

impl Default for Hub {
    fn default() -> Self {
        Self { state: Mutex::default(), hinted: Notify::new(), since: Instant::now() }
    }
}

fn key(account: &str, name: &str) -> Name {
    (account.to_owned(), name.to_owned())
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    /// A machine has come. The same process again takes the place of its own older connection. Where it is not `open`, nothing is launched there.
    ///
    /// # Errors
    /// Where another one has its name.
    pub fn attach(
        &self,
        account: &str,
        name: &str,
        incarnation: &str,
        system: &str,
        open: bool,
    ) -> Result<Connected, AttachError> {
        let mut state = self.state();
        state.sessions += 1;
        let session = state.sessions;
        let machine = state.machines.entry(key(account, name)).or_insert_with(Machine::away);
        if machine.line.as_ref().is_some_and(|line| line.incarnation != incarnation) {
            return Err(AttachError::Another);
        }
        let (tell, calls) = mpsc::channel(WAITING);
        machine.line = Some(Line {
            session,
            incarnation: incarnation.to_owned(),
            system: system.to_owned(),
            calls: tell,
            pending: HashMap::new(),
            next: 0,
        });
        machine.heard = Instant::now();
        machine.open = open;
        drop(state);
        // There may be room where there was none.
        self.tell(account, Hint::Everything);
        Ok(Connected { session, calls })
    }

    /// A connection is over. Whoever waits for its answers is told.
    pub fn detach(&self, account: &str, name: &str, session: u64) {
        if let Some(machine) = self.state().machines.get_mut(&key(account, name))
            && machine.line.as_ref().is_some_and(|line| line.session == session)
        {
            machine.line = None;
            machine.heard = Instant::now();
        }
    }

    pub fn answered(&self, account: &str, name: &str, session: u64, id: u64, answer: Answer) {
        let waits = {
            let mut state = self.state();
            let machine = state.machines.get_mut(&key(account, name));
            let line = machine.and_then(|machine| machine.line.as_mut());
            line.filter(|line| line.session == session).and_then(|line| line.pending.remove(&id))
        };
        if let Some(waits) = waits {
            // Nobody may wait for it any more.
            let _ = waits.send(answer);
        }
    }

    /// A machine says that something happened to one of its instances.
    pub fn hint(&self, account: &str, name: &str, at: &ProviderRef) {
        self.tell(account, Hint::Instance(reference(name, at)));
    }

    fn tell(&self, account: &str, hint: Hint) {
        let mut state = self.state();
        if state.hints.iter().filter(|(of, _)| of == account).count() < HINTS {
            state.hints.push((account.to_owned(), hint));
        }
        drop(state);
        self.hinted.notify_waiters();
    }

    pub(crate) async fn next_hint(&self, account: &str) -> Hint {
        loop {
            let hinted = self.hinted.notified();
            tokio::pin!(hinted);
            hinted.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(at) = state.hints.iter().position(|(of, _)| of == account) {
                    return state.hints.remove(at).1;
                }
            }
            hinted.await;
        }
    }

    /// Nothing is launched there any more.
    pub fn revoke(&self, account: &str, name: &str) {
        if let Some(machine) = self.state().machines.get_mut(&key(account, name)) {
            machine.open = false;
        }
    }

    #[must_use]
    pub fn standing(&self, account: &str, name: &str) -> Standing {
        let state = self.state();
        let line = state.machines.get(&key(account, name)).and_then(|machine| machine.line.as_ref());
        Standing { connected: line.is_some(), system: line.map(|line| line.system.clone()) }
    }

    /// Machines of an account that are connected, by name; `true` for those that may be launched on.
    pub(crate) fn connected(&self, account: &str) -> Vec<(String, bool)> {
        let state = self.state();
        let of_account =
            state.machines.iter().filter(|((of, _), machine)| of == account && machine.line.is_some());
        let mut names: Vec<(String, bool)> =
            of_account.map(|((_, name), machine)| (name.clone(), machine.open)).collect();
        names.sort();
        names
    }

    /// How long a machine has been away, as far as this process can know; `None` where it is connected.
    pub(crate) fn away_for(&self, account: &str, name: &str) -> Option<Duration> {
        match self.state().machines.get(&key(account, name)) {
            Some(Machine { line: Some(_), .. }) => None,
            Some(machine) => Some(machine.heard.elapsed()),
            None => Some(self.since.elapsed()),
        }
    }

    pub(crate) async fn call(&self, account: &str, name: &str, call: Call) -> Result<Answer, CallError> {
        let (tell, told) = oneshot::channel();
        let away = || CallError::Away(name.to_owned());
        let (calls, id, session) = {
            let mut state = self.state();
            let machine = state.machines.get_mut(&key(account, name));
            let line = machine.and_then(|machine| machine.line.as_mut()).ok_or_else(away)?;
            line.next += 1;
            line.pending.insert(line.next, tell);
            (line.calls.clone(), line.next, line.session)
        };
        let _given_up = Pending { hub: self, at: key(account, name), session, id };
        calls.send(Numbered { id, call }).await.map_err(|_| away())?;
        told.await.map_err(|_| CallError::Broke(name.to_owned()))
    }
}

impl Machine {
    fn away() -> Self {
        Self { line: None, heard: Instant::now(), open: true }
    }
}

/// Forgets a call that nobody waits for any more.
struct Pending<'a> {
    hub: &'a Hub,
    at: Name,
    session: u64,
    id: u64,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if let Some(line) = state.machines.get_mut(&self.at).and_then(|machine| machine.line.as_mut())
            && line.session == self.session
        {
            line.pending.remove(&self.id);
        }
    }
}

/// A machine's instance as the account names it.
pub(crate) fn reference(machine: &str, at: &ProviderRef) -> ProviderRef {
    ProviderRef(format!("{machine}/{}", at.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_machine_with_one_name_is_refused_and_the_same_one_comes_again() {
        let hub = Hub::default();
        let first = hub.attach("rack", "a", "one", "linux", true).unwrap();
        assert_eq!(hub.attach("rack", "a", "two", "linux", true).unwrap_err(), AttachError::Another);
        let again = hub.attach("rack", "a", "one", "linux", true).unwrap();
        // The old connection's end says nothing of the new one.
        hub.detach("rack", "a", first.session);
        assert!(hub.standing("rack", "a").connected);
        hub.detach("rack", "a", again.session);
        assert!(!hub.standing("rack", "a").connected);
        assert!(hub.attach("rack", "a", "two", "linux", true).is_ok());
    }

    #[tokio::test]
    async fn a_call_is_answered_or_breaks_with_its_connection() {
        let hub = Hub::default();
        let call = || hub.call("rack", "a", Call::List {});
        assert_eq!(call().await, Err(CallError::Away("a".into())));
        let mut connected = hub.attach("rack", "a", "one", "linux", true).unwrap();
        let answer = async {
            let asked = connected.calls.recv().await.unwrap();
            hub.answered("rack", "a", connected.session, asked.id, Answer::Listed(vec![]));
        };
        assert_eq!(tokio::join!(call(), answer).0, Ok(Answer::Listed(vec![])));
        let breaks = async {
            connected.calls.recv().await.unwrap();
            hub.detach("rack", "a", connected.session);
        };
        assert_eq!(tokio::join!(call(), breaks).0, Err(CallError::Broke("a".into())));
    }

    #[tokio::test]
    async fn a_hint_goes_to_its_account() {
        let hub = Hub::default();
        hub.hint("other", "b", &ProviderRef("1".into()));
        hub.hint("rack", "a", &ProviderRef("2".into()));
        assert_eq!(hub.next_hint("rack").await, Hint::Instance(ProviderRef("a/2".into())));
        assert_eq!(hub.next_hint("other").await, Hint::Instance(ProviderRef("b/1".into())));
    }
}
