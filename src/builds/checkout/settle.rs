//! What must not change while a checkout runs, and some of it not for the builds beside it either.

use super::Merge;
use crate::builds::action::{self, Memory, StepError};
use crate::builds::state::State;
use crate::ctx::Ctx;
use crate::render;
use crate::sources::{Class, Selection, SourceError, check_ref_name};
use crate::supervisor::chain;
use rouse_model::plan::{Checkout, Submodules};
use rouse_model::{RequestId, Trust};
use rouse_store::Batch;

/// A buildset's first request is written by several builds of it at once.
const TRIES: usize = 20;
/// Bytes of all folders of a checkout.
const FOLDERS: usize = 8 << 10;

/// Whether what the codebase's own key opens may be in this build.
pub(super) fn is_keyed(state: &State) -> bool {
    state.build.trust == Trust::Trusted
}

/// Settles one tree of a checkout.
pub(in crate::builds) async fn settle(
    ctx: &Ctx,
    state: &mut State,
    tree: &Checkout,
    memory: &mut Memory,
) -> Result<(), StepError> {
    let codebase = &tree.codebase;
    let stamp = state.stamps.iter().find(|s| s.codebase == *codebase);
    let revision = match stamp.and_then(|s| s.revision.clone()) {
        Some(revision) => revision,
        None => ctx
            .sources
            .tip(codebase, action::stamp_branch(state, tree)?.as_deref())
            .await
            .map_err(|e| StepError::Infrastructure(chain(&e)))?,
    };
    memory.revisions.insert(codebase.clone(), revision.clone());
    let mut selection = Selection { folders: folders(state, tree)?, ..Selection::default() };
    if let Some(merge) = merge(ctx, state, tree, &revision).await? {
        selection.onto = Some(merge.onto.clone());
        memory.merges.insert(codebase.clone(), merge);
    }
    if tree.submodules != Submodules::None {
        let recursive = tree.submodules == Submodules::Recursive;
        let keyed = is_keyed(state);
        let found = ctx.sources.submodules(codebase, &revision, &selection, recursive, keyed).await;
        let found = found.map_err(|error| of_source(&error))?;
        memory.submodules.insert(codebase.clone(), found);
    }
    if !selection.folders.is_empty() {
        memory.folders.insert(codebase.clone(), selection.folders);
    }
    Ok(())
}

fn folders(state: &State, tree: &Checkout) -> Result<Vec<String>, StepError> {
    let mut folders = Vec::new();
    for folder in &tree.folders {
        let text = render::path(folder, &state.scope)?.text;
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        folders.push(parts.join("/"));
    }
    // All of it.
    if folders.iter().any(String::is_empty) {
        return Ok(Vec::new());
    }
    if folders.iter().map(String::len).sum::<usize>() > FOLDERS {
        return Err(StepError::User(format!("the folders of `sparse` come to more than {FOLDERS} bytes")));
    }
    if folders.iter().any(|folder| folder.chars().any(char::is_control)) {
        return Err(StepError::User("a folder of `sparse` has a control character in its name".to_owned()));
    }
    folders.sort();
    folders.dedup();
    Ok(folders)
}

/// The merge, where there is one: what is of the target branch already merges into nothing.
async fn merge(
    ctx: &Ctx,
    state: &mut State,
    tree: &Checkout,
    revision: &str,
) -> Result<Option<Merge>, StepError> {
    let Some(branch) = &tree.merge else { return Ok(None) };
    let branch = render::text(branch, &state.scope)?.text.trim().to_owned();
    if branch.is_empty() || action::stamp_branch(state, tree)?.as_ref() == Some(&branch) {
        return Ok(None);
    }
    check_ref_name(&branch).map_err(|error| StepError::User(chain(&error)))?;
    let onto = target(ctx, state, &tree.codebase, &branch).await?;
    let commit = ctx.sources.merge(&tree.codebase, revision, &onto).await;
    let commit = commit.map_err(|error| of_source(&error))?;
    Ok(Some(Merge { branch, onto, commit }))
}

/// The revision of a target branch: whichever build of the buildset asks first settles it for all of them, and for those that repeat them.
async fn target(ctx: &Ctx, state: &mut State, codebase: &str, branch: &str) -> Result<String, StepError> {
    let fault = |error: &dyn std::error::Error| StepError::Infrastructure(chain(error));
    let buildset = state.build.buildset;
    for _ in 0..TRIES {
        let requests = ctx.store.requests_of(buildset).await.map_err(|e| fault(&e))?;
        let Some(mut first) = requests.into_iter().next() else {
            return Err(StepError::Infrastructure(format!("buildset {buildset} has no requests")));
        };
        let settled = first.provision.merges.get(codebase).and_then(|branches| branches.get(branch));
        if let Some(revision) = settled {
            return Ok(revision.clone());
        }
        let tip = ctx.sources.tip(codebase, Some(branch)).await;
        let tip = tip.map_err(|error| match error.class() {
            Class::Missing => StepError::User(chain(&error)),
            _ => fault(&error),
        })?;
        let merges = first.provision.merges.entry(codebase.to_owned()).or_default();
        merges.insert(branch.to_owned(), tip.clone());
        let mut batch = Batch::new("merge.settle");
        batch.update(&mut first);
        match ctx.store.commit(batch).await {
            Ok(()) => {
                if RequestId(first.id.0) == state.request.id {
                    state.request = first;
                }
                return Ok(tip);
            }
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(fault(&error)),
        }
    }
    Err(StepError::Infrastructure(format!("what `{branch}` is could not be settled")))
}

/// Whose affair it is that the files cannot be had.
fn of_source(error: &SourceError) -> StepError {
    let words = chain(error);
    let of_user = match error {
        SourceError::Conflict { .. } | SourceError::Refused { .. } => true,
        SourceError::Submodule { source, .. } => matches!(
            source.class(),
            Class::Refused | Class::Missing | Class::NotARepository | Class::Auth | Class::TooLarge
        ),
        _ => false,
    };
    if of_user { StepError::User(words) } else { StepError::Infrastructure(words) }
}
