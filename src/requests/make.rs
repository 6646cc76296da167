//! The one door by which buildsets are made. The origin is unique: whoever replays a cause after a crash finds what it made.

use super::finish::request_event;
use crate::config::BuilderConfig;
use crate::ctx::{Active, Ctx};
use crate::specs;
use rouse_model::approval::{Approval, Given};
use rouse_model::buildset::{Buildset, MergeTargets, Provision, Request, RequestState, SettledImage};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::property::Properties;
use rouse_model::source::SourceStamp;
use rouse_model::{BuildId, BuildsetId, ChangeSetId, RequestId, Timestamp, Trust};
use rouse_store::{Batch, CommitError, ReadError};
use std::collections::BTreeMap;

/// One codebase of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub codebase: String,
    pub branch: Option<String>,
    pub revision: Option<String>,
    pub change_set: Option<ChangeSetId>,
    pub trust: Trust,
}

/// What somebody, or something, asks for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// See [`Buildset::origin`].
    pub origin: String,
    pub scheduler: Option<String>,
    /// For a person.
    pub reason: String,
    pub owner: Option<String>,
    pub properties: Properties,
    pub builders: Vec<String>,
    pub stamps: Vec<Stamp>,
    pub parent: Option<BuildId>,
    /// The most that it is trusted, whatever its stamps say.
    pub trust: Trust,
    pub priority: i64,
    /// What images meant for the build that this one repeats.
    pub images: BTreeMap<String, SettledImage>,
    /// What the branches were that it merged into.
    pub merges: MergeTargets,
    /// Who has already said that just this may be built, where somebody has.
    pub approved: Option<Given>,
}

impl Wish {
    /// Of a builder, with nothing given.
    #[must_use]
    pub fn bare(builder: &str) -> Self {
        Self {
            origin: String::new(),
            scheduler: None,
            reason: String::new(),
            owner: None,
            properties: Properties::default(),
            builders: vec![builder.to_owned()],
            stamps: Vec::new(),
            parent: None,
            trust: Trust::Trusted,
            priority: 0,
            images: [].into(),
            merges: [].into(),
            approved: None,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    New {
        buildset: BuildsetId,
        requests: Vec<RequestId>,
    },
    /// The origin was there already.
    Before {
        buildset: BuildsetId,
    },
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error("builder `{0}` is not configured")]
    NoBuilder(String),
    #[error("a buildset without builders")]
    Empty,
    #[error("read what is there")]
    Read(#[from] ReadError),
    #[error("record the buildset")]
    Commit(#[from] CommitError),
}

/// Makes a buildset, and `also` what the caller must remember with it, in one commit.
///
/// # Errors
/// Where a builder is not configured, or the store cannot be reached; a conflict in `also` is the caller's to look at.
pub async fn make(ctx: &Ctx, active: &Active, wish: Wish, also: Batch) -> Result<Made, MakeError> {
    if let Some(before) = ctx.store.buildset_by_origin(&wish.origin).await? {
        // The caller's own rows may still have to move on.
        if !also.is_empty() {
            ctx.store.commit(also).await?;
        }
        return Ok(Made::Before { buildset: before.id });
    }
    let id: BuildsetId = ctx.store.next_id().await?;
    let mut ids = Vec::new();
    for _ in &wish.builders {
        ids.push(ctx.store.next_id().await?);
    }
    let origin = wish.origin.clone();
    let Draft { buildset, stamps, mut requests } = draft(active, wish, id, &ids, ctx.now())?;
    let now = buildset.created;
    let builders: Vec<String> = requests.iter().map(|request| request.builder.clone()).collect();
    let mut batch = Batch::new("buildset.make");
    batch.insert(&buildset).event(NewEvent {
        kind: EventKind::BuildsetMade,
        version: 1,
        subject: format!("buildset/{id}"),
        project: buildset.project.clone(),
        at: now,
        payload: serde_json::json!({"scheduler": buildset.scheduler, "reason": buildset.reason, "builders": builders}),
    });
    for stamp in &stamps {
        batch.insert(stamp);
    }
    for request in &mut requests {
        request.provision.digests = digests(ctx, active, request, &buildset, &stamps).await?;
        batch.insert(&*request).event(request_event(EventKind::RequestMade, request, now));
    }
    batch.append(also);
    match ctx.store.commit(batch).await {
        Ok(()) => {
            ctx.coming.has_come(&origin, &builders, now);
            ctx.nudges.fleet.notify_one();
            ctx.nudges.matching.notify_one();
            Ok(Made::New { buildset: id, requests: ids })
        }
        Err(error) if error.is_duplicate() => match ctx.store.buildset_by_origin(&origin).await? {
            Some(before) => Ok(Made::Before { buildset: before.id }),
            None => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The rows of a wish.
#[derive(Debug, Clone)]
pub struct Draft {
    pub buildset: Buildset,
    /// In the order of their codebases.
    pub stamps: Vec<SourceStamp>,
    /// One for each of its builders.
    pub requests: Vec<Request>,
}

/// What a wish comes to under ids that somebody has for it, one for each builder. It is not on record.
///
/// # Errors
/// Where a builder is not configured, or there is none.
pub fn draft(
    active: &Active,
    wish: Wish,
    id: BuildsetId,
    ids: &[RequestId],
    now: Timestamp,
) -> Result<Draft, MakeError> {
    let mut builders = Vec::new();
    for name in &wish.builders {
        let builder = active.config.builders.get(name.as_str());
        builders.push(builder.ok_or_else(|| MakeError::NoBuilder(name.clone()))?);
    }
    let project = builders.first().ok_or(MakeError::Empty)?.project.to_string();
    let trust = Trust::least(wish.stamps.iter().map(|s| s.trust).chain([wish.trust]));
    let mut properties = wish.properties;
    if let Some(scheduler) = &wish.scheduler {
        properties.set("scheduler", scheduler.clone(), "scheduler", false);
    }
    let buildset = Buildset {
        id,
        origin: wish.origin,
        project,
        scheduler: wish.scheduler,
        reason: wish.reason,
        owner: wish.owner,
        properties,
        trust,
        parent: wish.parent,
        created: now,
        done: None,
        result: None,
        generation: 0,
    };
    let row = |stamp: Stamp| SourceStamp {
        buildset: id,
        codebase: stamp.codebase,
        branch: stamp.branch,
        revision: stamp.revision,
        change_set: stamp.change_set,
        trust: stamp.trust,
    };
    let mut stamps: Vec<SourceStamp> = wish.stamps.into_iter().map(row).collect();
    stamps.sort_by(|a, b| a.codebase.cmp(&b.codebase));
    let request = |((name, builder), id): ((String, &BuilderConfig), &RequestId)| {
        let (approval, lapses) = approval(builder, trust, wish.approved.as_ref(), now);
        Request {
            id: *id,
            buildset: buildset.id,
            builder: name,
            project: builder.project.to_string(),
            branch: specs::source(builder, &stamps).and_then(|stamp| stamp.branch.clone()),
            state: if lapses.is_some() { RequestState::Unapproved } else { RequestState::Queued },
            priority: wish.priority,
            created: now,
            not_before: None,
            attempts: 0,
            trust,
            cancel: None,
            build: None,
            claimed_by: None,
            result: None,
            done: None,
            config: active.revision,
            provision: Provision {
                images: wish.images.clone(),
                merges: wish.merges.clone(),
                ..Provision::default()
            },
            locks: None,
            approval,
            lapses,
            generation: 0,
        }
    };
    let requests = wish.builders.into_iter().zip(builders).zip(ids).map(request).collect();
    Ok(Draft { buildset, stamps, requests })
}

/// The word of a person that a request needs, and where nobody has given it, when the request ends without it.
fn approval(
    builder: &BuilderConfig,
    trust: Trust,
    given: Option<&Given>,
    now: Timestamp,
) -> (Option<Approval>, Option<Timestamp>) {
    let Some(config) = builder.approval.filter(|config| config.of.asks(trust)) else { return (None, None) };
    let approval = Approval { of: config.of, given: given.cloned() };
    let lapses = given.is_none().then(|| now + config.within.0);
    (Some(approval), lapses)
}

/// Which worker a request asks of each of its pools, as far as that follows from the wish alone: so a warm one takes it at once, and the fleet need
/// not look first.
async fn digests(
    ctx: &Ctx,
    active: &Active,
    request: &Request,
    buildset: &Buildset,
    stamps: &[SourceStamp],
) -> Result<BTreeMap<String, String>, ReadError> {
    let Some(builder) = active.config.builders.get(request.builder.as_str()) else {
        return Ok(BTreeMap::new());
    };
    let (request, buildset, stamps) = (request.clone(), buildset.clone(), stamps.to_vec());
    let wish = specs::wish_of(&ctx.store, builder, request, buildset, stamps).await?;
    let candidates = specs::candidates(&active.config, builder, &wish.request);
    let digest = |(name, pool): (&str, &crate::config::PoolConfig)| {
        let kind = ctx.revisions.kinds().iter().find(|kind| kind.name() == pool.kind)?;
        Some((name.to_owned(), specs::digest_without_image(name, pool, &**kind, &wish)?))
    };
    Ok(candidates.into_iter().filter_map(digest).collect())
}
