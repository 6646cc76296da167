//! Heads, changes and what schedulers remember.

use super::{Page, Tail};
use crate::{ReadError, Store};
use rouse_model::buildset::SchedulerState;
use rouse_model::source::{Change, ChangeSet, CodebaseState, Head};
use rouse_model::{ChangeId, ChangeSetId};

impl Store {
    pub async fn heads(&self, codebase: &str) -> Result<Vec<Head>, ReadError> {
        self.select("WHERE codebase = $1 ORDER BY branch", vec![codebase.into()]).await
    }

    pub async fn head(&self, codebase: &str, branch: &str) -> Result<Option<Head>, ReadError> {
        self.select_one("WHERE codebase = $1 AND branch = $2", vec![codebase.into(), branch.into()]).await
    }

    pub async fn codebase_state(&self, codebase: &str) -> Result<Option<CodebaseState>, ReadError> {
        self.select_one("WHERE codebase = $1", vec![codebase.into()]).await
    }

    pub async fn codebase_states(&self) -> Result<Vec<CodebaseState>, ReadError> {
        self.select("ORDER BY codebase", vec![]).await
    }

    pub async fn change_set(&self, id: ChangeSetId) -> Result<Option<ChangeSet>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    /// Newest first.
    pub async fn change_sets(&self, codebase: Option<&str>, page: Page) -> Result<Vec<ChangeSet>, ReadError> {
        let mut tail = Tail::default();
        tail.and_if("codebase = ?", codebase);
        let (tail, params) = tail.page(page);
        self.select(&tail, params).await
    }

    pub async fn change(&self, id: ChangeId) -> Result<Option<Change>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    /// Oldest commit first.
    pub async fn changes_of(&self, set: ChangeSetId) -> Result<Vec<Change>, ReadError> {
        self.select("WHERE change_set = $1 ORDER BY id", vec![set.0.into()]).await
    }

    /// Newest first.
    pub async fn changes(&self, codebase: Option<&str>, page: Page) -> Result<Vec<Change>, ReadError> {
        let mut tail = Tail::default();
        tail.and_if("codebase = ?", codebase);
        let (tail, params) = tail.page(page);
        self.select(&tail, params).await
    }

    pub async fn scheduler_states(&self, scheduler: &str) -> Result<Vec<SchedulerState>, ReadError> {
        self.select("WHERE scheduler = $1 ORDER BY key", vec![scheduler.into()]).await
    }

    /// What all schedulers remember, of those too that are not configured any more.
    pub async fn all_scheduler_states(&self) -> Result<Vec<SchedulerState>, ReadError> {
        self.select("ORDER BY scheduler, key", vec![]).await
    }

    /// Where a revision was seen, newest first.
    pub async fn changes_at(&self, codebase: &str, revision: &str) -> Result<Vec<Change>, ReadError> {
        let params = vec![codebase.into(), revision.into()];
        self.select("WHERE codebase = $1 AND revision = $2 ORDER BY id DESC LIMIT 50", params).await
    }
}
