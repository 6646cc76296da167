//! A worker's life, from its events and its builds.

use super::view::CauseView;
use crate::api::moment::{Moment, secs};
use rouse_model::build::Build;
use rouse_model::event::{Event, EventKind};
use rouse_model::worker::{Cause, Worker};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that happened to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MomentOfLife {
    pub at: Moment,
    /// Seconds since the worker was wished for.
    pub after: f64,
    /// Which fact changed: `phase`, `link`, `wanted`, or `build`.
    pub fact: String,
    /// What it became: `booting`, `attached`, `drain`, `hold until 2026-03-01T12:00:00Z`, `build 5 began`.
    pub what: String,
    pub build: Option<i64>,
    pub cause: Option<CauseView>,
}

pub(super) fn timeline(worker: &Worker, events: &[Event], builds: &[Build]) -> Vec<MomentOfLife> {
    let moment = |at: rouse_model::Timestamp, fact: &str, what: String, build, cause| MomentOfLife {
        at: at.into(),
        after: secs(at.since(worker.requested)),
        fact: fact.to_owned(),
        what,
        build,
        cause,
    };
    let mut life: Vec<MomentOfLife> = events
        .iter()
        .filter_map(|event| {
            let fact = match event.body.kind {
                EventKind::WorkerPhase => "phase",
                EventKind::WorkerLink => "link",
                EventKind::WorkerWanted => "wanted",
                _ => return None,
            };
            let mut what = event.body.payload.get(fact)?.as_str()?.to_owned();
            if let Some(until) = event.body.payload.get("until").and_then(serde_json::Value::as_i64) {
                what = format!("{what} until {}", Moment(rouse_model::Timestamp(until)));
            }
            let cause = event
                .body
                .payload
                .get("cause")
                .cloned()
                .and_then(|c| serde_json::from_value::<Cause>(c).ok());
            Some(moment(event.body.at, fact, what, None, cause.as_ref().map(CauseView::from)))
        })
        .collect();
    for build in builds {
        let id = build.id.0;
        life.push(moment(build.matched, "build", format!("build {id} began"), Some(id), None));
        if let Some(finished) = build.finished {
            let result = build.result.map_or_else(String::new, |r| format!(": {r}"));
            life.push(moment(finished, "build", format!("build {id} ended{result}"), Some(id), None));
        }
    }
    // Stable: events of one moment keep their order.
    life.sort_by_key(|moment| moment.at);
    life
}
