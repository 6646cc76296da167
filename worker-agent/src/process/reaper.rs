//! The one collector of dead children, of commands and of whatever reparented to the agent.
//!
//! A thread waits for any child. The exit of a command's own process goes to that command; all others are orphans and just end.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rouse_agent_protocol::CommandId;

use super::spawn::wait_any;
use crate::control::{Control, Exit, lock};

/// How often an agent without children looks for orphans of others.
const STRANGERS: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Reaper {
    table: Mutex<Table>,
    /// A child was made, or one was collected.
    news: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    mains: HashMap<i32, (CommandId, Arc<Control>)>,
    /// Spawns between making the process and writing it down; until then its exit can come too early.
    in_flight: usize,
    early: HashMap<i32, Exit>,
    /// Counts children made; the reaper sleeps while it has seen them all go.
    spawned: u64,
}

impl Reaper {
    pub fn start() -> io::Result<Arc<Self>> {
        let reaper = Arc::new(Self::default());
        let own = reaper.clone();
        std::thread::Builder::new()
            .name("reaper".into())
            .stack_size(64 * 1024)
            .spawn(move || own.collect())?;
        Ok(reaper)
    }

    /// Make a process by `make` and watch it: `control` learns of its exit.
    pub fn spawn(
        &self,
        command: CommandId,
        control: &Arc<Control>,
        make: impl FnOnce() -> io::Result<i32>,
    ) -> io::Result<i32> {
        lock(&self.table).in_flight += 1;
        let made = make();
        let mut table = lock(&self.table);
        table.in_flight -= 1;
        table.spawned += 1;
        if let Ok(pid) = made {
            match table.early.remove(&pid) {
                Some(exit) => control.exited(exit),
                None => {
                    table.mains.insert(pid, (command, control.clone()));
                }
            }
        }
        if table.in_flight == 0 {
            table.early.clear();
        }
        drop(table);
        self.news.notify_all();
        made
    }

    /// The processes of commands that run, with their ids; and whether one is being made that is not among them yet.
    pub fn mains(&self) -> (BTreeMap<i32, CommandId>, bool) {
        let table = lock(&self.table);
        (table.mains.iter().map(|(pid, (id, _))| (*pid, *id)).collect(), table.in_flight > 0)
    }

    /// Wait until something was collected, or so long.
    pub fn wait_for_news(&self, most: Duration) {
        let table = lock(&self.table);
        drop(self.news.wait_timeout(table, most).unwrap_or_else(PoisonError::into_inner));
    }

    fn collect(&self) {
        let mut seen = 0;
        loop {
            match wait_any() {
                Ok((pid, exit)) => {
                    let mut table = lock(&self.table);
                    if let Some((_, control)) = table.mains.remove(&pid) {
                        control.exited(exit);
                    } else if table.in_flight > 0 {
                        table.early.insert(pid, exit);
                    }
                    drop(table);
                    self.news.notify_all();
                }
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    // No child: orphans come from children, save where the agent is process 1 and somebody entered its container.
                    let table = lock(&self.table);
                    let nothing_new = |table: &mut Table| table.spawned == seen && table.mains.is_empty();
                    let waited = self.news.wait_timeout_while(table, STRANGERS, nothing_new);
                    seen = waited.unwrap_or_else(PoisonError::into_inner).0.spawned;
                }
                // Interrupted by a signal.
                Err(_) => {}
            }
        }
    }
}
