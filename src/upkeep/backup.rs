//! A backup: the database as of one moment, and the objects that it names then.
//!
//! Objects never change, but they go: a sealed log's many small ones become few. So under the very view that is copied each object gets a
//! second name, in a folder beside; what had gone already asks for a later view, and there are few of those each time. Then the database is
//! copied, and the objects by their second names, however long that takes. Objects in a bucket stay there: the backup says in which.

use super::manifest::{MANIFEST, Manifest, Sums, copy_file, flush, sum_of, write_sums};
use super::{UpkeepError, blocking, file_error};
use crate::objects;
use nix::fcntl::{Flock, FlockArg};
use rouse_store::Location;
use rouse_store::backup::{self, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Where objects get their second names, in the state folder.
const ASIDE: &str = "backup";
/// Views that are tried before what is missing is taken to be missing for good.
const VIEWS: usize = 20;

/// What is to be backed up, and where to.
#[derive(Debug, Clone)]
pub struct Backup {
    pub state: PathBuf,
    pub database: Location,
    /// The folder of logs and artifacts.
    pub objects: PathBuf,
    /// A folder that is not there, or is empty.
    pub to: PathBuf,
    /// UTC, as in RFC 3339.
    pub now: String,
}

/// Makes a backup. Masters may run meanwhile.
///
/// # Errors
/// See [`UpkeepError`]; what was written then has no manifest and is no backup.
pub async fn back_up(wish: Backup) -> Result<Manifest, UpkeepError> {
    let to = wish.to.clone();
    blocking(move || empty_folder(&to)).await?;
    let aside = Arc::new(Aside::make(&wish.state, &wish.objects)?);
    let holding = Arc::clone(&aside);
    let bucket = objects::noted_bucket(&wish.state);
    let is_elsewhere = bucket.is_some();
    let hold = Box::new(move |keys: Vec<String>| if is_elsewhere { Ok(true) } else { holding.hold(keys) });
    let kind = Kind::of(&wish.database);
    let known = backup::copy(&wish.database, &wish.to.join(kind.file()), hold).await?;
    blocking(move || {
        let mut sums = Sums::new();
        let (database_bytes, sum) = sum_of(&wish.to.join(kind.file()))?;
        sums.insert(kind.file().to_owned(), sum);
        let mut object_bytes = 0;
        let (held, missing) = aside.result();
        for (key, name) in &held {
            let path = format!("{}/{key}", objects::FOLDER);
            let (bytes, sum) = copy_file(name, &wish.to.join(&path))?;
            object_bytes += bytes;
            sums.insert(path, sum);
        }
        let manifest = Manifest {
            format: Manifest::format(),
            rouse: env!("CARGO_PKG_VERSION").to_owned(),
            made: wish.now.clone(),
            installation: known.facts.installation,
            store_epoch: known.facts.store_epoch,
            schema: known.schema,
            database: kind,
            database_bytes,
            objects: held.len(),
            object_bytes,
            missing,
            bucket,
            sums: write_sums(&wish.to, &sums)?,
        };
        flush(&wish.to)?;
        let text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
        let (half, whole) = (wish.to.join("manifest.new"), wish.to.join(MANIFEST));
        std::fs::write(&half, text + "\n").map_err(file_error("write", &half))?;
        std::fs::rename(&half, &whole).map_err(file_error("write", &whole))?;
        flush(&wish.to)?;
        Ok(manifest)
    })
    .await
}

/// Its owner alone may look into a backup: it holds logs.
fn empty_folder(path: &Path) -> Result<(), UpkeepError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(file_error("make the folder", path))?;
    let mut there = std::fs::read_dir(path).map_err(file_error("read the folder", path))?;
    if there.next().is_some() { Err(UpkeepError::NotEmpty { path: path.to_owned() }) } else { Ok(()) }
}

/// The folder of second names; it goes with this value. A killed backup's goes with the next one.
struct Aside {
    objects: PathBuf,
    folder: PathBuf,
    held: Mutex<Held>,
    _lock: Flock<File>,
}

#[derive(Default)]
struct Held {
    /// Where the object of a key can be read.
    names: BTreeMap<String, PathBuf>,
    missing: BTreeSet<String>,
    views: usize,
}

impl Aside {
    fn make(state: &Path, objects: &Path) -> Result<Self, UpkeepError> {
        let lock = state.join("backup.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(file_error("open", &lock))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| UpkeepError::Busy { path: state.to_owned() })?;
        let folder = state.join(ASIDE);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(file_error("remove", &folder)(error));
            }
            _ => {}
        }
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(file_error("make the folder", &folder))?;
        Ok(Self { objects: objects.to_owned(), folder, held: Mutex::default(), _lock: lock })
    }

    /// False asks for a later view.
    fn hold(&self, keys: Vec<String>) -> std::io::Result<bool> {
        let mut held = self.held.lock().expect("nothing panics while it is held");
        held.views += 1;
        let mut missing = BTreeSet::new();
        let wanted: BTreeSet<String> = keys.into_iter().collect();
        // What an earlier view named and this one does not is of no use.
        let stale: Vec<String> = held.names.keys().filter(|key| !wanted.contains(*key)).cloned().collect();
        for key in stale {
            if let Some(name) = held.names.remove(&key) {
                std::fs::remove_file(name)?;
            }
        }
        // The newest first: they are the ones that go.
        for key in wanted.into_iter().rev() {
            if held.names.contains_key(&key) {
                continue;
            }
            let name = self.folder.join(format!("{}.{}", held.views, held.names.len()));
            match second_name(&self.objects.join(&key), &name) {
                Ok(()) => drop(held.names.insert(key, name)),
                Err(error) if error.kind() == ErrorKind::NotFound => drop(missing.insert(key)),
                Err(error) => return Err(error),
            }
        }
        // What two views in a row name and nobody has will not come.
        let enough = missing.is_subset(&held.missing) || held.views >= VIEWS;
        held.missing = missing;
        Ok(enough)
    }

    fn result(&self) -> (BTreeMap<String, PathBuf>, Vec<String>) {
        let held = self.held.lock().expect("nothing panics while it is held");
        (held.names.clone(), held.missing.iter().cloned().collect())
    }
}

/// On another file system a copy has to do.
fn second_name(object: &Path, name: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(object, name) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => std::fs::copy(object, name).map(drop),
        done => done,
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "the backup's own folder could not be removed");
        }
    }
}
