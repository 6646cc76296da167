//! What a backup says of itself: a manifest, written last, and the checksum of each file in the form that `sha256sum --check` reads.

use super::{UpkeepError, file_error};
use rouse_store::backup::Kind;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Component, Path};

/// Its name; a folder without it is no backup, or one that was not finished.
pub(super) const MANIFEST: &str = "manifest.json";
/// The checksums' file.
pub const SUMS: &str = "SHA256SUMS";
/// How this version writes backups.
const FORMAT: u32 = 1;
/// What is read at once.
const PIECE: usize = 256 << 10;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The version that wrote it.
    pub rouse: String,
    /// UTC, as in RFC 3339.
    pub made: String,
    pub installation: String,
    pub store_epoch: i64,
    pub schema: i64,
    pub database: Kind,
    pub database_bytes: u64,
    pub objects: usize,
    pub object_bytes: u64,
    /// Objects that the database names and that were there no more.
    pub missing: Vec<String>,
    /// The bucket in which the objects are: none of them is in the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// SHA-256 of the checksums' file, hex.
    pub sums: String,
}

impl Manifest {
    pub(super) const fn format() -> u32 {
        FORMAT
    }

    /// # Errors
    /// Where there is none, or one of another kind.
    pub fn read(folder: &Path) -> Result<Self, UpkeepError> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(file_error("read", &path))?;
        let broken = |why: String| UpkeepError::Broken { path: folder.to_owned(), why };
        let manifest: Self = serde_json::from_str(&text).map_err(|e| broken(format!("{MANIFEST}: {e}")))?;
        if manifest.format > FORMAT {
            return Err(broken(format!(
                "it has format {}, newer than the {FORMAT} that this version knows",
                manifest.format
            )));
        }
        Ok(manifest)
    }
}

/// Checksums by path within the backup.
pub(super) type Sums = BTreeMap<String, String>;

/// Writes the checksums; answers their own.
pub(super) fn write_sums(folder: &Path, sums: &Sums) -> Result<String, UpkeepError> {
    let text: String = sums.iter().map(|(path, sum)| format!("{sum}  {path}\n")).collect();
    let path = folder.join(SUMS);
    std::fs::write(&path, &text).map_err(file_error("write", &path))?;
    Ok(hex::encode(Sha256::digest(text.as_bytes())))
}

/// Reads the checksums, which must be those that the manifest means.
pub(super) fn read_sums(folder: &Path, manifest: &Manifest) -> Result<Sums, UpkeepError> {
    let path = folder.join(SUMS);
    let text = std::fs::read_to_string(&path).map_err(file_error("read", &path))?;
    let broken = |why: String| UpkeepError::Broken { path: folder.to_owned(), why };
    if hex::encode(Sha256::digest(text.as_bytes())) != manifest.sums {
        return Err(broken(format!("{SUMS} is not as {MANIFEST} says")));
    }
    let mut sums = Sums::new();
    for line in text.lines() {
        let (sum, path) = line.split_once("  ").ok_or_else(|| broken(format!("{SUMS}: {line}")))?;
        // What is copied by these names never leaves its folder.
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(broken(format!("{SUMS}: {path:?} is no path within it")));
        }
        sums.insert(path.to_owned(), sum.to_owned());
    }
    Ok(sums)
}

/// Copies a file; answers its length and checksum.
pub(super) fn copy_file(from: &Path, to: &Path) -> Result<(u64, String), UpkeepError> {
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(file_error("make the folder", parent))?;
    }
    let mut source = File::open(from).map_err(file_error("open", from))?;
    let mut target = File::create(to).map_err(file_error("write", to))?;
    let mut piece = vec![0; PIECE];
    let (mut bytes, mut hash) = (0, Sha256::new());
    loop {
        let count = source.read(&mut piece).map_err(file_error("read", from))?;
        if count == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&piece[..count]);
        target.write_all(&piece[..count]).map_err(file_error("write", to))?;
        bytes += count as u64;
    }
}

/// A file's length and checksum.
pub(super) fn sum_of(path: &Path) -> Result<(u64, String), UpkeepError> {
    copy_file(path, Path::new("/dev/null"))
}

/// Everything that was written to the file system of a folder is on the disk.
pub(super) fn flush(folder: &Path) -> Result<(), UpkeepError> {
    let failed = file_error("flush", folder);
    let file = File::open(folder).map_err(&failed)?;
    rustix::fs::syncfs(&file).map_err(|error| failed(error.into()))
}
