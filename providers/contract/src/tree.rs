//! What a provider may read of a project's own tree, to make an image of it. Handed beside a request as secrets are; a provider knows no git, and
//! no other codebase than the one that it is given.

use crate::ProviderError;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use rouse_model::Trust;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Where a kind of provider wants a part of the project's tree, as a pool's options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeWish {
    /// `None`: the first that the build checks out.
    pub codebase: Option<String>,
    /// Empty for all of it.
    pub folder: String,
}

/// A folder of a codebase at one revision, for one build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub codebase: String,
    pub revision: String,
    /// Empty for all of it.
    pub folder: String,
    /// Of the build.
    pub trust: Trust,
    #[serde(skip)]
    pub reader: Reader,
}

/// What is known of a folder's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The same content has the same word, at whatever revision.
    pub word: String,
    /// Whether somebody who is trusted has it so too.
    pub trusted: bool,
}

/// A tar archive of a folder's files, with their names within the folder.
pub type Packed = BoxStream<'static, std::io::Result<Bytes>>;

/// Reads trees.
#[async_trait]
pub trait ReadTree: Send + Sync {
    /// # Errors
    /// Where there is no such folder, or the codebase cannot be had.
    async fn look(&self, tree: &Tree) -> Result<Look, ProviderError>;

    /// # Errors
    /// As [`Self::look`].
    async fn pack(&self, tree: &Tree) -> Result<Packed, ProviderError>;
}

/// What reads the tree of one call. Two are alike: what is read is said elsewhere.
#[derive(Clone, Default)]
pub struct Reader(Option<Arc<dyn ReadTree>>);

impl Reader {
    pub fn new(reads: Arc<dyn ReadTree>) -> Self {
        Self(Some(reads))
    }

    fn reads(&self, tree: &Tree) -> Result<&dyn ReadTree, ProviderError> {
        self.0.as_deref().ok_or_else(|| {
            let doing = format!("read the tree of `{}`", tree.codebase);
            ProviderError::new(
                rouse_model::failure::FailureClass::Master,
                doing,
                "no codebases are at hand here",
            )
        })
    }
}

impl Tree {
    /// # Errors
    /// As [`ReadTree::look`] says, and where there is nobody to ask.
    pub async fn look(&self) -> Result<Look, ProviderError> {
        self.reader.reads(self)?.look(self).await
    }

    /// # Errors
    /// As [`Self::look`].
    pub async fn pack(&self) -> Result<Packed, ProviderError> {
        self.reader.reads(self)?.pack(self).await
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader(…)")
    }
}

impl PartialEq for Reader {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Reader {}
