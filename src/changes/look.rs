//! One look at one codebase: refs against stored heads, and what lies between them.

use crate::config::CodebaseConfig;
use crate::ctx::{Active, Ctx};
use crate::sources::{History, SourceError};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::master::Role;
use rouse_model::source::{Change, ChangeSet, CodebaseState, Head};
use rouse_model::{Timestamp, Trust};
use rouse_store::{Batch, CommitError, HoldError, ReadError};
use std::collections::BTreeMap;

/// Change rows of one set; all commits are counted.
const MAX_CHANGES: usize = 300;

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("read what was seen before")]
    Read(#[from] ReadError),
    #[error("record what was seen")]
    Commit(#[from] CommitError),
    #[error("take the poller's role")]
    Role(#[from] HoldError),
}

/// Looks, and says whether it went well.
pub(super) async fn look(ctx: &Ctx, active: &Active, name: &str, hurried: Option<&str>) -> bool {
    let Some((_, config)) = active.config.codebases.iter().find(|(n, _)| n.as_str() == name) else {
        return true;
    };
    let error = match try_look(ctx, config, name, hurried).await {
        Ok(()) => return true,
        Err(LookError::Commit(error)) if error.is_conflict() => return true,
        Err(error) => error,
    };
    let said = crate::supervisor::chain(&error);
    match note_failure(ctx, config, name, &said).await {
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
    false
}

async fn try_look(
    ctx: &Ctx,
    config: &CodebaseConfig,
    name: &str,
    hurried: Option<&str>,
) -> Result<(), LookError> {
    let Some(role) = ctx.roles.hold("poller", name).await? else { return Ok(()) };
    let look = ctx.sources.look(name).await?;
    let state = ctx.store.codebase_state(name).await?;
    let url = config.git.to_string();
    let first = state.as_ref().is_none_or(|s| s.url != url || s.looked.is_none());
    let heads: BTreeMap<String, Head> =
        ctx.store.heads(name).await?.into_iter().map(|h| (h.branch.clone(), h)).collect();
    let watched: BTreeMap<String, String> =
        look.refs.into_iter().filter(|(branch, _)| config.watches(branch)).collect();
    let moved: BTreeMap<String, String> = watched
        .iter()
        .filter(|(branch, tip)| heads.get(*branch).and_then(|h| h.revision.as_ref()) != Some(*tip))
        .map(|(b, t)| (b.clone(), t.clone()))
        .collect();
    let poller = Poller {
        ctx,
        config,
        name,
        role: &role,
        by: hurried.map_or_else(|| format!("poller {name}"), str::to_owned),
    };
    if first {
        return poller.first_look(moved, &heads, state, url).await;
    }
    if !moved.is_empty() {
        let known: Vec<String> = heads.values().filter_map(|h| h.revision.clone()).collect();
        let fetched = ctx.sources.fetch(name, &moved).await?;
        for (branch, tip) in fetched {
            let head = heads.get(&branch).cloned();
            if head.as_ref().and_then(|h| h.revision.as_ref()) != Some(&tip) {
                poller.branch_moved(&branch, &tip, head, &known).await?;
            }
        }
    }
    poller.branches_gone(&watched, heads).await?;
    poller.note_success(state, url).await
}

struct Poller<'a> {
    ctx: &'a Ctx,
    config: &'a CodebaseConfig,
    name: &'a str,
    role: &'a Role,
    by: String,
}

impl Poller<'_> {
    /// All heads are recorded, and only the tips that `first` names are changes.
    async fn first_look(
        &self,
        moved: BTreeMap<String, String>,
        heads: &BTreeMap<String, Head>,
        state: Option<CodebaseState>,
        url: String,
    ) -> Result<(), LookError> {
        let wanted: BTreeMap<String, String> = moved
            .iter()
            .filter(|(branch, _)| self.config.first.as_ref().is_some_and(|first| first.matches(branch)))
            .map(|(b, t)| (b.clone(), t.clone()))
            .collect();
        let fetched = if wanted.is_empty() {
            BTreeMap::new()
        } else {
            self.ctx.sources.fetch(self.name, &wanted).await?
        };
        let now = self.ctx.now();
        let mut batch = Batch::new("change.first-look");
        batch.expect_role(self.role);
        for (branch, tip) in &moved {
            let tip = fetched.get(branch).unwrap_or(tip);
            self.put_head(&mut batch, branch, Some(tip.clone()), heads.get(branch).cloned(), now);
            if fetched.contains_key(branch) {
                let history = self.ctx.sources.history(self.name, tip, None, &[]).await?;
                self.put_set(&mut batch, branch, tip, None, &history, now).await?;
            }
        }
        self.put_state(&mut batch, state, url, now);
        self.ctx.store.commit(batch).await?;
        self.ctx.nudges.schedulers.notify_one();
        Ok(())
    }

    async fn branch_moved(
        &self,
        branch: &str,
        tip: &str,
        head: Option<Head>,
        known: &[String],
    ) -> Result<(), LookError> {
        let base = head.as_ref().and_then(|h| h.revision.clone());
        let history = self.ctx.sources.history(self.name, tip, base.as_deref(), known).await?;
        let now = self.ctx.now();
        let mut batch = Batch::new("change.see");
        batch.expect_role(self.role);
        self.put_head(&mut batch, branch, Some(tip.to_owned()), head, now);
        self.put_set(&mut batch, branch, tip, base, &history, now).await?;
        self.ctx.store.commit(batch).await?;
        self.ctx.nudges.schedulers.notify_one();
        Ok(())
    }

    async fn branches_gone(
        &self,
        watched: &BTreeMap<String, String>,
        heads: BTreeMap<String, Head>,
    ) -> Result<(), LookError> {
        let gone: Vec<Head> = heads
            .into_values()
            .filter(|h| h.revision.is_some() && !watched.contains_key(&h.branch))
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let now = self.ctx.now();
        let mut batch = Batch::new("change.branch-gone");
        batch.expect_role(self.role);
        for head in gone {
            let branch = head.branch.clone();
            self.put_head(&mut batch, &branch, None, Some(head), now);
        }
        self.ctx.store.commit(batch).await?;
        Ok(())
    }

    /// A row is written when something is new to say: the first good look, or the end of a failure.
    async fn note_success(&self, state: Option<CodebaseState>, url: String) -> Result<(), LookError> {
        if state.as_ref().is_some_and(|s| s.error.is_none() && s.url == url) {
            return Ok(());
        }
        let mut batch = Batch::new("codebase.back");
        self.put_state(&mut batch, state, url, self.ctx.now());
        self.ctx.store.commit(batch).await?;
        Ok(())
    }

    fn put_head(
        &self,
        batch: &mut Batch,
        branch: &str,
        revision: Option<String>,
        head: Option<Head>,
        now: Timestamp,
    ) {
        match head {
            Some(mut head) => {
                head.revision = revision;
                head.seen_at = now;
                batch.update(&mut head);
            }
            None => {
                let (codebase, branch) = (self.name.to_owned(), branch.to_owned());
                batch.insert(&Head { codebase, branch, revision, seen_at: now, generation: 0 });
            }
        }
    }

    fn put_state(&self, batch: &mut Batch, state: Option<CodebaseState>, url: String, now: Timestamp) {
        match state {
            Some(mut state) => {
                state.url = url;
                state.looked = Some(now);
                state.error = None;
                state.failing_since = None;
                batch.update(&mut state);
            }
            None => {
                let codebase = self.name.to_owned();
                let looked = Some(now);
                batch.insert(&CodebaseState {
                    codebase,
                    url,
                    looked,
                    error: None,
                    failing_since: None,
                    generation: 0,
                });
            }
        }
        let project = self.config.project.to_string();
        batch.event(state_event(self.name, project, now, serde_json::json!({"looked": true, "error": null})));
    }

    async fn put_set(
        &self,
        batch: &mut Batch,
        branch: &str,
        tip: &str,
        base: Option<String>,
        history: &History,
        now: Timestamp,
    ) -> Result<(), LookError> {
        let project = self.config.project.to_string();
        let listed = if history.total == 0 { 0 } else { history.commits.len().min(MAX_CHANGES) };
        let total = i64::try_from(history.total).unwrap_or(i64::MAX);
        // A list that is not complete has fewer rows than commits: so everybody sees that the files are not all known.
        let commits =
            if history.is_complete() { total } else { total.max(i64::try_from(listed).unwrap_or(0) + 1) };
        let set = ChangeSet {
            id: self.ctx.store.next_id().await?,
            project: project.clone(),
            codebase: self.name.to_owned(),
            branch: branch.to_owned(),
            revision: tip.to_owned(),
            base,
            trust: Trust::Trusted,
            commits: commits.max(1),
            seen_at: now,
            noticed_by: self.by.clone(),
        };
        batch.insert(&set);
        for commit in history.commits.iter().take(listed).rev() {
            batch.insert(&Change {
                id: self.ctx.store.next_id().await?,
                change_set: set.id,
                codebase: self.name.to_owned(),
                branch: branch.to_owned(),
                revision: commit.revision.clone(),
                author: commit.author.clone(),
                message: commit.message.clone(),
                files: commit.files.clone(),
                authored_at: Timestamp::from_secs(commit.when),
            });
        }
        batch.event(NewEvent {
            kind: EventKind::ChangeSetSeen,
            version: 1,
            subject: format!("change_set/{}", set.id),
            project,
            at: now,
            payload: serde_json::json!({
                "codebase": set.codebase, "branch": set.branch, "revision": set.revision, "commits": set.commits,
                "noticed_by": set.noticed_by, "rewritten": history.rewritten,
            }),
        });
        Ok(())
    }
}

fn state_event(name: &str, project: String, now: Timestamp, payload: serde_json::Value) -> NewEvent {
    NewEvent {
        kind: EventKind::CodebaseState,
        version: 1,
        subject: format!("codebase/{name}"),
        project,
        at: now,
        payload,
    }
}

/// Records a failure; `true` where it is a new one, worth a line.
async fn note_failure(ctx: &Ctx, config: &CodebaseConfig, name: &str, said: &str) -> Result<bool, LookError> {
    let now = ctx.now();
    let state = ctx.store.codebase_state(name).await?;
    if state.as_ref().is_some_and(|s| s.error.as_deref() == Some(said)) {
        return Ok(false);
    }
    let mut batch = Batch::new("codebase.away");
    match state {
        Some(mut state) => {
            state.error = Some(said.to_owned());
            state.failing_since.get_or_insert(now);
            batch.update(&mut state);
        }
        None => {
            batch.insert(&CodebaseState {
                codebase: name.to_owned(),
                url: config.git.to_string(),
                looked: None,
                error: Some(said.to_owned()),
                failing_since: Some(now),
                generation: 0,
            });
        }
    }
    batch.event(state_event(
        name,
        config.project.to_string(),
        now,
        serde_json::json!({"looked": false, "error": said}),
    ));
    ctx.store.commit(batch).await?;
    Ok(true)
}
