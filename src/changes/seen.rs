//! What a look has seen, written down: heads, change sets and the codebase's state, each batch fenced by the poller's role.

use super::look::{LookError, trust_of};
use crate::config::CodebaseConfig;
use crate::ctx::Ctx;
use crate::sources::{History, SourceError};
use rouse_model::Timestamp;
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::master::Role;
use rouse_model::source::{Change, ChangeSet, CodebaseState, Head};
use rouse_store::Batch;
use std::collections::BTreeMap;

/// Change rows of one set; all commits are counted.
const MAX_CHANGES: usize = 300;

/// One poller at one look.
pub(super) struct Poller<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) config: &'a CodebaseConfig,
    pub(super) name: &'a str,
    pub(super) role: &'a Role,
    pub(super) by: String,
    pub(super) url: String,
    pub(super) watching: String,
    pub(super) default_branch: Option<String>,
}

impl Poller<'_> {
    /// Refs seen for the first time: all heads are recorded, and only the tips that `first` names are changes.
    pub(super) async fn first_look(
        &self,
        unseen: BTreeMap<String, String>,
        heads: &BTreeMap<String, Head>,
        state: Option<CodebaseState>,
    ) -> Result<(), LookError> {
        let wanted: BTreeMap<String, String> = unseen
            .iter()
            .filter(|(branch, _)| self.config.first.as_ref().is_some_and(|first| first.matches(branch)))
            .map(|(b, t)| (b.clone(), t.clone()))
            .collect();
        let fetched = if wanted.is_empty() { BTreeMap::new() } else { self.fetch(&wanted).await? };
        let now = self.ctx.now();
        let mut batch = Batch::new("change.first-look");
        batch.expect_role(self.role);
        for (branch, tip) in &unseen {
            let tip = fetched.get(branch).unwrap_or(tip);
            self.put_head(&mut batch, branch, Some(tip.clone()), heads.get(branch).cloned(), now);
            if fetched.contains_key(branch) {
                let history = self.ctx.sources.history(self.name, tip, None, &[]).await?;
                self.put_set(&mut batch, branch, tip, None, &history, now).await?;
            }
        }
        self.put_state(&mut batch, state, now);
        self.ctx.store.commit(batch).await?;
        self.ctx.nudges.schedulers.notify_one();
        Ok(())
    }

    pub(super) async fn branches_moved(
        &self,
        moved: &BTreeMap<String, String>,
        heads: &BTreeMap<String, Head>,
    ) -> Result<(), LookError> {
        let known: Vec<String> = heads.values().filter_map(|h| h.revision.clone()).collect();
        for (branch, tip) in self.fetch(moved).await? {
            let head = heads.get(&branch).cloned();
            if head.as_ref().and_then(|h| h.revision.as_ref()) != Some(&tip) {
                self.branch_moved(&branch, &tip, head, &known).await?;
            }
        }
        Ok(())
    }

    async fn fetch(&self, refs: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, SourceError> {
        self.ctx.store.deed("git.fetch", self.ctx.sources.fetch(self.name, refs)).await
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

    pub(super) async fn branches_gone(&self, gone: Vec<Head>) -> Result<(), LookError> {
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

    /// A row is written when something is new to say: the end of a failure, or another default branch.
    pub(super) async fn note_success(&self, state: Option<CodebaseState>) -> Result<(), LookError> {
        let as_before = |s: &CodebaseState| {
            s.error.is_none()
                && s.url == self.url
                && s.watching.as_ref() == Some(&self.watching)
                && s.default_branch == self.default_branch
        };
        if state.as_ref().is_some_and(as_before) {
            return Ok(());
        }
        let mut batch = Batch::new("codebase.back");
        batch.expect_role(self.role);
        self.put_state(&mut batch, state, self.ctx.now());
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

    fn put_state(&self, batch: &mut Batch, before: Option<CodebaseState>, now: Timestamp) {
        let mut state = CodebaseState {
            codebase: self.name.to_owned(),
            url: self.url.clone(),
            looked: Some(now),
            error: None,
            failing_since: None,
            watching: Some(self.watching.clone()),
            default_branch: self.default_branch.clone(),
            generation: before.as_ref().map_or(0, |before| before.generation),
        };
        match before {
            Some(_) => batch.update(&mut state),
            None => batch.insert(&state),
        };
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
            trust: trust_of(self.config, branch),
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
pub(super) async fn note_failure(
    ctx: &Ctx,
    config: &CodebaseConfig,
    name: &str,
    said: &str,
) -> Result<bool, LookError> {
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
                watching: None,
                default_branch: None,
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
