//! Parts of projects' trees, as providers that make images of them read them: out of the master's git mirrors.

use crate::ctx::Ctx;
use crate::sources::{Class, SourceError};
use async_trait::async_trait;
use futures::TryStreamExt;
use rouse_contract::ProviderError;
use rouse_contract::tree::{Look, Packed, ReadTree, Reader, Tree};
use rouse_model::Trust;
use rouse_model::failure::FailureClass;
use std::sync::Arc;
use std::time::Duration;

/// When a repository's server is asked again that is away.
const AWAY: Duration = Duration::from_secs(5);

pub(super) fn reader(ctx: Arc<Ctx>) -> Reader {
    Reader::new(Arc::new(OfMirrors(ctx)))
}

struct OfMirrors(Arc<Ctx>);

impl OfMirrors {
    /// Where the branches are now whose content is trusted.
    async fn heads(&self, tree: &Tree) -> Result<Vec<String>, ProviderError> {
        let heads = self.0.store.heads(&tree.codebase).await.map_err(|error| {
            let doing = format!("read the heads of `{}`", tree.codebase);
            ProviderError::new(FailureClass::Master, doing, crate::supervisor::chain(&error))
                .retry_after(AWAY)
        })?;
        let active = self.0.config();
        let codebase = active.config.codebases.iter().find(|(name, _)| name.as_str() == tree.codebase);
        let Some((_, codebase)) = codebase else { return Ok(Vec::new()) };
        let watched = heads.into_iter().filter(|head| codebase.watches(&head.branch));
        Ok(watched.filter_map(|head| head.revision).collect())
    }
}

#[async_trait]
impl ReadTree for OfMirrors {
    async fn look(&self, tree: &Tree) -> Result<Look, ProviderError> {
        let heads = match tree.trust {
            Trust::Trusted => Vec::new(),
            Trust::Untrusted => self.heads(tree).await?,
        };
        let words = self.0.sources.words(&tree.codebase, &tree.revision, &heads, &tree.folder);
        let (word, others) = words.await.map_err(|error| failed(tree, &error))?;
        let trusted = tree.trust == Trust::Trusted || others.contains(&word);
        Ok(Look { word, trusted })
    }

    async fn pack(&self, tree: &Tree) -> Result<Packed, ProviderError> {
        let packed = self.0.sources.folder(&tree.codebase, &tree.revision, &tree.folder);
        let packed = packed.await.map_err(|error| failed(tree, &error))?;
        Ok(Box::pin(packed.map_err(std::io::Error::other)))
    }
}

fn failed(tree: &Tree, error: &SourceError) -> ProviderError {
    let folder = if tree.folder.is_empty() { "the tree" } else { tree.folder.as_str() };
    let doing = format!("read {folder} of `{}` at {:.12}", tree.codebase, tree.revision);
    let why = crate::supervisor::chain(error);
    match error.class() {
        Class::Network | Class::Timeout | Class::Damaged | Class::Other => {
            ProviderError::new(FailureClass::Offering, doing, why).retry_after(AWAY)
        }
        Class::Auth | Class::NotARepository | Class::TooLarge | Class::Missing | Class::Refused => {
            ProviderError::new(FailureClass::Image, doing, why)
        }
    }
}

#[cfg(test)]
mod tests;
