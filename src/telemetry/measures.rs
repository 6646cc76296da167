//! What `/metrics` says, sent at intervals. A sending that failed is not made up for: the next one says more.

use super::openmetrics::{Span, metrics};
use super::post::{Post, PostError};
use super::{Fortune, scope, text};
use crate::config::TelemetryConfig;
use crate::ctx::{Active, Ctx};
use crate::supervisor::chain;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_semantic_conventions::SCHEMA_URL;
use opentelemetry_semantic_conventions::attribute as of;
use rouse_model::Timestamp;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SIGNAL: &str = "metrics";
/// Where nothing is to be sent: a changed configuration wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// Runs until told to stop.
pub(super) async fn run(ctx: &Ctx, stop: CancellationToken) {
    // The process has just begun, and so has all that it counts.
    let since = ctx.now();
    let mut post = None;
    let mut fortune = Fortune::default();
    let mut active = ctx.active.clone();
    loop {
        let now = active.borrow_and_update().clone();
        let wanted = now.config.server.telemetry.as_ref().and_then(|to| Some((to, to.metrics?)));
        let wait = match wanted {
            None => IDLE,
            Some((to, every)) => match send(ctx, &now, to, since, &mut post).await {
                Ok(()) => {
                    fortune.succeeded(SIGNAL);
                    every.0
                }
                Err(error) => {
                    post = None;
                    ctx.metrics.exported(SIGNAL, error.outcome());
                    fortune.failed(SIGNAL, chain(&error), error.after(), rand::random()).max(every.0)
                }
            },
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = active.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn send(
    ctx: &Ctx,
    active: &Active,
    to: &TelemetryConfig,
    since: Timestamp,
    post: &mut Option<Post>,
) -> Result<(), PostError> {
    let made = match post.take().filter(|post| post.is_for(to)) {
        Some(made) => made,
        None => Post::new(to)?,
    };
    let page = ctx.metrics.scrape(ctx).await;
    let request = request(ctx, &page, Span { since, now: ctx.now() });
    let left = post.insert(made).send(&active.config, SIGNAL, &request).await?;
    ctx.metrics.exported(SIGNAL, if left.count > 0 { "rejected" } else { "accepted" });
    if left.count > 0 {
        tracing::warn!(points = left.count, said = left.said, "the collector has left out points of metrics");
    }
    Ok(())
}

/// Of this master: each counts what it does itself.
fn request(ctx: &Ctx, page: &str, span: Span) -> ExportMetricsServiceRequest {
    let installation = &ctx.store.facts().installation;
    let attributes = vec![
        text(of::SERVICE_NAME, "rouse"),
        text(of::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
        text(of::SERVICE_INSTANCE_ID, format!("{installation}/{}", ctx.me)),
    ];
    let scope_metrics = ScopeMetrics {
        scope: Some(scope()),
        metrics: metrics(page, span),
        schema_url: SCHEMA_URL.to_owned(),
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![scope_metrics],
            schema_url: SCHEMA_URL.to_owned(),
        }],
    }
}
