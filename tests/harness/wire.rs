//! The wire between an agent and its master: it can be cut, left half open, slowed, and let go again.
//!
//! Its agents are told of another socket beside their worker's own; what comes there is passed on to the real one. In a thread of its own for each
//! direction of each connection, in small pieces; what is in it is a few hundred kilobytes at most.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Scratch;
use super::master::ROUSE;

/// Bytes passed on at once: at the slowest rate, a fraction of a second's worth.
const PIECE: usize = 8 * 1024;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Every connection breaks, and new ones are refused.
    Cut,
    /// Nothing gets through, and neither side is told.
    HalfOpen,
    /// So many bytes in a second, in each direction, over all connections.
    Slow(usize),
}

/// The socket that agents come to.
const WIRE: &str = "wire";

/// A copy of the master's binary whose agents come by wires: to be made for each worker, or it never attaches.
pub fn binary(scratch: &Scratch) -> PathBuf {
    let folder = scratch.folder("bin");
    let binary = folder.join("rouse");
    std::fs::hard_link(ROUSE, &binary)
        .or_else(|_| std::fs::copy(ROUSE, &binary).map(drop))
        .expect("a second name");
    let agents = Path::new("agents").join(format!("linux-{}", std::env::consts::ARCH));
    let shipped = Path::new(ROUSE).parent().expect("it lies in a folder").join(&agents).join("rouse-agent");
    let real = folder.join("agent");
    std::fs::copy(shipped, &real).expect("the agent is built");
    let script = format!(
        "#!/bin/sh\n# run --join FILE --work DIR --state DIR\njoin=$3 work=$5 state=$7\n\
         sed \"s#\\\"sock\\\"#\\\"$(dirname \"$join\")/{WIRE}\\\"#\" \"$join\" > \"$work/join.json\" || exit 1\n\
         exec '{}' run --join \"$work/join.json\" --work \"$work\" --state \"$state\"\n",
        real.display()
    );
    let agent = scratch.folder("bin").join(agents).join("rouse-agent");
    std::fs::create_dir_all(agent.parent().expect("it has one")).expect("a folder can be made");
    std::fs::write(&agent, script).expect("the folder is ours");
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).expect("the file is ours");
    binary
}

pub struct Wire {
    shared: Arc<Shared>,
    place: PathBuf,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    behind: PathBuf,
}

struct State {
    way: Way,
    /// When the next bytes may pass, there and back.
    next: [Instant; 2],
    passed: [u64; 2],
    connections: Vec<UnixStream>,
    ended: bool,
}

impl Wire {
    /// In a worker's link folder.
    pub fn at(folder: &Path) -> Self {
        let place = folder.join(WIRE);
        let behind = folder.join("sock");
        let listener = UnixListener::bind(&place).expect("its place is free");
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o666)).expect("the socket is ours");
        let state = State {
            way: Way::Open,
            next: [Instant::now(); 2],
            passed: [0; 2],
            connections: Vec::new(),
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), behind });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serving.serve(&listener));
        Self { shared, place }
    }

    pub fn set(&self, way: Way) {
        let mut state = self.shared.lock();
        state.way = way;
        if way == Way::Cut {
            state.break_all();
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Bytes that went to the master so far.
    pub fn passed(&self) -> u64 {
        self.shared.lock().passed[0]
    }

    /// Connections that were made so far, broken ones included.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.ended = true;
            state.break_all();
        }
        self.shared.changed.notify_all();
        // Whoever waits for a connection gets one, and sees the end. The folder may be gone with its worker.
        let _ = UnixStream::connect(&self.place);
    }
}

impl State {
    fn break_all(&mut self) {
        for connection in &self.connections {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn serve(self: Arc<Self>, listener: &UnixListener) {
        while let Ok((agent, _)) = listener.accept() {
            let mut state = self.lock();
            if state.ended {
                return;
            }
            if state.way == Way::Cut {
                continue;
            }
            let Ok(master) = UnixStream::connect(&self.behind) else { continue };
            let [from_agent, to_agent, kept] = [(); 3].map(|()| agent.try_clone().expect("a handle is free"));
            let [from_master, to_master, kept_too] =
                [(); 3].map(|()| master.try_clone().expect("a handle is free"));
            state.connections.extend([kept, kept_too]);
            drop(state);
            for (direction, from, to) in [(0, from_agent, to_master), (1, from_master, to_agent)] {
                let shared = Arc::clone(&self);
                std::thread::spawn(move || shared.pass(direction, from, to));
            }
        }
    }

    /// Until either end closes, and then both are.
    fn pass(&self, direction: usize, mut from: UnixStream, mut to: UnixStream) {
        let mut piece = [0; PIECE];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            if !self.turn(direction, length) || to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(std::net::Shutdown::Both);
        let _ = to.shutdown(std::net::Shutdown::Both);
    }

    /// Waits until so many bytes may pass; `false` where they never will.
    fn turn(&self, direction: usize, length: usize) -> bool {
        let mut state = self.lock();
        loop {
            if state.ended {
                return false;
            }
            match state.way {
                Way::Cut => return false,
                Way::HalfOpen => {
                    state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
                    continue;
                }
                Way::Open => {}
                Way::Slow(rate) => {
                    let now = Instant::now();
                    let due = state.next[direction].max(now);
                    if due > now {
                        let waited = self.changed.wait_timeout(state, due - now);
                        state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
                        continue;
                    }
                    state.next[direction] = due + Duration::from_secs_f64(length as f64 / rate as f64);
                }
            }
            state.passed[direction] += length as u64;
            return true;
        }
    }
}
