//! One account: what its calls do on this host. Everything here blocks, and holds the account's lock while it reads and writes records.

use crate::agent_file;
use crate::ending::Target;
use crate::lock::Lock;
use crate::options::{AccountOptions, PoolOptions};
use crate::places::{Places, ROOM, WorkerPlace, remove_tree};
use crate::processes;
use crate::record::{Record, Reference, Stage};
use crate::shelves::LocalShelves;
use crate::spawn::{self, Order};
use crate::tagging::{tag_of, worker_environment};
use crate::uids::{self, Holder, HostUids};
use rouse_contract::folder::{self, Reach};
use rouse_contract::{EndedBy, Installation, LaunchOutcome, LaunchSpec, Observed, ObservedState, Tag, kind};
use rouse_model::failure::FailureClass;
use rouse_model::worker::ProviderRef;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the programs of a build may leave files beside their own folders.
const SHARED_FOLDERS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Stands for the account's folder in lists.
pub(crate) const FOLDER_REF: &str = "folder";

/// How much of a dead agent's output goes with the answer to its launch.
const CONSOLE_WITH_DEATH: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Account {
    name: String,
    installation: Installation,
    places: Places,
    /// Where the master is root and workers have users of their own.
    uids: Option<HostUids>,
    pub(crate) shelves: LocalShelves,
}

impl Account {
    /// Touches nothing yet.
    pub(crate) fn new(name: &str, options: AccountOptions, installation: Installation) -> Self {
        let own_users = rustix::process::geteuid().is_root() && options.uids.count > 0;
        let reach = if own_users { Reach::AnyUser } else { Reach::Master };
        let base = match options.folder {
            Some(parent) => parent.join(folder::name(&installation, name)),
            None => folder::choose(&installation, name, reach, ROOM),
        };
        let uids = own_users.then(|| HostUids::new(PathBuf::from(uids::HOST_FOLDER), options.uids));
        let shelves = LocalShelves::new(&installation.state);
        Self { name: name.to_owned(), installation, places: Places::new(base, reach), uids, shelves }
    }

    pub(crate) fn link_dir(&self, tag: &Tag) -> io::Result<PathBuf> {
        let lock = self.places.lock()?;
        self.prepare(tag, &lock)?;
        Ok(self.places.worker(&tag.key()).link())
    }

    /// The worker's record and folders, made where there are none.
    fn prepare(&self, tag: &Tag, _lock: &Lock) -> io::Result<Record> {
        let place = self.places.worker(&tag.key());
        if let Some(record) = Record::read(&place)? {
            return Ok(record);
        }
        place.make()?;
        let uid = match &self.uids {
            None => None,
            Some(uids) => Some(self.own_user(uids, &place)?),
        };
        place.furnish(uid)?;
        let record = Record { tag: tag.clone(), uid, stage: Stage::Prepared };
        record.write(&place)?;
        Ok(record)
    }

    fn own_user(&self, uids: &HostUids, place: &WorkerPlace) -> io::Result<u32> {
        if let Some(uid) = uids.reserve(&Holder { folder: place.folder.clone() })? {
            return Ok(uid);
        }
        place.remove()?;
        let message = "every user id of the account's range is taken";
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, message))
    }

    pub(crate) fn launch_all(&self, spec: &LaunchSpec, tags: &[Tag]) -> Vec<LaunchOutcome> {
        let options: PoolOptions = match kind::read_options(&spec.options) {
            Ok(options) => options,
            Err(fault) => {
                let invalid = LaunchOutcome::Invalid { class: FailureClass::Master, reason: fault.message };
                return vec![invalid; tags.len()];
            }
        };
        let mut environment: Vec<(String, String)> = spec.env.clone().into_iter().collect();
        environment.extend(options.env);
        let launched =
            |tag| self.launch(tag, spec, &environment).unwrap_or_else(|error| not_launched(&error));
        tags.iter().map(launched).collect()
    }

    fn launch(
        &self,
        tag: &Tag,
        spec: &LaunchSpec,
        environment: &[(String, String)],
    ) -> io::Result<LaunchOutcome> {
        let lock = self.places.lock()?;
        let mut record = self.prepare(tag, &lock)?;
        let place = self.places.worker(&tag.key());
        record.settle(&place)?;
        match &record.stage {
            Stage::Started { .. } => Ok(LaunchOutcome::Accepted { at: record.reference() }),
            Stage::Ended { detail, .. } => Ok(LaunchOutcome::Died {
                at: record.reference(),
                reason: detail.clone(),
                by: EndedBy::Something,
                console: console(&place, CONSOLE_WITH_DEATH)?,
            }),
            Stage::Prepared | Stage::Spawning { .. } => {
                for shelf in &spec.shelves {
                    self.shelves.give(shelf, &place.folder)?;
                }
                self.start(record, &place, environment)
            }
        }
    }

    /// Puts the intent on record, starts the agent, puts its process on record. Called with the lock held.
    fn start(
        &self,
        mut record: Record,
        place: &WorkerPlace,
        environment: &[(String, String)],
    ) -> io::Result<LaunchOutcome> {
        let other_user = record.uid.is_some();
        let agent = match agent_file::for_worker(&self.installation.agents, &self.places, other_user) {
            Ok(agent) => agent,
            Err(error) => {
                let reason = error.to_string();
                return Ok(LaunchOutcome::Invalid { class: FailureClass::Master, reason });
            }
        };
        let boot = processes::boot_id();
        remove_tree(&place.pid())?;
        record.stage = Stage::Spawning { boot: boot.clone() };
        record.write(place)?;
        let environment = worker_environment(&record.tag, &self.name, place, environment);
        let order = Order { agent: &agent, place, uid: record.uid, environment: &environment };
        let pid = match spawn::spawn(&order) {
            Ok(pid) => pid,
            Err(error) => {
                record.stage = Stage::Prepared;
                record.write(place)?;
                remove_tree(&place.pid())?;
                return Ok(refused(&agent, other_user, &error));
            }
        };
        record.stage = match processes::Process::read(pid) {
            Some(process) => Stage::Started { process: process.ident(&boot) },
            // Not even a zombie: somebody waits for children that are not theirs.
            None => Stage::Ended { process: None, detail: "it ended at once".into() },
        };
        record.write(place)?;
        Ok(LaunchOutcome::Accepted { at: record.reference() })
    }

    pub(crate) fn list(&self) -> io::Result<Vec<Observed>> {
        let mut all = Vec::new();
        let mut known = HashSet::new();
        if let Some(lock) = self.places.lock_if_there()? {
            for key in self.places.keys()? {
                known.insert(key.clone());
                all.push(self.observe(&key)?);
            }
            all.extend(self.folder_left(known.is_empty()));
            drop(lock);
        }
        all.extend(self.without_record(&known)?);
        Ok(all)
    }

    /// What is true of one worker's folder now. Called with the lock held.
    fn observe(&self, key: &str) -> io::Result<Observed> {
        let place = self.places.worker(key);
        let resource = || ObservedState::Resource { kind: "worker folder".into(), keep: false };
        let Some(mut record) = Record::read(&place)? else {
            return Ok(Observed { at: ProviderRef(key.to_owned()), tag: None, state: resource() });
        };
        record.settle(&place)?;
        let state = match &record.stage {
            Stage::Prepared | Stage::Spawning { .. } => resource(),
            Stage::Started { .. } => ObservedState::Running,
            Stage::Ended { detail, .. } => {
                ObservedState::Ended { detail: detail.clone(), by: EndedBy::Something }
            }
        };
        Ok(Observed { at: record.reference(), tag: Some(record.tag), state })
    }

    fn folder_left(&self, unused: bool) -> Option<Observed> {
        // Within the state folder it goes with that.
        if self.places.base().starts_with(&self.installation.state) {
            return None;
        }
        let state = ObservedState::Resource { kind: "folder of the account".into(), keep: !unused };
        Some(Observed { at: ProviderRef(FOLDER_REF.into()), tag: None, state })
    }

    /// Processes that carry our tag while their record is lost: one for each worker, the oldest.
    fn without_record(&self, known: &HashSet<String>) -> io::Result<Vec<Observed>> {
        let boot = processes::boot_id();
        let mut all = processes::all()?;
        all.sort_by_key(|process| process.start);
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for process in all.iter().filter(|process| !process.zombie) {
            let Some(tag) = tag_of(&process.environment(), &self.installation.id, &self.name) else {
                continue;
            };
            let key = tag.key();
            if !known.contains(&key) && seen.insert(key.clone()) {
                let at = Reference { key, process: Some(process.ident(&boot)) }.to_ref();
                found.push(Observed { at, tag: Some(tag), state: ObservedState::Running });
            }
        }
        Ok(found)
    }

    pub(crate) fn inspect(&self, reference: &Reference) -> io::Result<Option<Observed>> {
        if let Some(_lock) = self.places.lock_if_there()?
            && self.places.worker(&reference.key).folder.exists()
        {
            return self.observe(&reference.key).map(Some);
        }
        let found = self.without_record(&HashSet::new())?;
        Ok(found.into_iter().find(|o| o.tag.as_ref().is_some_and(|tag| tag.key() == reference.key)))
    }

    /// Whose processes a reference means; `None` where there is neither folder nor process.
    pub(crate) fn target(&self, reference: &Reference) -> io::Result<Option<Target>> {
        let place = self.places.worker(&reference.key);
        let mut target = Target {
            installation: self.installation.id.clone(),
            key: reference.key.clone(),
            join_document: place.join_document(),
            agent: None,
            uid: None,
        };
        if let Some(_lock) = self.places.lock_if_there()?
            && place.folder.exists()
        {
            if let Some(mut record) = Record::read(&place)? {
                record.settle(&place)?;
                if let Stage::Started { process } = record.stage {
                    target.agent = Some(process);
                }
                target.uid = self.own_uid(record.uid, &place)?;
            }
            return Ok(Some(target));
        }
        Ok(self.inspect(reference)?.map(|_| target))
    }

    /// The user of a record, as long as the host's own list says that nobody else has it by now.
    fn own_uid(&self, uid: Option<u32>, place: &WorkerPlace) -> io::Result<Option<u32>> {
        let holder = Holder { folder: place.folder.clone() };
        match (uid, &self.uids) {
            (Some(uid), Some(uids)) if uids.is_held_by(uid, &holder)? => Ok(Some(uid)),
            _ => Ok(None),
        }
    }

    /// Removes files and gives the user back, once no process is left.
    pub(crate) fn clear_away(&self, key: &str) -> io::Result<()> {
        let Some(lock) = self.places.lock_if_there()? else { return Ok(()) };
        let place = self.places.worker(key);
        let uid = Record::read(&place)?.and_then(|record| record.uid);
        if let Some(uid) = self.own_uid(uid, &place)? {
            for folder in SHARED_FOLDERS {
                remove_files_of(uid, Path::new(folder))?;
            }
        }
        place.remove()?;
        if let Some(uids) = &self.uids {
            uids.release(&Holder { folder: place.folder.clone() })?;
        }
        self.places.give_back(lock)
    }

    /// Removes what the account has beside its workers, where it has none.
    pub(crate) fn remove_folder(&self) -> io::Result<()> {
        match self.places.lock_if_there()? {
            Some(lock) => self.places.give_back(lock),
            None => Ok(()),
        }
    }

    pub(crate) fn console(&self, of: &Reference, max_bytes: usize) -> io::Result<Option<String>> {
        console(&self.places.worker(&of.key), max_bytes)
    }
}

/// The end of what the agent printed; `None` where it printed nothing.
fn console(place: &WorkerPlace, max_bytes: usize) -> io::Result<Option<String>> {
    let mut file = match File::open(place.console()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let most = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok((!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned()))
}

/// Only the first level: what lies deeper in somebody else's folder is theirs to clear.
fn remove_files_of(uid: u32, folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.uid() == uid) {
            remove_tree(&path)?;
        }
    }
    Ok(())
}

fn not_launched(error: &io::Error) -> LaunchOutcome {
    if error.kind() == io::ErrorKind::QuotaExceeded {
        return LaunchOutcome::Quota { scope: "user ids".into(), retry_after: Duration::from_secs(5) };
    }
    LaunchOutcome::Unknown { reason: error.to_string() }
}

fn refused(agent: &Path, other_user: bool, error: &io::Error) -> LaunchOutcome {
    let mut reason = format!("the agent {} cannot be run: {error}", agent.display());
    if other_user && error.kind() == io::ErrorKind::PermissionDenied {
        reason.push_str(" as a user of its own; with `uids: {count: 0}` it runs as the master's");
    }
    let transient = matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock);
    let class = if transient { FailureClass::Offering } else { FailureClass::Master };
    LaunchOutcome::Invalid { class, reason }
}
