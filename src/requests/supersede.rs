//! What a newer change makes pointless: older requests of the same builder, scheduler and branches that have not ended.

use super::cancel::{CancelError, cancel_if_open};
use super::make::Wish;
use crate::config::{Config, Supersede};
use crate::ctx::Ctx;
use rouse_model::buildset::Buildset;
use rouse_model::source::SourceStamp;
use rouse_model::{BuildsetId, Trust};
use rouse_store::ReadError;
use std::collections::BTreeMap;

/// Why the older ones could not be ended; the newer change is then taken up once more.
#[derive(Debug, thiserror::Error)]
pub enum SupersedeError {
    #[error("read what is there")]
    Read(#[from] ReadError),
    #[error("end what a newer change supersedes")]
    End(#[from] CancelError),
}

/// Ends what the wish makes pointless, for those of its builders that say so. To be called before the wish is made: whoever is killed between the two
/// finds the change again, and the rest to do.
///
/// # Errors
/// Where the store cannot be read or written.
pub async fn supersede(ctx: &Ctx, config: &Config, wish: &Wish) -> Result<(), SupersedeError> {
    let says_so = |name: &&String| {
        config.builders.get(name.as_str()).is_some_and(|b| b.supersede == Some(Supersede::Branch))
    };
    let builders: Vec<&String> = wish.builders.iter().filter(says_so).collect();
    let Some(scheduler) = wish.scheduler.as_deref().filter(|_| !builders.is_empty()) else { return Ok(()) };
    let open = ctx.store.open_buildsets(scheduler).await?;
    let ids: Vec<BuildsetId> = open.iter().map(|buildset| buildset.id).collect();
    let stamps = ctx.store.stamps_by_buildset(&ids).await?;
    let why = format!("superseded by a newer change: {}", wish.reason);
    for older in open.iter().filter(|older| is_older(older, &stamps, wish)) {
        for request in ctx.store.requests_of(older.id).await? {
            if builders.contains(&&request.builder) {
                cancel_if_open(ctx, request, &why).await?;
            }
        }
    }
    Ok(())
}

/// Whether a buildset is of the same branches, and nobody less trusted ends it.
fn is_older(older: &Buildset, stamps: &[SourceStamp], wish: &Wish) -> bool {
    let before: BTreeMap<&str, Option<&str>> = stamps
        .iter()
        .filter(|stamp| stamp.buildset == older.id)
        .map(|stamp| (stamp.codebase.as_str(), stamp.branch.as_deref()))
        .collect();
    let now: BTreeMap<&str, Option<&str>> =
        wish.stamps.iter().map(|stamp| (stamp.codebase.as_str(), stamp.branch.as_deref())).collect();
    let trust = Trust::least(wish.stamps.iter().map(|stamp| stamp.trust).chain([wish.trust]));
    older.origin != wish.origin && before == now && older.trust == trust
}
