//! Folders that come from an earlier build and are kept for later ones (`caches:` of a builder): two steps of the plan, one that brings a version
//! and one that keeps another.
//!
//! A version is one archive, written once: whoever reads it is disturbed by no writer, and two that write at the same time leave two of which the
//! later one counts. Only trusted builds whose steps all went well write. Nothing depends on a cache: where it cannot be had, or cannot be kept, the step
//! says so and the build is what it is without. docs/adr/0023

use super::action::{Memory, Move, StepError, Stored, build_dir};
use super::outcome::{self, End};
use super::state::{DriveError, State};
use super::turn::Turn;
use crate::artifacts::CACHE;
use crate::objects::disk::words as words_of_size;
use crate::render;
use crate::transfers::Transfer;
use rouse_agent_protocol::{self as wire, ARCHIVES, Outcome, OutcomeKind};
use rouse_model::cache::Cache;
use rouse_model::event::EventKind;
use rouse_model::logs::Artifact;
use rouse_model::plan;
use rouse_model::sequence;
use rouse_model::{BuildResult, CacheId, LogId, StepId, Timestamp, Trust};
use rouse_store::{Batch, CommitError, ReadError, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an archive is called on its way to be a version.
const ARCHIVE: &str = "archive";
/// Most bytes of a rendered key.
const MOST_KEY: usize = 256;
/// Use that is noted less often costs nothing.
const NOTE_USE: i64 = 3600 * 1_000_000;

/// What a step of a cache settles when it begins.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Settled {
    /// Under which it is kept.
    key: String,
    /// The version that is there: of a restore under the first key that has one, of a save under its own.
    found: Option<Found>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Found {
    id: CacheId,
    key: String,
    sha256: String,
}

/// Why a step of a cache is left out.
pub(super) fn left_out(state: &State, action: &plan::Action) -> Option<&'static str> {
    let (cache, saves) = match action {
        plan::Action::RestoreCache(cache) => (cache, false),
        plan::Action::SaveCache(cache) => (cache, true),
        _ => return None,
    };
    let so_far = sequence::so_far(&state.plan, &state.recorded());
    if !state.knows(ARCHIVES) {
        Some("this worker's agent knows no caches")
    } else if is_absolute(cache) && state.build.slot != 0 {
        Some("the path is absolute, and the worker runs several builds")
    } else if saves && state.build.trust == Trust::Untrusted {
        Some("only trusted builds write caches")
    } else if saves && !matches!(so_far, BuildResult::Success | BuildResult::Warnings) {
        Some("only builds that went well write caches")
    } else {
        None
    }
}

/// What is to be restored.
pub(super) async fn find(store: &Store, state: &State, cache: &plan::Cache) -> Result<Settled, StepError> {
    let keys = keys(state, cache)?;
    let key = keys.first().cloned().unwrap_or_default();
    let mut found = None;
    for key in &keys {
        found = at(store, state, cache, key).await?;
        if found.is_some() {
            break;
        }
    }
    Ok(Settled { key, found })
}

/// What is to be replaced.
pub(super) async fn find_own(
    store: &Store,
    state: &State,
    cache: &plan::Cache,
) -> Result<Settled, StepError> {
    let key = keys(state, cache)?.into_iter().next().unwrap_or_default();
    Ok(Settled { found: at(store, state, cache, &key).await?, key })
}

async fn at(
    store: &Store,
    state: &State,
    cache: &plan::Cache,
    key: &str,
) -> Result<Option<Found>, StepError> {
    let found = store.cache_at(&state.build.project, &cache.name, key).await;
    let found = found.map_err(|e| StepError::Infrastructure(crate::supervisor::chain(&e)))?;
    Ok(found.map(|Cache { id, key, sha256, .. }| Found { id, key, sha256 }))
}

fn keys(state: &State, cache: &plan::Cache) -> Result<Vec<String>, StepError> {
    let keys = cache.keys.iter().map(|key| Ok(render::text(key, &state.scope)?.text));
    let keys: Vec<String> = keys.collect::<Result<_, StepError>>()?;
    match keys.iter().find(|key| key.len() > MOST_KEY || key.contains(char::is_control)) {
        None => Ok(keys),
        Some(key) => {
            let shown: String = key.chars().take(80).collect();
            Err(StepError::User(format!(
                "{shown:?} is no key of cache `{}`: one is text of at most {MOST_KEY} bytes, in one line",
                cache.name
            )))
        }
    }
}

fn is_absolute(cache: &plan::Cache) -> bool {
    cache.path.starts_with('/')
}

/// Where its files are, below the work folder. An absolute path is a link to there, made by the build's own user: what that may not do is not done.
fn folder(state: &State, cache: &plan::Cache) -> String {
    if is_absolute(cache) {
        format!("cache/{}", cache.name)
    } else {
        format!("{}/{}", build_dir(state), cache.path.trim_end_matches('/'))
    }
}

/// The next move of a step that restores.
pub(super) fn restore(
    state: &State,
    cache: &plan::Cache,
    settled: &Settled,
    outcomes: &[Outcome],
    log: LogId,
) -> Move {
    let folder = folder(state, cache);
    let mut said = outcomes.iter();
    if is_absolute(cache) {
        match said.next() {
            None => return command(link(cache, &folder, log)),
            Some(outcome) => {
                if let Some(trouble) = outcome::trouble(outcome) {
                    return Move::End(bearable(trouble));
                }
            }
        }
    }
    let Some(found) = &settled.found else {
        return Move::End(End::success(format!("nothing is kept yet{}", under(&settled.key))));
    };
    let Some(outcome) = said.next() else {
        return command(wire::Action::Download(wire::Download {
            url_path: Transfer::Cache { id: found.id }.url_path(),
            token: wire::Hidden::default(),
            to: folder,
            unpack: wire::Unpack::Archive,
            sha256: Some(found.sha256.clone()),
            clean: true,
            direct: false,
        }));
    };
    match outcome::trouble(outcome) {
        None => {
            let bytes = match &outcome.kind {
                OutcomeKind::Transferred { files } => files.iter().map(|file| file.size).sum(),
                _ => 0,
            };
            Move::End(End::success(format!("{}{}", words_of_size(bytes), under(&found.key))))
        }
        Some(trouble) if trouble.result == BuildResult::Cancelled => Move::End(trouble),
        // Half of a cache may be worse than none.
        Some(trouble) if said.next().is_none() => match &outcome.kind {
            OutcomeKind::Failed { .. } => command(wire::Action::Paths(wire::Paths {
                ops: vec![wire::PathOp::Remove { path: folder.clone() }, wire::PathOp::Make { path: folder }],
            })),
            _ => Move::End(bearable(trouble)),
        },
        Some(trouble) => Move::End(bearable(trouble)),
    }
}

/// The next move of a step that keeps.
pub(super) fn save(
    state: &State,
    cache: &plan::Cache,
    settled: &Settled,
    step: StepId,
    outcomes: &[Outcome],
) -> Move {
    if let Some(outcome) = outcomes.first() {
        return Move::End(outcome::trouble(outcome).map_or_else(|| End::success("kept".into()), bearable));
    }
    let transfer = Transfer::Upload { build: state.build.id, step, set: CACHE.to_owned() };
    command(wire::Action::Upload(wire::Upload {
        paths: vec![ARCHIVE.to_owned()],
        base_dir: folder(state, cache),
        url_path: transfer.url_path(),
        token: wire::Hidden::default(),
        max_bytes: cache.max_bytes.min(wire::MAX_UPLOAD_BYTES),
        optional: false,
        direct: false,
        pack: Some(wire::Pack { known: settled.found.as_ref().map(|found| found.sha256.clone()) }),
    }))
}

fn command(action: wire::Action) -> Move {
    Move::Command(Box::new(Stored { action, secrets: BTreeMap::new() }))
}

/// A build is no worse for a cache that does not work.
pub(super) fn bearable(trouble: End) -> End {
    match trouble.result {
        BuildResult::Failure | BuildResult::Exception | BuildResult::Retry => {
            let summary = format!("goes without: {}", trouble.summary);
            End { result: BuildResult::Warnings, class: None, summary }
        }
        _ => trouble,
    }
}

fn under(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!(", under `{key}`") }
}

fn link(cache: &plan::Cache, folder: &str, log: LogId) -> wire::Action {
    wire::Action::Run(wire::Run {
        program: wire::Program::Script { interpreter: vec!["sh".into()], text: LINK.to_owned() },
        env: BTreeMap::from([("ROUSE_CACHE".to_owned(), Some(cache.path.trim_end_matches('/').to_owned()))]),
        cwd: folder.to_owned(),
        tty: false,
        timeout_s: Some(60.0),
        silence_s: None,
        kill: wire::Kill::default(),
        stream: wire::StreamId(log.0),
        logs: Vec::new(),
    })
}

/// In place of a folder that is empty. Files that are there are somebody's.
const LINK: &str = r#"set -e
if [ -L "$ROUSE_CACHE" ]; then rm "$ROUSE_CACHE"; elif [ -e "$ROUSE_CACHE" ]; then rmdir "$ROUSE_CACHE"; fi
mkdir -p "$(dirname "$ROUSE_CACHE")"
ln -s "$PWD" "$ROUSE_CACHE"
"#;

impl Turn<'_> {
    /// Notes that a version is of use yet. In a commit of its own: nobody's build waits for it, or fails by it.
    pub(super) async fn note_use(&self, settled: &Settled) {
        let Some(found) = &settled.found else { return };
        let noted = note_use(&self.ctx.store, found.id, self.now).await;
        if let Err(error) = noted {
            tracing::debug!(cache = %found.id, error = crate::supervisor::chain(&error), "its use is not noted");
        }
    }

    /// What has arrived counts from this commit on.
    pub(super) async fn take_cache(
        &mut self,
        state: &State,
        step: &rouse_model::build::Step,
        cache: &plan::Cache,
        end: &mut End,
    ) -> Result<(), DriveError> {
        let memory: Memory = serde_json::from_str(&step.memory).unwrap_or_default();
        let settled = memory.cache.unwrap_or_default();
        let kept = self.ctx.store.artifacts(state.build.id).await?;
        let Some(arrived) = kept.into_iter().find(|a| a.step == step.id && a.set == CACHE) else {
            end.summary = match &settled.found {
                Some(found) => format!("unchanged{}", under(&found.key)),
                None => "nothing is there to be kept".to_owned(),
            };
            return Ok(());
        };
        self.batch.delete(&arrived);
        if arrived.bytes.unsigned_abs() > cache.max_bytes {
            let (is, most) = (words_of_size(arrived.bytes.unsigned_abs()), words_of_size(cache.max_bytes));
            *end = bearable(End::failure(format!("it has {is}, and may have {most}")));
            self.drop_object(&arrived);
            return Ok(());
        }
        self.make_room(state, cache, &settled.key, arrived.bytes).await?;
        end.summary = format!("{}{}", words_of_size(arrived.bytes.unsigned_abs()), under(&settled.key));
        let row = Cache {
            id: self.ctx.store.next_id().await?,
            project: state.build.project.clone(),
            name: cache.name.clone(),
            key: settled.key,
            build: state.build.id,
            bytes: arrived.bytes,
            sha256: arrived.sha256,
            object: arrived.key,
            created: self.now,
            used: self.now,
            replaced: None,
            generation: 0,
        };
        self.batch.insert(&row);
        let payload =
            serde_json::json!({"build": row.build, "name": row.name, "key": row.key, "bytes": row.bytes});
        self.event(state, EventKind::CacheKept, format!("cache/{}", row.id), payload);
        Ok(())
    }

    /// Takes out of use what lay under the key, and the least recently used of the others where all would be more than they may.
    async fn make_room(
        &mut self,
        state: &State,
        cache: &plan::Cache,
        key: &str,
        bytes: i64,
    ) -> Result<(), DriveError> {
        let all = self.ctx.store.caches_named(&state.build.project, &cache.name).await?;
        let (same, others): (Vec<Cache>, Vec<Cache>) = all.into_iter().partition(|other| other.key == key);
        let sum = others
            .iter()
            .map(|other| other.bytes.unsigned_abs())
            .fold(bytes.unsigned_abs(), u64::saturating_add);
        let mut over = sum.saturating_sub(cache.max_bytes);
        let beyond = others.into_iter().take_while(|other| {
            let goes = over > 0;
            over = over.saturating_sub(other.bytes.unsigned_abs());
            goes
        });
        for mut old in same.into_iter().chain(beyond) {
            old.replaced = Some(self.now);
            self.batch.update(&mut old);
        }
        Ok(())
    }

    fn drop_object(&mut self, arrived: &Artifact) {
        let (artifacts, key) = (self.ctx.artifacts.clone(), arrived.key.clone());
        self.batch.after_commit(move || {
            let (artifacts, key) = (artifacts.clone(), key.clone());
            crate::supervisor::spawn(
                "cache-removal",
                async move { artifacts.remove_objects(vec![key]).await },
            );
        });
    }
}

async fn note_use(store: &Store, id: CacheId, now: Timestamp) -> Result<(), NoteError> {
    let Some(mut row) = store.cache(id).await? else { return Ok(()) };
    if row.replaced.is_some() || now.0 - row.used.0 < NOTE_USE {
        return Ok(());
    }
    row.used = now;
    let mut batch = Batch::new("cache.use");
    batch.update(&mut row);
    store.commit(batch).await.map(drop)?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum NoteError {
    #[error("read the record")]
    Read(#[from] ReadError),
    #[error("record it")]
    Commit(#[from] CommitError),
}
