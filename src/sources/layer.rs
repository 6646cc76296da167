//! What a mirror has, packed for hosts where workers read it: objects that git's alternates can name, without refs, hooks or settings.
//!
//! A layer is closed together with those before it: whoever has them all has all that their tips need. What is in it was received by the
//! master's own git, which has computed every object's id itself.

use std::collections::BTreeSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Inner;
use super::error::SourceError;
use super::mirror::{is_sound, pack_bytes};

/// The folder of layers under way, below that of the mirrors' own.
const LAYERS: &str = "layers";
/// Tips of one mirror that are spoken of; those beyond are only fetched as today.
const TIPS: usize = 5_000;

/// Packed files, in a folder that goes with this: `objects/pack/` and, written last, `ok` with the tips, one a line, the newest first.
#[derive(Debug)]
pub struct Layer {
    folder: tempfile::TempDir,
    /// Told by what is in it.
    pub name: String,
    /// All tips of the mirror, those of earlier layers too.
    pub tips: Vec<String>,
    pub bytes: u64,
}

impl Layer {
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Inner {
    pub(super) async fn bytes_of(&self, codebase: &str) -> Result<u64, SourceError> {
        let repository = self.repository(codebase).await?;
        let path = self.mirror_path(codebase, &repository, "");
        Ok(if is_sound(&path) { pack_bytes(&path) } else { 0 })
    }

    pub(super) async fn layer(&self, codebase: &str, have: &[String]) -> Result<Option<Layer>, SourceError> {
        let repository = self.repository(codebase).await?;
        // Repositories of SHA-256 are few; theirs is as it was.
        let mirror = self.mirror_path(codebase, &repository, "");
        if !is_sound(&mirror) {
            return Ok(None);
        }
        let tips = self.tips(&mirror).await?;
        let known: BTreeSet<&str> = have.iter().map(String::as_str).collect();
        let fresh: Vec<&str> = tips.iter().map(String::as_str).filter(|tip| !known.contains(tip)).collect();
        if fresh.is_empty() {
            return Ok(None);
        }
        let fault = |e| SourceError::io("pack a mirror's objects", e);
        let folder =
            tempfile::Builder::new().prefix("layer-").tempdir_in(self.folder.join(LAYERS)).map_err(fault)?;
        let packs = folder.path().join("objects/pack");
        std::fs::create_dir_all(&packs).map_err(fault)?;
        let base = packs.join("pack").display().to_string();
        let mut wanted: String = fresh.iter().map(|tip| format!("{tip}\n")).collect();
        wanted.push_str("--not\n");
        wanted.extend(have.iter().map(|tip| format!("{tip}\n")));
        let args = ["pack-objects", "--quiet", "--revs", "--delta-base-offset", &base];
        let git = self.git("pack a mirror's objects", &args).within(&mirror).input(wanted);
        git.run(self.limits.pack).await?;
        let written = || {
            std::fs::write(
                folder.path().join("ok"),
                tips.iter().map(|tip| format!("{tip}\n")).collect::<String>(),
            )
        };
        written().map_err(fault)?;
        let name = hex::encode(&Sha256::digest(tips.join("\n").as_bytes())[..8]);
        let bytes = std::fs::read_dir(&packs).map_err(fault)?.flatten();
        let bytes = bytes.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum();
        Ok(Some(Layer { folder, name, tips, bytes }))
    }

    /// What the refs of a mirror point to, tags peeled, each once, the newest first.
    async fn tips(&self, mirror: &Path) -> Result<Vec<String>, SourceError> {
        let args =
            ["for-each-ref", "--format=%(objectname) %(*objectname)", "--sort=-creatordate", "refs/rouse/"];
        let output =
            self.git("read the mirror", &args).within(mirror).cap(32 << 20).run(self.limits.read).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut seen = BTreeSet::new();
        let tips = text.lines().take(TIPS).filter_map(|line| line.split_whitespace().next_back());
        Ok(tips.filter(|tip| seen.insert(*tip)).map(str::to_owned).collect())
    }

    /// Removes what a killed master was packing.
    pub(super) fn clear_layers(folder: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder.join(LAYERS))? {
            std::fs::remove_dir_all(entry?.path())?;
        }
        Ok(())
    }
}
