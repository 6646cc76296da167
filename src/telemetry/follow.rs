//! Traces of requests that ended, told in the order of the event log. The place in it is a row, moved once a collector has what was before it:
//! so what was sent and not noted is sent again, as the same spans.

use super::post::{Post, PostError};
use super::story::Story;
use super::{Fortune, scope, spans, text};
use crate::config::{Config, TelemetryConfig};
use crate::ctx::{Active, Ctx};
use crate::supervisor::chain;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use opentelemetry_semantic_conventions::SCHEMA_URL;
use opentelemetry_semantic_conventions::attribute as of;
use prost::Message;
use rouse_model::cursor::Cursor;
use rouse_model::event::EventKind;
use rouse_model::master::Role;
use rouse_model::trace::Origin;
use rouse_model::{ConfigRevisionId, RequestId};
use rouse_store::{Batch, CommitError, HoldError, ReadError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Of its role and of its place in the log.
const READER: &str = "traces";
const SIGNAL: &str = "traces";
/// Between two looks for what ended.
const LOOK: Duration = Duration::from_secs(2);
/// Where nothing is to be told: a changed configuration wakes it.
const IDLE: Duration = Duration::from_secs(60);
/// Requests that are read at once.
const PAGE: i64 = 100;
/// From so many bytes on nothing more is added to what is sent.
const ENOUGH: usize = 1024 * 1024;
/// So far behind the log's end a place may stay where there is nothing to tell.
const BEHIND: i64 = 10_000;

#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("read what ended")]
    Read(#[from] ReadError),
    #[error("note what was told")]
    Commit(#[from] CommitError),
    #[error("take the role")]
    Role(#[from] HoldError),
    #[error("send traces")]
    Post(#[from] PostError),
}

/// Runs until told to stop.
pub(super) async fn run(ctx: &Ctx, stop: CancellationToken) {
    let mut teller = Teller::default();
    let mut active = ctx.active.clone();
    loop {
        active.mark_unchanged();
        let wait = match teller.turn(ctx).await {
            Ok(wait) => wait,
            Err(error) => {
                teller.post = None;
                let after = if let TurnError::Post(error) = &error { error.after() } else { None };
                teller.fortune.failed(SIGNAL, chain(&error), after, rand::random())
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = active.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[derive(Debug, Default)]
struct Teller {
    post: Option<Post>,
    fortune: Fortune,
    /// The revision under which the place in the log was forgotten, since nothing is told.
    silent: Option<ConfigRevisionId>,
    /// Up to this event each request is sent by itself: of those that were sent together, one was refused.
    careful: i64,
    /// What of the log had gone before it was told, so that it is said once.
    lost: i64,
}

/// What is sent at once.
#[derive(Debug, Default)]
struct Load {
    spans: Vec<Span>,
    /// The event that it ends with.
    last: i64,
    requests: usize,
}

impl Teller {
    /// Sends what there is, at most one load of it; answers how long to wait for more.
    async fn turn(&mut self, ctx: &Ctx) -> Result<Duration, TurnError> {
        let active = ctx.config();
        let Some(to) = active.config.server.telemetry.as_ref().filter(|to| to.traces) else {
            return self.be_silent(ctx, &active).await;
        };
        self.silent = None;
        let Some(role) = ctx.roles.hold(READER, "").await? else { return Ok(LOOK) };
        let mut cursor = place(ctx, &active, &role).await?;
        self.say_what_is_lost(ctx, &cursor).await?;
        let newest = ctx.store.newest_event().await?;
        let load = self.load(ctx, cursor.seq).await?;
        let Some(load) = load else {
            self.fortune.succeeded(SIGNAL);
            if newest - cursor.seq > BEHIND {
                note(ctx, &role, &mut cursor, newest).await?;
            }
            return Ok(LOOK);
        };
        if !load.spans.is_empty() {
            self.send(ctx, &active.config, to, &load).await?;
        }
        note(ctx, &role, &mut cursor, load.last).await?;
        self.fortune.succeeded(SIGNAL);
        Ok(Duration::ZERO)
    }

    /// What ends while nothing is told is not told later: the place in the log is forgotten.
    async fn be_silent(&mut self, ctx: &Ctx, active: &Active) -> Result<Duration, TurnError> {
        if self.silent == Some(active.revision) {
            return Ok(IDLE);
        }
        if let Some(cursor) = ctx.store.cursor(READER).await?
            && let Some(role) = ctx.roles.hold(READER, "").await?
        {
            let mut batch = Batch::new("telemetry.forget");
            batch.expect_role(&role).delete(&cursor);
            ctx.store.commit(batch).await?;
        }
        self.silent = Some(active.revision);
        self.fortune = Fortune::default();
        Ok(IDLE)
    }

    async fn say_what_is_lost(&mut self, ctx: &Ctx, cursor: &Cursor) -> Result<(), TurnError> {
        let oldest = ctx.store.oldest_event().await?;
        if oldest > cursor.seq + 1 && self.lost != oldest && !ctx.store.is_of_a_lost_time(oldest - 1) {
            self.lost = oldest;
            tracing::warn!(
                told = cursor.seq,
                oldest,
                "events were forgotten (`server.keep.events`) before their traces were told; requests that ended there are missing"
            );
        }
        Ok(())
    }

    async fn load(&self, ctx: &Ctx, after: i64) -> Result<Option<Load>, TurnError> {
        let alone = after < self.careful;
        let limit = if alone { 1 } else { PAGE };
        let events = ctx.store.events_of_kind_after(EventKind::RequestDone, after, limit).await?;
        let facts = ctx.store.facts();
        let origin = Origin { installation: &facts.installation, epoch: facts.store_epoch };
        let mut load = Load::default();
        let mut bytes = 0;
        for event in &events {
            load.last = event.seq;
            let id = event.body.subject.strip_prefix("request/").and_then(|id| id.parse().ok());
            let Some(story) = Story::read(&ctx.store, RequestId(id.unwrap_or_default())).await? else {
                tracing::debug!(subject = event.body.subject, "a request was forgotten before it was told");
                continue;
            };
            let spans = spans::of_story(&story, origin, &ctx.url);
            bytes += spans.iter().map(Message::encoded_len).sum::<usize>();
            load.requests += 1;
            load.spans.extend(spans);
            if bytes >= ENOUGH {
                break;
            }
        }
        Ok((!events.is_empty()).then_some(load))
    }

    async fn send(
        &mut self,
        ctx: &Ctx,
        config: &Config,
        to: &TelemetryConfig,
        load: &Load,
    ) -> Result<(), TurnError> {
        let post = match self.post.take().filter(|post| post.is_for(to)) {
            Some(post) => post,
            None => Post::new(to)?,
        };
        let post = self.post.insert(post);
        let request = request(ctx, load.spans.clone());
        match post.send(config, SIGNAL, &request).await {
            Ok(left) => {
                ctx.metrics.exported(SIGNAL, if left.count > 0 { "rejected" } else { "accepted" });
                if left.count > 0 {
                    tracing::warn!(spans = left.count, said = left.said, "the collector has left out spans");
                }
                Ok(())
            }
            Err(error) => {
                ctx.metrics.exported(SIGNAL, error.outcome());
                if !error.is_about_content() {
                    return Err(error.into());
                }
                if load.requests > 1 {
                    self.careful = load.last;
                    return Err(error.into());
                }
                // Nobody would ever hear of what comes after it.
                tracing::warn!(
                    error = chain(&error),
                    event = load.last,
                    "the collector refuses a trace, which is left out"
                );
                Ok(())
            }
        }
    }
}

/// The place in the log; where there is none yet, the one where the configuration took effect that wants traces.
async fn place(ctx: &Ctx, active: &Active, role: &Role) -> Result<Cursor, TurnError> {
    if let Some(cursor) = ctx.store.cursor(READER).await? {
        return Ok(cursor);
    }
    let seq = match ctx.store.event_of_config(active.revision).await? {
        Some(seq) => seq,
        None => ctx.store.newest_event().await?,
    };
    let cursor = Cursor { reader: READER.to_owned(), seq, generation: 0 };
    let mut batch = Batch::new("telemetry.begin");
    batch.expect_role(role).insert(&cursor);
    ctx.store.commit(batch).await?;
    Ok(cursor)
}

async fn note(ctx: &Ctx, role: &Role, cursor: &mut Cursor, seq: i64) -> Result<(), TurnError> {
    cursor.seq = seq;
    let mut batch = Batch::new("telemetry.told");
    batch.expect_role(role).update(cursor);
    Ok(ctx.store.commit(batch).await?)
}

/// Of the installation, not of the master that tells: what is told twice is the same.
fn request(ctx: &Ctx, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let attributes = vec![
        text(of::SERVICE_NAME, "rouse"),
        text(of::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        text(of::SERVICE_INSTANCE_ID, &*ctx.store.facts().installation),
    ];
    let scope_spans = ScopeSpans { scope: Some(scope()), spans, schema_url: SCHEMA_URL.to_owned() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![scope_spans],
            schema_url: SCHEMA_URL.to_owned(),
        }],
    }
}
