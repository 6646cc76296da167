//! The texts of a configuration: one main file, and the files of the folder beside it, which add entries.

use super::fault::{Code, Fault};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// More than this is no configuration that a person has written.
const MAX_BYTES: u64 = 4 << 20;

/// One file, as it was when it was read. A stored revision is a list of these, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Relative to the main file's folder: `rouse.yaml`, `rouse.d/shop.yaml`. The main file comes first.
    pub name: String,
    pub text: String,
}

impl SourceFile {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// SHA-256 in hex over all names and texts, in their order.
#[must_use]
pub fn hash(sources: &[SourceFile]) -> String {
    let mut hasher = Sha256::new();
    for part in sources.iter().flat_map(|source| [&source.name, &source.text]) {
        // Lengths first, so that no text can pass for the end of one and the start of another.
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex::encode(hasher.finalize())
}

/// Reads the main file and, in order of their names, the `*.yaml` files of the folder beside it: `rouse.d` for `rouse.yaml`.
/// What cannot be read is a fault, and an empty text.
pub(crate) fn read_all(main: &Path) -> (Vec<SourceFile>, Vec<Fault>) {
    let mut faults = Vec::new();
    let name = main.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut sources = vec![read_one(main, name, &mut faults)];
    let folder = main.with_extension("d");
    let folder_name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match files_of(&folder) {
        Ok(files) => {
            for file in files {
                let name =
                    format!("{folder_name}/{}", file.file_name().unwrap_or_default().to_string_lossy());
                sources.push(read_one(&file, name, &mut faults));
            }
        }
        Err(error) => faults.push(Fault::new(
            Code::Unreadable,
            None,
            format!("cannot read the folder {}: {error}", folder.display()),
        )),
    }
    (sources, faults)
}

fn files_of(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // Editors leave hidden copies behind.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_one(path: &Path, name: String, faults: &mut Vec<Fault>) -> SourceFile {
    let text = read_text(path).unwrap_or_else(|why| {
        faults.push(Fault::new(Code::Unreadable, None, format!("cannot read {}: {why}", path.display())));
        String::new()
    });
    SourceFile { name, text }
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_BYTES {
        return Err(format!("it is larger than {} MiB", MAX_BYTES >> 20));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("line {line} is not UTF-8 text")
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_names_texts_and_their_borders() {
        let one = |name: &str, text: &str| hash(&[SourceFile::new(name, text)]);
        assert_eq!(one("a", "b"), one("a", "b"));
        assert_ne!(one("a", "bc"), one("ab", "c"));
        assert_ne!(one("a", "b"), hash(&[SourceFile::new("a", ""), SourceFile::new("", "b")]));
        assert_eq!(one("a", "b").len(), 64);
    }
}
