//! An account with one machine, seen from outside by `/proc` and the folders of its workers.

use async_trait::async_trait;
use rouse_contract::conformance::{Bench, Joins, Of};
use rouse_contract::{Installation, Keyring, LaunchSpec, Provider, ProviderKind, ResolveRequest, Tag};
use rouse_model::Trust;
use rouse_model::worker::LaunchToken;
use rouse_provider_enrolled::serving::Serving;
use rouse_provider_enrolled::wire::{Answer, Call};
use rouse_provider_enrolled::{EnrolledKind, Hub, Numbered};
use rouse_provider_local::LocalKind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

const ACCOUNT: &str = "rack";
const MACHINE: &str = "a";

pub struct Rack {
    folder: tempfile::TempDir,
    agents: PathBuf,
    id: String,
    /// Where the agents come to.
    sockets: Mutex<HashMap<LaunchToken, UnixListener>>,
}

pub async fn one_machine() -> Option<Rack> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let agents = rouse_testkit::back_ends::agents()?;
    let id = format!("{:06x}{:02x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = tempfile::tempdir().expect("a folder");
    Some(Rack { folder, agents, id, sockets: Mutex::default() })
}

impl Rack {
    /// What makes processes on the machine: it is there before and after any master.
    fn local(&self, installation: &str) -> Arc<dyn Provider> {
        let state = self.folder.path().join(installation);
        std::fs::create_dir_all(&state).expect("a state folder");
        let installation = Installation {
            id: installation.to_owned(),
            store_epoch: 1,
            agents: self.agents.clone(),
            state,
            many_masters: false,
        };
        let options = json!({"uids": {"count": 0}});
        LocalKind.connect(&format!("{ACCOUNT}.{MACHINE}"), &options, &installation).expect("connected")
    }
}

/// As it comes out of a connection.
fn sent<T: serde::Serialize + serde::de::DeserializeOwned>(what: &T) -> T {
    serde_json::from_str(&serde_json::to_string(what).expect("JSON")).expect("what was written")
}

/// The machine comes to a master that has just begun.
fn come(hub: &Arc<Hub>, provider: Arc<dyn Provider>) {
    let mut connected =
        hub.attach(ACCOUNT, MACHINE, "incarnation", "linux", true).expect("nobody else is there");
    let (hub, serving) = (Arc::downgrade(hub), Arc::new(Serving::new(provider)));
    tokio::spawn(tell_of_hints(hub.clone(), Arc::clone(&serving)));
    tokio::spawn(async move {
        while let Some(Numbered { id, call }) = connected.calls.recv().await {
            let (hub, serving) = (hub.clone(), Arc::clone(&serving));
            tokio::spawn(async move {
                let answer: Answer = serving.carry_out(sent::<Call>(&call)).await;
                if let Some(hub) = hub.upgrade() {
                    hub.answered(ACCOUNT, MACHINE, connected.session, id, sent(&answer));
                }
            });
        }
    });
}

/// What happens there, as long as its master is.
async fn tell_of_hints(hub: Weak<Hub>, serving: Arc<Serving>) {
    loop {
        let at = serving.next_hint().await;
        let Some(hub) = hub.upgrade() else { return };
        hub.hint(ACCOUNT, MACHINE, &at);
    }
}

#[async_trait]
impl Bench for Rack {
    fn provider(&self, of: Of) -> Arc<dyn Provider> {
        let hub = Arc::new(Hub::default());
        come(&hub, self.local(&self.installation(of)));
        let installation = Installation {
            id: self.installation(of),
            store_epoch: if of == Of::Restored { 2 } else { 1 },
            agents: self.agents.clone(),
            state: self.folder.path().to_owned(),
            many_masters: false,
        };
        EnrolledKind(hub).connect(ACCOUNT, &json!({"workers": 1000}), &installation).expect("connected")
    }

    fn installation(&self, of: Of) -> String {
        match of {
            Of::Ours | Of::Restored => format!("{}-ours", self.id),
            Of::Foreign => format!("{}-theirs", self.id.chars().rev().collect::<String>()),
        }
    }

    async fn spec(&self) -> LaunchSpec {
        LaunchSpec {
            pool: "suite".into(),
            project: "default".into(),
            trust: Trust::Trusted,
            image: None,
            options: json!({"env": {"SHAPE": "round"}}),
            env: [].into(),
            secrets: Keyring::default(),
            shelves: Vec::new(),
            beside: [].into(),
            tree: None,
        }
    }

    fn join_document(&self, tag: &Tag, joins: Joins) -> Vec<u8> {
        if joins == Joins::Never {
            return b"{".to_vec();
        }
        let path = self.folder.path().join(format!("{}.sock", tag.key()));
        let mut sockets = self.sockets.lock().expect("not poisoned");
        sockets.entry(tag.token.clone()).or_insert_with(|| {
            let socket = UnixListener::bind(&path).expect("a socket");
            socket.set_nonblocking(true).expect("the socket's mode");
            socket
        });
        json!({
            "version": 1, "installation": tag.installation, "worker": tag.name, "worker_id": tag.worker,
            "join_token": "suite", "store_epoch": tag.store_epoch, "endpoints": [{"unix": {"path": path}}],
            "work_dir": "", "expiry_s": 600.0,
        })
        .to_string()
        .into_bytes()
    }

    fn crowd(&self) -> usize {
        60
    }

    fn missing_image(&self) -> Option<(ResolveRequest, String)> {
        None
    }

    async fn running(&self, tag: &Tag) -> usize {
        agents_of(tag).len()
    }

    async fn joined(&self, tag: &Tag) -> bool {
        self.sockets
            .lock()
            .expect("not poisoned")
            .get(&tag.token)
            .is_some_and(|socket| socket.accept().is_ok())
    }

    async fn kill(&self, tag: &Tag) {
        for pid in agents_of(tag) {
            kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("killed");
        }
    }

    async fn leftovers(&self) -> Vec<String> {
        let ours = [self.installation(Of::Ours), self.installation(Of::Foreign)];
        let marks: Vec<String> = ours.iter().map(|id| format!("ROUSE_INSTALLATION={id}")).collect();
        let marked =
            processes().into_iter().filter(|seen| marks.iter().any(|mark| seen.environment.contains(mark)));
        let mut left: Vec<String> = marked.map(|seen| format!("process {}", seen.pid)).collect();
        for id in &ours {
            left.extend(entries(Path::new("/var/tmp")).filter(|entry| entry.contains(&id[..8])));
            let run = self.folder.path().join(id).join("run");
            left.extend(run.exists().then(|| run.display().to_string()));
        }
        left
    }
}

struct Seen {
    pid: i32,
    leads: bool,
    environment: Vec<String>,
}

/// Agents lead their sessions.
fn agents_of(tag: &Tag) -> Vec<i32> {
    let token = format!("ROUSE_TOKEN={}", tag.token.0);
    let agents = processes().into_iter().filter(|seen| seen.leads && seen.environment.contains(&token));
    agents.map(|seen| seen.pid).collect()
}

fn processes() -> Vec<Seen> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(seen).collect()
}

fn seen(pid: i32) -> Option<Seen> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let session: i32 = fields.nth(2)?.parse().ok()?;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let environment = environment.split(|b| *b == 0).map(|entry| String::from_utf8_lossy(entry).into_owned());
    (!matches!(state, "Z" | "X")).then(|| Seen {
        pid,
        leads: session == pid,
        environment: environment.collect(),
    })
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path().display().to_string())
}
