//! All rows that a request's trace is made of.

use rouse_model::build::{Build, Step};
use rouse_model::buildset::{Buildset, Request};
use rouse_model::source::SourceStamp;
use rouse_model::worker::Worker;
use rouse_model::{BuildId, RequestId};
use rouse_store::reads::BuildFilter;
use rouse_store::{Page, ReadError, Store};

/// More attempts than any builder is given.
const ATTEMPTS: i64 = 100;

/// A request from its wish to its end.
#[derive(Debug)]
pub(super) struct Story {
    pub request: Request,
    pub buildset: Buildset,
    /// What the build was of: the stamp of its branch, or else the first one; and where that is fetched.
    pub source: Option<(SourceStamp, Option<String>)>,
    /// The build that has started it, where one did.
    pub parent: Option<(RequestId, BuildId)>,
    /// In order.
    pub attempts: Vec<Attempt>,
}

/// One build of it.
#[derive(Debug)]
pub(super) struct Attempt {
    pub build: Build,
    pub worker: Option<Worker>,
    pub steps: Vec<Step>,
}

impl Story {
    /// `None` where it is not kept any more.
    pub(super) async fn read(store: &Store, id: RequestId) -> Result<Option<Self>, ReadError> {
        let Some(request) = store.request(id).await? else { return Ok(None) };
        let Some(buildset) = store.buildset(request.buildset).await? else { return Ok(None) };
        let filter = BuildFilter { request: Some(id), ..BuildFilter::default() };
        let mut builds = store.builds(&filter, Page { before: None, limit: ATTEMPTS }).await?;
        builds.sort_by_key(|build| build.attempt);
        let mut attempts = Vec::with_capacity(builds.len());
        for build in builds {
            let worker = match build.worker {
                Some(worker) => store.worker(worker).await?,
                None => None,
            };
            let steps = store.steps(build.id).await?;
            attempts.push(Attempt { build, worker, steps });
        }
        let parent = match buildset.parent {
            Some(parent) => store.build(parent).await?.map(|parent| (parent.request, parent.id)),
            None => None,
        };
        let source = source(store, &request).await?;
        Ok(Some(Self { request, buildset, source, parent, attempts }))
    }
}

async fn source(
    store: &Store,
    request: &Request,
) -> Result<Option<(SourceStamp, Option<String>)>, ReadError> {
    let mut stamps = store.stamps(request.buildset).await?;
    if stamps.is_empty() {
        return Ok(None);
    }
    let of_branch = stamps.iter().position(|stamp| stamp.branch.is_some() && stamp.branch == request.branch);
    let stamp = stamps.swap_remove(of_branch.unwrap_or(0));
    let url = store.codebase_state(&stamp.codebase).await?.map(|state| state.url);
    Ok(Some((stamp, url)))
}
