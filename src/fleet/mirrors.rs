//! Git mirrors on the hosts where workers run: what a build has to fetch there is fetched once for each host.
//!
//! The master writes them, from its own mirrors, and nobody else does: a worker has them read-only, and what is in them are objects whose ids the
//! master's own git has computed. A mirror is put up behind the back of the first builds that check its codebase out on a host; from then
//! on each launch brings it up to date first, for a moment, and goes on without that where it takes longer. Nothing depends on it: what a
//! worker does not find there is fetched as ever. docs/adr/0020

mod records;
#[cfg(test)]
mod tests;

use super::Fleet;
use crate::config::{CodebaseConfig, Config, MirrorPolicy};
use records::{Record, Records};
use rouse_contract::{LaunchSpec, ProviderError, Shelf, Shelves};
use rouse_model::Trust;
use rouse_model::matching::ReuseClass;
use rouse_model::worker::Worker;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A repository whose mirror is smaller is as quickly fetched as looked for.
const WORTH_IT: u64 = 32 << 20;
/// How long a launch waits for what its host does not have yet.
const MOMENT: Duration = Duration::from_secs(2);
/// For one call about a whole repository.
const PATIENCE: Duration = Duration::from_secs(3600);
/// For a question.
const SOON: Duration = Duration::from_secs(20);
/// Git looks through every layer for every object.
const LAYERS: u32 = 24;
/// Between looks for mirrors that nobody uses any more.
const SWEEP: Duration = Duration::from_secs(3600);
const UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);

#[derive(Debug, thiserror::Error)]
enum MirrorError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Source(#[from] crate::sources::SourceError),
    #[error("keep the record of mirrors on hosts")]
    Record(#[from] std::io::Error),
    #[error("the host did not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
}

/// One for each account and codebase.
type Turns = HashMap<(String, String), Arc<tokio::sync::Mutex<()>>>;

/// Which mirrors there are, in a file, and whose turn it is to change one.
#[derive(Debug)]
pub(super) struct Mirrors {
    records: Records,
    turns: Mutex<Turns>,
}

impl Mirrors {
    pub(super) fn in_folder(state: &std::path::Path) -> Self {
        Self { records: Records::at(state.join("host-mirrors.json")), turns: Mutex::default() }
    }

    fn turn(&self, account: &str, codebase: &str) -> Arc<tokio::sync::Mutex<()>> {
        let key = (account.to_owned(), codebase.to_owned());
        let mut turns = self.turns.lock().expect("nothing panics while it is held");
        turns.entry(key).or_default().clone()
    }
}

/// Puts up what builds have asked for, until told to stop.
pub(super) async fn run(fleet: Arc<Fleet>, stop: CancellationToken) {
    loop {
        // Each by itself: a host that hangs holds up no other.
        for (account, codebase, revision) in fleet.ctx.mirrors.take() {
            let put_up = put_up(Arc::clone(&fleet), account, codebase, revision);
            crate::supervisor::spawn("mirror", put_up);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = fleet.ctx.mirrors.wanted() => {}
            () = tokio::time::sleep(SWEEP) => sweep(&fleet).await,
        }
    }
}

async fn put_up(fleet: Arc<Fleet>, account: String, codebase: String, revision: String) {
    let call = {
        let (fleet, account, codebase) = (Arc::clone(&fleet), account.clone(), codebase.clone());
        async move { bring(&fleet, &account, &codebase, Some(&revision)).await }
    };
    if let Some(Err(error)) = fleet.accounts.to_its_end(call).await {
        let error = crate::supervisor::chain(&error);
        tracing::warn!(account, codebase, error, "a git mirror could not be put up on a host");
    }
}

/// What a worker may read on its host, as far as that is there: codebases of its own project, and of those, where it is not trusted, only
/// such as everybody may read.
pub(super) async fn for_worker(fleet: &Arc<Fleet>, worker: &Worker) -> Vec<Shelf> {
    let active = fleet.ctx.config();
    let mut shelves = Vec::new();
    let until = tokio::time::Instant::now() + MOMENT;
    for (name, codebase) in &active.config.codebases {
        let may = codebase.project.as_str() == worker.project && may_read(codebase, worker.trust);
        let known = fleet.mirrors.records.get(&worker.provider, name.as_str());
        let Some(known) = known.filter(|known| may && known.url == codebase.git.to_string()) else {
            continue;
        };
        let (account, codebase) = (worker.provider.clone(), name.to_string());
        let call = {
            let fleet = Arc::clone(fleet);
            async move { bring(&fleet, &account, &codebase, None).await }
        };
        let shelf = match tokio::time::timeout_at(until, fleet.accounts.to_its_end(call)).await {
            Ok(Some(Ok(shelf))) => shelf,
            // It goes on by itself, and what is there is there.
            Err(_) => Some(known.shelf),
            Ok(Some(Err(error))) => {
                let error = crate::supervisor::chain(&error);
                tracing::debug!(
                    codebase = name.as_str(),
                    error,
                    "a host's git mirror was not brought up to date"
                );
                None
            }
            Ok(None) => None,
        };
        shelves.extend(shelf.map(|shelf| Shelf { name: shelf, at: name.to_string() }));
    }
    shelves
}

/// Whether a host has a mirror of anything that builds of a class may read. Which of its project's codebases they check out, a class does not say.
pub(super) fn help(fleet: &Fleet, config: &Config, account: &str, class: &ReuseClass) -> bool {
    config.codebases.iter().any(|(name, codebase)| {
        codebase.project.as_str() == class.project
            && may_read(codebase, class.trust)
            && (fleet.mirrors.records.get(account, name.as_str()))
                .is_some_and(|known| known.url == codebase.git.to_string())
    })
}

/// Writes down, before the launch, what the worker will have.
pub(super) fn note(worker: &mut Worker, shelves: &[Shelf]) {
    if let Ok(mut spec) = serde_json::from_str::<LaunchSpec>(&worker.spec)
        && !shelves.is_empty()
    {
        spec.shelves = shelves.to_vec();
        worker.spec = serde_json::to_string(&spec).unwrap_or_default();
    }
}

/// Whether builds of a trust may read all of a codebase, its history and branches included.
fn may_read(codebase: &CodebaseConfig, trust: Trust) -> bool {
    codebase.mirror != MirrorPolicy::Never && (trust == Trust::Trusted || codebase.is_public())
}

fn codebase<'a>(config: &'a Config, name: &str) -> Option<&'a CodebaseConfig> {
    config.codebases.iter().find(|(known, _)| known.as_str() == name).map(|(_, codebase)| codebase)
}

/// Brings a host's mirror up to date; for the sake of a revision also where the master has to fetch that first, and the mirror is not up yet or is to
/// be put up anew. Answers the shelf where it is then.
async fn bring(
    fleet: &Arc<Fleet>,
    account: &str,
    name: &str,
    revision: Option<&str>,
) -> Result<Option<String>, MirrorError> {
    let turn = fleet.mirrors.turn(account, name);
    // Somebody is at it: what is there is there.
    let Ok(_turn) = turn.try_lock() else {
        return Ok(fleet.mirrors.records.get(account, name).map(|record| record.shelf));
    };
    let active = fleet.ctx.config();
    let Some(codebase) = codebase(&active.config, name) else { return Ok(None) };
    let found = fleet.accounts.get(&active.config, account)?;
    let Some(shelves) = found.provider.shelves() else { return Ok(None) };
    let url = codebase.git.to_string();
    if let Some(revision) = revision {
        fleet.ctx.sources.ensure(name, revision).await?;
    }
    let mut known = fleet.mirrors.records.get(account, name).filter(|known| known.url == url);
    if let Some(record) = &known
        && tokio::time::timeout(SOON, shelves.there(&record.shelf)).await??.as_ref() != Some(&record.made)
    {
        // Somebody has removed it, or another daemon answers.
        known = None;
    }
    let worn = known.as_ref().is_some_and(|record| record.layers >= LAYERS || record.more > record.base);
    let (have, before) = match &known {
        Some(record) if !(worn && revision.is_some()) => (record.tips.clone(), known.clone()),
        _ if revision.is_none() => return Ok(None),
        _ => {
            let bytes = fleet.ctx.sources.mirror_bytes(name).await?;
            if codebase.mirror == MirrorPolicy::Auto && bytes < WORTH_IT {
                return Ok(None);
            }
            (Vec::new(), None)
        }
    };
    let layer = match fleet.ctx.sources.layer(name, &have).await {
        Ok(layer) => layer,
        Err(error) => {
            // A tip that was collected meanwhile would stand in the way for ever.
            if !matches!(error, crate::sources::SourceError::Timeout { .. }) {
                fleet.mirrors.records.forget(account, name)?;
            }
            return Err(error.into());
        }
    };
    let Some(layer) = layer else {
        fleet.mirrors.records.used(account, name, fleet.ctx.now());
        return Ok(before.map(|record| record.shelf));
    };
    let shelf = match &before {
        Some(record) => record.shelf.clone(),
        None => free_name(fleet, shelves, name, &url).await?,
    };
    let made = tokio::time::timeout(PATIENCE, shelves.put(&shelf, &layer.name, layer.folder())).await??;
    let record = match before {
        Some(before) => Record {
            tips: layer.tips.clone(),
            layers: before.layers + 1,
            more: before.more + layer.bytes,
            made,
            used: fleet.ctx.now(),
            ..before
        },
        None => Record {
            shelf: shelf.clone(),
            made,
            url,
            tips: layer.tips.clone(),
            layers: 1,
            base: layer.bytes,
            more: 0,
            used: fleet.ctx.now(),
        },
    };
    fleet.mirrors.records.put(account, name, record)?;
    tracing::info!(account, codebase = name, bytes = layer.bytes, shelf, "a git mirror is on a host");
    if have.is_empty() {
        clear(fleet, account, shelves).await?;
    }
    Ok(Some(shelf))
}

/// Names of this master's own begin so.
fn prefix(fleet: &Fleet) -> String {
    format!("m{}-", fleet.ctx.me)
}

/// A name that no shelf has: what lies under one that is not on record may be half of something.
async fn free_name(
    fleet: &Fleet,
    shelves: &dyn Shelves,
    name: &str,
    url: &str,
) -> Result<String, MirrorError> {
    let key = hex::encode(&Sha256::digest(format!("{name}\n{url}").as_bytes())[..5]);
    let mut number = 1;
    loop {
        let shelf = format!("{}{key}-{number}", prefix(fleet));
        if tokio::time::timeout(SOON, shelves.there(&shelf)).await??.is_none() {
            return Ok(shelf);
        }
        number += 1;
    }
}

async fn clear(fleet: &Fleet, account: &str, shelves: &dyn Shelves) -> Result<(), MirrorError> {
    let kept = fleet.mirrors.records.shelves(account);
    Ok(tokio::time::timeout(PATIENCE, shelves.keep(&prefix(fleet), &kept)).await??)
}

/// Forgets mirrors that nobody has used for long, or may use any more, and removes them.
async fn sweep(fleet: &Arc<Fleet>) {
    let active = fleet.ctx.config();
    let now = fleet.ctx.now();
    for (account, name, record) in fleet.mirrors.records.all() {
        let kept = codebase(&active.config, &name).is_some_and(|codebase| {
            codebase.mirror != MirrorPolicy::Never && codebase.git.to_string() == record.url
        });
        if !kept || now.since(record.used) > UNUSED {
            let forgotten = fleet.mirrors.records.forget(&account, &name);
            forgotten.unwrap_or_else(|error| tracing::warn!(%error, "a mirror on a host is not forgotten"));
        }
        if let Ok(found) = fleet.accounts.get(&active.config, &account)
            && let Some(shelves) = found.provider.shelves()
            && let Err(error) = clear(fleet, &account, shelves).await
        {
            tracing::debug!(account, error = crate::supervisor::chain(&error), "mirrors on a host are left");
        }
    }
}
