//! This host as a back end: real agents, counted by reading `/proc` and the folders that the documentation names.

use async_trait::async_trait;
use rouse_contract::conformance::{Bench, Joins, Of};
use rouse_contract::{Installation, Keyring, LaunchSpec, Provider, ProviderKind, ResolveRequest, Tag};
use rouse_model::Trust;
use rouse_provider_local::LocalKind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Host {
    /// A master's folder, 0700 as it is in use.
    pub state: PathBuf,
    _folder: Option<tempfile::TempDir>,
    agents: PathBuf,
    options: serde_json::Value,
    id: String,
}

/// Workers with users of their own, where the tests run as root; else as [`one_user`].
pub async fn each_its_own_user() -> Option<Host> {
    Host::new(json!({}))
}

pub async fn one_user() -> Option<Host> {
    Host::new(json!({"uids": {"count": 0}}))
}

impl Host {
    pub fn new(options: serde_json::Value) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .expect("a state folder");
        let id = format!("{:06x}{:02x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let host = Self::at(folder.path(), &id, options)?;
        Some(Self { _folder: Some(folder), ..host })
    }

    /// The same once more, as a master in another process has it.
    pub fn at(state: &Path, id: &str, options: serde_json::Value) -> Option<Self> {
        let agents = rouse_testkit::back_ends::agents()?;
        Some(Self { state: state.into(), _folder: None, agents, options, id: id.into() })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn account(&self, id: &str, store_epoch: i64) -> Arc<dyn Provider> {
        let state = self.state.join(id);
        std::fs::create_dir_all(&state).expect("a state folder");
        let agents = self.agents.clone();
        let installation =
            Installation { id: id.to_owned(), store_epoch, agents, state, many_masters: false };
        LocalKind.connect("local", &self.options, &installation).expect("connected")
    }

    /// Session leaders that carry a token: agents, each with its process id.
    pub fn agents_of(&self, tag: &Tag) -> Vec<i32> {
        let token = format!("ROUSE_TOKEN={}", tag.token.0);
        processes().into_iter().filter(|p| p.leads && p.environment.contains(&token)).map(|p| p.pid).collect()
    }
}

pub struct Seen {
    pub pid: i32,
    /// Leads its session.
    pub leads: bool,
    pub environment: Vec<String>,
}

/// All living processes.
pub fn processes() -> Vec<Seen> {
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
    let environment =
        environment.split(|b| *b == 0).map(|entry| String::from_utf8_lossy(entry).into_owned()).collect();
    (!matches!(state, "Z" | "X")).then_some(Seen { pid, leads: session == pid, environment })
}

pub fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process id"), Signal::KILL).expect("killed");
}

#[async_trait]
impl Bench for Host {
    fn provider(&self, of: Of) -> Arc<dyn Provider> {
        self.account(&self.installation(of), if of == Of::Restored { 2 } else { 1 })
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
            options: json!({}),
            env: [("FROM_SPEC".to_owned(), "yes".to_owned())].into(),
            secrets: Keyring::default(),
            shelves: Vec::new(),
            beside: [].into(),
            tree: None,
        }
    }

    fn join_document(&self, tag: &Tag, joins: Joins) -> Vec<u8> {
        match joins {
            Joins::InVain => json!({
                "version": 1, "installation": tag.installation, "worker": tag.name, "worker_id": tag.worker,
                "join_token": "suite", "store_epoch": tag.store_epoch, "endpoints": [{"unix": {"path": "sock"}}],
                "work_dir": "", "expiry_s": 600.0,
            })
            .to_string()
            .into_bytes(),
            Joins::Never => b"{".to_vec(),
        }
    }

    fn crowd(&self) -> usize {
        100
    }

    fn missing_image(&self) -> Option<(ResolveRequest, String)> {
        None
    }

    async fn running(&self, tag: &Tag) -> usize {
        self.agents_of(tag).len()
    }

    async fn kill(&self, tag: &Tag) {
        self.agents_of(tag).into_iter().for_each(kill);
    }

    async fn leftovers(&self) -> Vec<String> {
        let ours = [self.installation(Of::Ours), self.installation(Of::Foreign)];
        let marked =
            |p: &Seen| ours.iter().any(|id| p.environment.contains(&format!("ROUSE_INSTALLATION={id}")));
        let mut left: Vec<String> =
            processes().iter().filter(|p| marked(p)).map(|p| format!("process {}", p.pid)).collect();
        for id in &ours {
            left.extend(entries(Path::new("/var/tmp")).filter(|e| e.contains(&id[..8])));
            let run = self.state.join(id).join("run");
            left.extend(run.exists().then(|| run.display().to_string()));
        }
        for entry in entries(Path::new("/run/rouse-uids")) {
            let holder = std::fs::read_to_string(&entry).unwrap_or_default();
            left.extend(ours.iter().any(|id| holder.contains(&id[..8])).then_some(entry));
        }
        left
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path().display().to_string())
}
