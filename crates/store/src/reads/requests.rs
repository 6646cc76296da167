//! Buildsets and requests.

use super::{Page, Tail};
use crate::record::taken;
use crate::value::{Field, Value};
use crate::{ReadError, Store};
use rouse_model::buildset::{Buildset, Request, RequestState};
use rouse_model::source::SourceStamp;
use rouse_model::{BuildId, BuildResult, BuildsetId, RequestId, Timestamp};
use std::collections::BTreeMap;

/// Which requests; absent means all.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    pub builder: Option<String>,
    pub project: Option<String>,
    pub state: Option<RequestState>,
    pub buildset: Option<BuildsetId>,
}

impl Store {
    pub async fn buildset(&self, id: BuildsetId) -> Result<Option<Buildset>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    /// Those of these ids that there are, in no order.
    pub async fn buildsets_by_id(&self, ids: &[BuildsetId]) -> Result<Vec<Buildset>, ReadError> {
        self.select_in("id", ids.iter().map(|id| id.0)).await
    }

    /// Stamps of all these buildsets; those of one stand in the order of their codebases' names.
    pub async fn stamps_by_buildset(&self, ids: &[BuildsetId]) -> Result<Vec<SourceStamp>, ReadError> {
        let mut stamps: Vec<SourceStamp> = self.select_in("buildset", ids.iter().map(|id| id.0)).await?;
        stamps.sort_by(|a, b| (a.buildset, &a.codebase).cmp(&(b.buildset, &b.codebase)));
        Ok(stamps)
    }

    pub async fn buildset_by_origin(&self, origin: &str) -> Result<Option<Buildset>, ReadError> {
        self.select_one("WHERE origin = $1", vec![origin.into()]).await
    }

    /// Those that a build has made, oldest first; or that follow it.
    pub async fn buildsets_of(&self, parent: BuildId) -> Result<Vec<Buildset>, ReadError> {
        self.select_few("WHERE parent = $1 ORDER BY id", vec![parent.0.into()]).await
    }

    /// Newest first.
    pub async fn buildsets(&self, scheduler: Option<&str>, page: Page) -> Result<Vec<Buildset>, ReadError> {
        let mut tail = Tail::default();
        tail.and_if("scheduler = ?", scheduler);
        let (tail, params) = tail.page(page);
        self.select(&tail, params).await
    }

    /// Not done, oldest first.
    pub async fn open_buildsets(&self, scheduler: &str) -> Result<Vec<Buildset>, ReadError> {
        self.select("WHERE done IS NULL AND scheduler = $1 ORDER BY id", vec![scheduler.into()]).await
    }

    pub async fn stamps(&self, buildset: BuildsetId) -> Result<Vec<SourceStamp>, ReadError> {
        self.select_few("WHERE buildset = $1 ORDER BY codebase", vec![buildset.0.into()]).await
    }

    pub async fn request(&self, id: RequestId) -> Result<Option<Request>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    pub async fn requests_of(&self, buildset: BuildsetId) -> Result<Vec<Request>, ReadError> {
        self.select("WHERE buildset = $1 ORDER BY id", vec![buildset.0.into()]).await
    }

    /// Those of a buildset that are not done.
    pub async fn open_requests_of(&self, buildset: BuildsetId) -> Result<Vec<RequestId>, ReadError> {
        let sql = "SELECT id FROM requests WHERE buildset = $1 AND state <> 'done'";
        self.column("id", sql, buildset).await
    }

    /// As what those of a buildset ended that are done, each once.
    pub async fn ends_of(&self, buildset: BuildsetId) -> Result<Vec<BuildResult>, ReadError> {
        let sql = "SELECT DISTINCT result FROM requests WHERE buildset = $1 AND state = 'done' AND result IS NOT NULL";
        self.column("result", sql, buildset).await
    }

    async fn column<T: Field>(
        &self,
        column: &'static str,
        sql: &str,
        buildset: BuildsetId,
    ) -> Result<Vec<T>, ReadError> {
        let rows = self.inner.backend.few(sql, vec![buildset.0.into()]).await?;
        let cells = rows.into_iter().map(|mut row| taken("requests", column, row.pop()));
        Ok(cells.collect::<Result<_, _>>()?)
    }

    /// Waiting requests in the order in which they are served: priority, then age.
    pub async fn queue(&self, limit: i64) -> Result<Vec<Request>, ReadError> {
        self.select_few("WHERE state = 'queued' ORDER BY priority DESC, id LIMIT $1", vec![limit.into()])
            .await
    }

    /// The same for who has read it before: what has not changed since is taken from there.
    pub async fn queue_anew(&self, limit: i64, before: Vec<Request>) -> Result<Vec<Request>, ReadError> {
        let tail = "WHERE state = 'queued' ORDER BY priority DESC, id LIMIT $1";
        let is_queued = |request: &Request| request.state == RequestState::Queued;
        self.select_anew(tail, vec![limit.into()], before, is_queued).await
    }

    /// Whether anything is in it.
    pub async fn has_queue(&self) -> Result<bool, ReadError> {
        let sql = "SELECT id FROM requests WHERE state = 'queued' LIMIT 1";
        Ok(!self.inner.backend.few(sql, vec![]).await?.is_empty())
    }

    /// Unapproved ones whose time has run out, or that somebody wants to end.
    pub async fn lapsed_requests(&self, now: Timestamp, limit: i64) -> Result<Vec<Request>, ReadError> {
        let tail = "WHERE state = 'unapproved' AND lapses <= $1 ORDER BY lapses LIMIT $2";
        self.select_few(tail, vec![now.0.into(), limit.into()]).await
    }

    /// Those that have locks, oldest first.
    pub async fn requests_with_locks(&self) -> Result<Vec<Request>, ReadError> {
        self.select_few("WHERE locks IS NOT NULL ORDER BY id", vec![]).await
    }

    pub async fn queue_length(&self) -> Result<i64, ReadError> {
        let rows = self.query("SELECT count(*) FROM requests WHERE state = 'queued'", vec![]).await?;
        Ok(rows
            .into_iter()
            .flatten()
            .find_map(|v| if let Value::I64(n) = v { Some(n) } else { None })
            .unwrap_or(0))
    }

    /// How many of each builder wait.
    pub async fn queue_by_builder(&self) -> Result<BTreeMap<String, i64>, ReadError> {
        let sql = "SELECT builder, count(*) FROM requests WHERE state = 'queued' GROUP BY builder";
        let rows = self.query(sql, vec![]).await?;
        let counted = rows.into_iter().filter_map(|row| match <[Value; 2]>::try_from(row).ok()? {
            [Value::Text(builder), Value::I64(count)] => Some((builder, count)),
            _ => None,
        });
        Ok(counted.collect())
    }

    /// Newest first.
    pub async fn requests(&self, filter: &RequestFilter, page: Page) -> Result<Vec<Request>, ReadError> {
        let mut tail = Tail::default();
        tail.and_if("builder = ?", filter.builder.as_deref())
            .and_if("project = ?", filter.project.as_deref())
            .and_if("state = ?", filter.state.map(|s| s.put()))
            .and_if("buildset = ?", filter.buildset.map(|b| b.0));
        let (tail, params) = tail.page(page);
        self.select(&tail, params).await
    }
}
