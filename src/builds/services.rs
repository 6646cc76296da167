//! The logs of the services beside a build's worker, kept when the build ends as further logs of its first step: `service NAME`.
//!
//! Of each what it printed since the build was matched; on a worker's first build all, so that its start is there too. Masked as all that comes of
//! the build. A worker that was lost may have taken them along.

use super::given;
use super::state::{DriveError, State};
use super::turn::Turn;
use bytes::Bytes;
use rouse_agent_protocol as wire;
use rouse_agent_protocol::masking::Masks;
use rouse_contract::{LaunchSpec, ServiceLog};
use rouse_model::LogId;
use rouse_model::event::EventKind;
use rouse_model::logs::Log;
use rouse_store::Batch;
use std::time::Duration;

/// How much is kept of each.
const MOST: usize = 1 << 20;
/// How long the end of a build waits for its host to say them.
const PATIENCE: Duration = Duration::from_secs(10);
/// What goes into one frame.
const FRAME: usize = 32 * 1024;

/// Keeps them, where there are some. What cannot be had is left out: no build is held up for it.
pub(super) async fn keep_logs(turn: &mut Turn<'_>, state: &mut State) -> Result<(), DriveError> {
    let spec: LaunchSpec = match serde_json::from_str::<LaunchSpec>(&state.worker.spec) {
        Ok(spec) if !spec.beside.is_empty() => spec,
        _ => return Ok(()),
    };
    if state.steps.is_empty() || spec.beside.is_empty() {
        return Ok(());
    }
    let logs = match read(turn, state).await {
        Ok(logs) => logs,
        Err(reason) => {
            tracing::warn!(build = %state.build.id, reason, "the logs of a build's services are not kept");
            return Ok(());
        }
    };
    let masks = match given::masks(turn.secrets, state).await {
        Ok(masks) => masks,
        Err(error) => {
            let error = crate::supervisor::chain(&error);
            tracing::warn!(build = %state.build.id, error, "the logs of a build's services cannot be masked");
            return Ok(());
        }
    };
    // An earlier try of this very end may have begun.
    let kept = turn.ctx.store.logs_of(state.build.id).await?;
    for log in logs.into_iter().filter(|log| !log.text.is_empty()) {
        let name = format!("service {}", log.service);
        match kept.iter().find(|row| row.name == name && row.step == state.steps[0].id) {
            Some(row) if row.sealed => {}
            Some(row) => {
                let (id, have) = (row.id, turn.ctx.logs.received(row.id).await?);
                turn.seal(state, vec![(id, have, Some("the rest was lost with the master".into()))]).await?;
            }
            None => keep(turn, state, name, &log, &masks).await?,
        }
    }
    Ok(())
}

async fn read(turn: &Turn<'_>, state: &State) -> Result<Vec<ServiceLog>, String> {
    let (ctx, worker) = (turn.ctx, &state.worker);
    let Some(at) = worker.provider_ref() else { return Ok(Vec::new()) };
    let active = ctx.revisions.get(worker.config).await.map_err(|e| crate::supervisor::chain(&e))?;
    let account =
        ctx.accounts.get(&active.config, &worker.provider).map_err(|e| crate::supervisor::chain(&e))?;
    let since = (worker.builds_done > 1).then_some(state.build.matched);
    let asked = account.provider.service_logs(at, since, MOST);
    let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| "no answer".to_owned())?;
    answer.map_err(|error| crate::supervisor::chain(&error))
}

async fn keep(
    turn: &mut Turn<'_>,
    state: &State,
    name: String,
    log: &ServiceLog,
    masks: &Masks,
) -> Result<(), DriveError> {
    let (store, logs) = (&turn.ctx.store, &turn.ctx.logs);
    let text = masks.mask_text(&log.text);
    let id: LogId = store.next_id().await?;
    let (build, step) = (state.build.id, state.steps[0].id);
    let row = Log::begun(id, (build, step), name, turn.now);
    logs.open_new(&row, Masks::default());
    let mut batch = Batch::new("log.service");
    batch.insert(&row);
    let payload = serde_json::json!({"build": build, "step": step, "name": row.name});
    let project = state.build.project.clone();
    let subject = format!("log/{id}");
    batch.event(rouse_model::event::NewEvent {
        kind: EventKind::LogMade,
        version: 1,
        subject,
        project,
        at: turn.now,
        payload,
    });
    store.commit(batch).await?;
    let clock = crate::logs::AgentClock::at_hello(0, turn.now);
    let mut offset = 0;
    for bytes in text.as_bytes().chunks(FRAME) {
        let frame = wire::StreamFrame {
            stream: wire::StreamId(id.0),
            channel: wire::Channel::Out,
            offset,
            at_us: 0,
            bytes: Bytes::copy_from_slice(bytes),
        };
        offset = frame.end();
        if let Err(error) = logs.accept(id, clock, wire::Frame::Plain(frame)).await {
            tracing::warn!(%build, error = crate::supervisor::chain(&error), "the log of a service is cut short");
            break;
        }
    }
    let note = log.cut.then(|| format!("only the last {MOST} bytes of it are kept"));
    let have = logs.received(id).await?;
    turn.seal(state, vec![(id, have, note)]).await
}
