//! Builds with their properties, steps, commands and artifacts.

use super::{Page, Tail};
use crate::value::Field;
use crate::{ReadError, Store};
use rouse_model::build::{Build, BuildProperty, Command, Step};
use rouse_model::logs::Artifact;
use rouse_model::property::Properties;
use rouse_model::{ArtifactId, BuildId, BuildResult, CommandId, RequestId, StepId, WorkerId};

/// Which builds; absent means all.
#[derive(Debug, Clone, Default)]
pub struct BuildFilter {
    pub builder: Option<String>,
    /// That its request is about.
    pub branch: Option<String>,
    pub project: Option<String>,
    pub request: Option<RequestId>,
    pub worker: Option<WorkerId>,
    pub result: Option<BuildResult>,
    pub open: bool,
}

impl Store {
    pub async fn build(&self, id: BuildId) -> Result<Option<Build>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    /// All that are not finished, oldest first.
    pub async fn open_builds(&self) -> Result<Vec<Build>, ReadError> {
        self.select("WHERE finished IS NULL ORDER BY id", vec![]).await
    }

    /// Those that only wait for builds that they have started.
    pub async fn waiting_builds(&self) -> Result<Vec<BuildId>, ReadError> {
        let builds: Vec<Build> =
            self.select("WHERE waiting_from IS NOT NULL AND finished IS NULL ORDER BY id", vec![]).await?;
        Ok(builds.into_iter().map(|build| build.id).collect())
    }

    /// Newest first.
    pub async fn builds(&self, filter: &BuildFilter, page: Page) -> Result<Vec<Build>, ReadError> {
        let mut tail = Tail::default();
        tail.and_if("builder = ?", filter.builder.as_deref())
            .and_if("project = ?", filter.project.as_deref())
            .and_if("request = ?", filter.request.map(|r| r.0))
            .and_if(
                "EXISTS (SELECT 1 FROM requests r WHERE r.id = builds.request AND r.branch = ?)",
                filter.branch.as_deref(),
            )
            .and_if("worker = ?", filter.worker.map(|w| w.0))
            .and_if("result = ?", filter.result.map(|r| r as i64));
        if filter.open {
            tail.plain("finished IS NULL");
        }
        let (tail, params) = tail.page(page);
        self.select(&tail, params).await
    }

    /// The number of a request's next build, counted from 1.
    pub async fn next_attempt(&self, request: RequestId) -> Result<i64, ReadError> {
        let tail = "WHERE request = $1 ORDER BY attempt DESC LIMIT 1";
        let last: Option<Build> = self.select_one(tail, vec![request.0.into()]).await?;
        Ok(last.map_or(1, |build| build.attempt + 1))
    }

    pub async fn build_properties(&self, build: BuildId) -> Result<Properties, ReadError> {
        let rows: Vec<BuildProperty> =
            self.select_few("WHERE build = $1 ORDER BY name", vec![build.0.into()]).await?;
        Ok(Properties(rows.into_iter().map(|p| (p.name, p.property)).collect()))
    }

    pub async fn steps(&self, build: BuildId) -> Result<Vec<Step>, ReadError> {
        self.select_few("WHERE build = $1 ORDER BY seq", vec![build.0.into()]).await
    }

    pub async fn step(&self, id: StepId) -> Result<Option<Step>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    pub async fn commands(&self, build: BuildId) -> Result<Vec<Command>, ReadError> {
        self.select_few("WHERE build = $1 ORDER BY id", vec![build.0.into()]).await
    }

    pub async fn command(&self, id: CommandId) -> Result<Option<Command>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.0.into()]).await
    }

    /// What a worker's agent should know of: written and without an outcome.
    pub async fn wanted_commands(&self, worker: WorkerId) -> Result<Vec<Command>, ReadError> {
        self.select("WHERE state = 'wanted' AND worker = $1 ORDER BY id", vec![worker.0.into()]).await
    }

    pub async fn artifacts(&self, build: BuildId) -> Result<Vec<Artifact>, ReadError> {
        self.select("WHERE build = $1 ORDER BY \"set\", path", vec![build.0.into()]).await
    }

    pub async fn artifact(&self, id: ArtifactId) -> Result<Option<Artifact>, ReadError> {
        self.select_one("WHERE id = $1", vec![id.put()]).await
    }
}
