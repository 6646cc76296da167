//! Read-only files that the master keeps on an account's host, for workers to read: git mirrors.
//!
//! A shelf is a folder or volume of the host, a layer a folder on it that is put there whole and never changed again. What a worker is given of a
//! shelf it can read and not write, and it stays there for as long as the worker does, whatever becomes of the shelf meanwhile. A provider must
//! not know what the files mean, nor which workers may see them.

use crate::ProviderError;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The folder beside a worker's work folder in which its shelves are.
pub const SHELVES: &str = "mirrors";
/// The file of a layer that is written last: where it is, the layer is whole.
pub const WHOLE: &str = "ok";

/// A shelf as a worker is given it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// Letters, digits and dashes.
    pub name: String,
    /// The name of its folder in [`SHELVES`].
    pub at: String,
}

/// A provider that can keep files on its host. Calls have no deadline: the caller adds it.
#[async_trait]
pub trait Shelves: fmt::Debug + Send + Sync {
    /// A word for the shelf as it was made, another one where it was made anew; `None` where there is none.
    ///
    /// # Errors
    /// Where the host could not say.
    async fn there(&self, shelf: &str) -> Result<Option<String>, ProviderError>;

    /// Puts the files of a folder of the master's onto a shelf as a layer, [`WHOLE`] last; the shelf is made where there is none. Answers its word.
    ///
    /// # Errors
    /// Where the layer may not be whole.
    async fn put(&self, shelf: &str, layer: &str, folder: &Path) -> Result<String, ProviderError>;

    /// Removes shelves whose names begin with `prefix`, but these and such as workers still have.
    ///
    /// # Errors
    /// Where some may be left.
    async fn keep(&self, prefix: &str, shelves: &[String]) -> Result<(), ProviderError>;
}

/// What a folder has for a layer, [`WHOLE`] left out: it is the provider's to write, last.
///
/// # Errors
/// Where the folder cannot be read.
pub fn files_of(folder: &Path) -> std::io::Result<Vec<(String, std::path::PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), folder.to_owned())];
    while let Some((within, folder)) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{within}{}", entry.file_name().to_string_lossy());
            match entry.file_type()?.is_dir() {
                true => folders.push((format!("{name}/"), entry.path())),
                false if name == WHOLE => {}
                false => found.push((name, entry.path())),
            }
        }
    }
    found.sort();
    Ok(found)
}
