//! One look at one codebase: refs against stored heads, and what to make of the difference.

use super::seen::Poller;
use crate::config::CodebaseConfig;
use crate::ctx::{Active, Ctx, Hint};
use crate::sources::{Look, SourceError};
use rouse_model::Trust;
use rouse_model::source::Head;
use rouse_store::{CommitError, HoldError, ReadError};
use std::collections::{BTreeMap, BTreeSet};

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("read what was seen before")]
    Read(#[from] ReadError),
    #[error("record what was seen")]
    Commit(#[from] CommitError),
    #[error("take the poller's role")]
    Role(#[from] HoldError),
}

/// What a look came to, with the hints that it could not serve.
#[derive(Debug)]
pub(super) enum Looked {
    Well {
        unserved: Vec<Hint>,
    },
    Failed {
        unserved: Vec<Hint>,
    },
    /// Another master's poller looks at it, and is told of the hints by the event log.
    Elsewhere {
        hints: Vec<Hint>,
    },
}

/// Looks, where this master is the one to do so, and records how it went.
pub(super) async fn look(ctx: &Ctx, active: &Active, name: &str, hints: Vec<Hint>) -> Looked {
    let Some((_, config)) = active.config.codebases.iter().find(|(n, _)| n.as_str() == name) else {
        return Looked::Well { unserved: Vec::new() };
    };
    let error = match try_look(ctx, config, name, &hints).await {
        Ok(Some(unserved)) => return Looked::Well { unserved },
        Ok(None) => return Looked::Elsewhere { hints },
        // Somebody else was quicker, and has seen what there was.
        Err(LookError::Commit(error)) if error.is_conflict() => return Looked::Well { unserved: hints },
        Err(error) => error,
    };
    let said = crate::supervisor::chain(&error);
    match super::seen::note_failure(ctx, config, name, &said).await {
        Ok(true) => tracing::warn!(
            codebase = name,
            error = said,
            "a repository cannot be looked at; trying again, less and less often"
        ),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(codebase = name, %error, "the state of a codebase could not be recorded")
        }
    }
    Looked::Failed { unserved: hints }
}

async fn try_look(
    ctx: &Ctx,
    config: &CodebaseConfig,
    name: &str,
    hints: &[Hint],
) -> Result<Option<Vec<Hint>>, LookError> {
    let Some(role) = ctx.roles.hold("poller", name).await? else { return Ok(None) };
    let look = ctx.sources.look(name).await?;
    let state = ctx.store.codebase_state(name).await?;
    let url = config.git.to_string();
    let heads: BTreeMap<String, Head> =
        ctx.store.heads(name).await?.into_iter().map(|h| (h.branch.clone(), h)).collect();
    let first = state.as_ref().is_none_or(|s| s.url != url || s.looked.is_none());
    let watching = watching(config);
    let rewatched =
        state.as_ref().and_then(|s| s.watching.as_ref()).is_some_and(|before| *before != watching);
    let poller = Poller {
        ctx,
        config,
        name,
        role: &role,
        by: hints.first().map_or_else(|| format!("poller {name}"), |hint| hint.by.clone()),
        url,
        watching,
        default_branch: look.default_branch.clone(),
    };
    let named: BTreeSet<&str> = hints.iter().filter_map(|hint| hint.branch.as_deref()).collect();
    let mut moved: BTreeMap<String, String> = BTreeMap::new();
    let mut unseen: BTreeMap<String, String> = BTreeMap::new();
    for (branch, tip) in &look.refs {
        let watched = config.watches(branch);
        let before = heads.get(branch).and_then(|head| head.revision.as_ref());
        if before == Some(tip) || !(watched || named.contains(branch.as_str())) {
            continue;
        }
        // A branch that was not watched until now has a past, and is no news.
        let is_new_to_us = watched && (first || (rewatched && before.is_none()));
        let of = if is_new_to_us { &mut unseen } else { &mut moved };
        of.insert(branch.clone(), tip.clone());
    }
    let at_first_sight = first || rewatched;
    if at_first_sight {
        poller.first_look(unseen, &heads, state.clone()).await?;
    }
    if !moved.is_empty() {
        poller.branches_moved(&moved, &heads).await?;
    }
    poller.branches_gone(gone(config, &look, &heads, rewatched)).await?;
    if !at_first_sight {
        poller.note_success(state).await?;
    }
    unserved(ctx, name, hints).await.map(Some)
}

/// Refs that are there no more; and where others are watched than before, those that are not watched any more.
fn gone(config: &CodebaseConfig, look: &Look, heads: &BTreeMap<String, Head>, rewatched: bool) -> Vec<Head> {
    let is_gone =
        |head: &&Head| !look.refs.contains_key(&head.branch) || (rewatched && !config.watches(&head.branch));
    heads.values().filter(|head| head.revision.is_some()).filter(is_gone).cloned().collect()
}

/// Hints whose revision is neither where its branch stands nor among what was seen before it.
async fn unserved(ctx: &Ctx, name: &str, hints: &[Hint]) -> Result<Vec<Hint>, LookError> {
    let mut unserved = Vec::new();
    for hint in hints {
        let Some(revision) = &hint.revision else { continue };
        let heads = ctx.store.heads(name).await?;
        let stands = heads.iter().any(|head| {
            head.revision.as_ref() == Some(revision) && hint.branch.as_ref().is_none_or(|b| *b == head.branch)
        });
        if !stands && ctx.store.changes_at(name, revision).await?.is_empty() {
            unserved.push(hint.clone());
        }
    }
    Ok(unserved)
}

/// What is watched, as it is remembered with the heads.
fn watching(config: &CodebaseConfig) -> String {
    serde_json::json!({"branches": config.branches, "tags": config.tags}).to_string()
}

/// What is found on a branch that is not declared is not trusted.
pub(super) fn trust_of(config: &CodebaseConfig, branch: &str) -> Trust {
    if config.watches(branch) { Trust::Trusted } else { Trust::Untrusted }
}
