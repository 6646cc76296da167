//! A backup's return. Everything is checked and copied beside before anything that is there is touched; from then on until the end a folder
//! in the state folder says that it is neither the old nor the new.

use super::manifest::{Manifest, Sums, copy_file, flush, read_sums};
use super::{UpkeepError, blocking, file_error};
use crate::objects;
use rouse_store::Location;
use rouse_store::backup::{self, Anew, BackupError, Kind, Known};
use serde::Serialize;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where a backup is copied to first, in the state folder.
const BESIDE: &str = "restoring";

/// What is to be put back, and where.
#[derive(Debug, Clone)]
pub struct Restore {
    pub from: PathBuf,
    pub state: PathBuf,
    pub database: Location,
    /// The folder of logs and artifacts.
    pub objects: PathBuf,
    /// Throw away what is there.
    pub replace: bool,
    pub keep_tokens: bool,
    /// Seconds since 1970: the least that the new store epoch may be, so that what is restored twice from one backup has two of them.
    pub now: i64,
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    pub installation: String,
    pub store_epoch: i64,
    pub objects: usize,
    /// Objects that the database names and that the backup does not have.
    pub missing: Vec<String>,
    /// The bucket in which the objects are, as the backup left them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
}

/// Whether somebody began to restore into this folder and did not come to the end.
#[must_use]
pub fn is_half_restored(state: &Path) -> bool {
    state.join(BESIDE).exists()
}

/// Refuses where something is there that may not be thrown away. Before the state folder's lock is taken, since that makes a file in it.
///
/// # Errors
/// [`UpkeepError::Occupied`], or where it cannot be looked at.
pub(super) fn refuse_the_occupied(state: &Path) -> Result<(), UpkeepError> {
    match std::fs::read_dir(state).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(UpkeepError::Occupied { place: state.display().to_string() }),
        Ok(false) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("read the folder", state)(error)),
    }
}

/// Puts a backup back. `lock` takes the state folder for as long as its answer lives.
///
/// # Errors
/// See [`UpkeepError`]. Where the backup is at fault, nothing is touched.
pub async fn restore<L>(
    wish: Restore,
    lock: impl FnOnce(&Path) -> anyhow::Result<L>,
) -> Result<Restored, UpkeepError> {
    let manifest = Manifest::read(&wish.from)?;
    if manifest.database != Kind::of(&wish.database) {
        return Err(UpkeepError::Refused(format!(
            "the backup is of {}, and goes back to that alone; --database says where",
            match manifest.database {
                Kind::Sqlite => "SQLite",
                Kind::Postgres => "PostgreSQL",
            }
        )));
    }
    if !wish.replace {
        refuse_the_occupied(&wish.state)?;
        if manifest.bucket.is_none() {
            refuse_the_occupied(&wish.objects)?;
        }
    }
    let _lock = lock(&wish.state).map_err(|error| UpkeepError::Refused(format!("{error:#}")))?;
    let before = there(&wish).await?;
    let copied = {
        let (wish, manifest) = (wish.clone(), manifest.clone());
        blocking(move || copy_beside(&wish, &manifest)).await
    };
    let beside = wish.state.join(BESIDE);
    let checked = match copied {
        Ok(sums) => check(&wish, &manifest, &sums).await.map(|()| sums),
        Err(error) => Err(error),
    };
    let sums = match checked {
        Ok(sums) => sums,
        Err(error) => {
            std::fs::remove_dir_all(&beside).map_err(file_error("remove", &beside))?;
            return Err(error);
        }
    };
    if manifest.bucket.is_none() {
        let (beside, folder) = (beside.clone(), wish.objects.clone());
        blocking(move || swap_objects(&sums, &beside, &folder)).await?;
    }
    backup::put_back(&beside.join(manifest.database.file()), &wish.database).await?;
    let least = before.max(manifest.store_epoch).saturating_add(1).max(wish.now);
    let known =
        backup::begin_anew(&wish.database, Anew { epoch: least, keep_tokens: wish.keep_tokens }).await?;
    flush(&wish.state)?;
    std::fs::remove_dir_all(&beside).map_err(file_error("remove", &beside))?;
    Ok(Restored {
        installation: known.facts.installation,
        store_epoch: known.facts.store_epoch,
        objects: manifest.objects,
        missing: manifest.missing,
        bucket: manifest.bucket,
    })
}

/// Makes a database that somebody else's tool has put back one of a new time.
///
/// # Errors
/// Where it is not there, or masters run on it.
pub async fn mark(database: &Location, keep_tokens: bool, now: i64) -> Result<Known, UpkeepError> {
    backup::refuse_the_living(database).await?;
    Ok(backup::begin_anew(database, Anew { epoch: now, keep_tokens }).await?)
}

/// The store epoch of what will be replaced; 0 where there is nothing, or nothing that can be read.
async fn there(wish: &Restore) -> Result<i64, UpkeepError> {
    let found = match backup::known(&wish.database).await {
        Ok(found) => found,
        Err(BackupError::Unsound(_)) if wish.replace => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let Some(known) = found else { return Ok(0) };
    if !wish.replace {
        return Err(UpkeepError::Occupied { place: "the database".into() });
    }
    backup::refuse_the_living(&wish.database).await?;
    Ok(known.facts.store_epoch)
}

fn copy_beside(wish: &Restore, manifest: &Manifest) -> Result<Sums, UpkeepError> {
    let beside = wish.state.join(BESIDE);
    match std::fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(file_error("remove", &beside)(error));
        }
        _ => {}
    }
    let folder = beside.join(objects::FOLDER);
    std::fs::create_dir_all(&folder).map_err(file_error("make the folder", &folder))?;
    let sums = read_sums(&wish.from, manifest)?;
    for (path, expected) in &sums {
        let (_, found) = copy_file(&wish.from.join(path), &beside.join(path))?;
        if found != *expected {
            return Err(UpkeepError::Broken {
                path: wish.from.clone(),
                why: format!("{path} is not as it was written"),
            });
        }
    }
    flush(&beside)?;
    Ok(sums)
}

/// Whether the copy is sound, and has all that it names.
async fn check(wish: &Restore, manifest: &Manifest, sums: &Sums) -> Result<(), UpkeepError> {
    let file = manifest.database.file();
    let broken = |why: String| UpkeepError::Broken { path: wish.from.clone(), why };
    if !sums.contains_key(file) {
        return Err(broken(format!("{file} is not in it")));
    }
    // The other one's file is its own tool's affair.
    if manifest.database != Kind::Sqlite {
        return Ok(());
    }
    let copy = Location::Sqlite(wish.state.join(BESIDE).join(file));
    backup::check(&copy).await?;
    if manifest.bucket.is_some() {
        return Ok(());
    }
    let missing: HashSet<&String> = manifest.missing.iter().collect();
    let absent =
        |key: &String| !sums.contains_key(&format!("{}/{key}", objects::FOLDER)) && !missing.contains(key);
    match backup::named(&copy).await?.into_iter().find(absent) {
        Some(key) => Err(broken(format!("the object {key} is not in it"))),
        None => Ok(()),
    }
}

/// The folder itself stays: it may be where a file system is mounted.
fn swap_objects(sums: &Sums, beside: &Path, folder: &Path) -> Result<(), UpkeepError> {
    std::fs::create_dir_all(folder).map_err(file_error("make the folder", folder))?;
    for old in std::fs::read_dir(folder).map_err(file_error("read the folder", folder))?.flatten() {
        let old = old.path();
        let removed = if old.is_dir() { std::fs::remove_dir_all(&old) } else { std::fs::remove_file(&old) };
        removed.map_err(file_error("remove", &old))?;
    }
    let prefix = format!("{}/", objects::FOLDER);
    for (path, key) in sums.keys().filter_map(|path| Some((path, path.strip_prefix(&prefix)?))) {
        let (from, to) = (beside.join(path), folder.join(key));
        if let Some(above) = to.parent() {
            std::fs::create_dir_all(above).map_err(file_error("make the folder", above))?;
        }
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() == ErrorKind::CrossesDevices => drop(copy_file(&from, &to)?),
            moved => moved.map_err(file_error("put an object at", &to))?,
        }
    }
    flush(folder)
}
