//! One build's driver: a task that turns outcomes into turns until the build has ended.

use super::action::{self, Stored};
use super::announced;
use super::outcome::End;
use super::state::{DriveError, State};
use super::triggers;
use super::turn::{Turn, backoff};
use crate::ctx::Ctx;
use crate::requests::Passing;
use crate::secrets::Secrets;
use crate::switchboard::{Matched, ToDriver, ToSession};
use rouse_agent_protocol as wire;
use rouse_model::build::Lease;
use rouse_model::buildset::RequestState;
use rouse_model::event::EventKind;
use rouse_model::failure::FailureClass;
use rouse_model::worker::{Link, Phase, Wanted, Worker};
use rouse_model::{BuildId, BuildResult, LogId, WorkerId};
use rouse_store::{Batch, CommitError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a driver looks at its build and worker by itself.
const LOOK: Duration = Duration::from_secs(5);
/// Between tries where the store cannot be reached.
const PAUSE: Duration = Duration::from_millis(500);

/// What a driver begins with.
pub(super) enum From {
    /// Made a moment ago, and nothing has happened to it.
    Matched(Box<Matched>),
    Record(BuildId, WorkerId),
}

/// Starts a build's driver.
pub(super) fn start(ctx: &Arc<Ctx>, secrets: &Arc<Secrets>, from: From, stop: CancellationToken) {
    let (id, worker) = match &from {
        From::Matched(matched) => (matched.build.id, matched.worker.id),
        From::Record(build, worker) => (*build, *worker),
    };
    let mailbox = ctx.switchboard.drive(id, worker);
    let (ctx, secrets) = (Arc::clone(ctx), Arc::clone(secrets));
    crate::supervisor::spawn("build", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = drive(&ctx, &secrets, id, from, mailbox) => {}
        }
        ctx.coming.say_of_build(id, Vec::new());
        ctx.switchboard.leave(id);
        ctx.nudges.matching.notify_one();
        ctx.nudges.fleet.notify_one();
    });
}

async fn drive(ctx: &Ctx, secrets: &Secrets, id: BuildId, from: From, mut mailbox: mpsc::Receiver<ToDriver>) {
    let mut failures = 0u32;
    let mut ends = None;
    let mut matched = match from {
        From::Matched(matched) => Some(*matched),
        From::Record(..) => None,
    };
    loop {
        match drive_from_record(ctx, secrets, id, matched.take(), &mut mailbox, &mut ends).await {
            Ok(()) => return,
            // Its match did not come true.
            Err(DriveError::NoBuild(_)) => return,
            // Somebody wrote the same rows: what is on record decides.
            Err(DriveError::Commit(error)) if error.is_conflict() => {
                tracing::debug!(%id, %error, "reading the build again")
            }
            Err(error @ (DriveError::Missing(..) | DriveError::Plan(_) | DriveError::Config(_))) => {
                tracing::error!(build = %id, error = crate::supervisor::chain(&error), "a build cannot be driven");
                failures += 1;
                tokio::time::sleep(PAUSE * failures.min(60)).await;
            }
            Err(error) => {
                tracing::warn!(build = %id, error = crate::supervisor::chain(&error), "a build waits for the store");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn drive_from_record(
    ctx: &Ctx,
    secrets: &Secrets,
    id: BuildId,
    matched: Option<Matched>,
    mailbox: &mut mpsc::Receiver<ToDriver>,
    ends: &mut Option<Instant>,
) -> Result<(), DriveError> {
    let fresh = matched.is_some();
    let mut state = match matched {
        Some(matched) => State::of(ctx, matched).await?,
        None => State::load(ctx, id).await?,
    };
    // As it was first seen: a wall clock that is set meanwhile moves it no more.
    *ends = ends.or(state.ends);
    state.ends = *ends;
    if state.build.finished.is_some() {
        return Ok(());
    }
    state.foretold = announced::foretell(ctx, &state).await?;
    let name = if state.steps.is_empty() { "build.start" } else { "build.resume" };
    let event = if fresh { Event::Matched } else { Event::None };
    if turn(ctx, secrets, &mut state, name, event).await? {
        return Ok(());
    }
    if !fresh {
        if resend_or_end(ctx, secrets, &mut state).await? {
            return Ok(());
        }
        ctx.switchboard.to_session(state.worker.id, ToSession::Report(id));
    }
    loop {
        let wait = remaining(ctx, &state).unwrap_or(LOOK).min(LOOK);
        let message = tokio::time::timeout(wait, mailbox.recv()).await;
        let event = match message {
            Ok(None) => return Ok(()),
            Ok(Some(ToDriver::Finished { command, outcome })) => Event::Outcome(command, outcome),
            Ok(Some(ToDriver::Look)) | Err(_) => match look(ctx, &mut state).await? {
                Some(event) => event,
                None => {
                    if matches!(message, Ok(Some(ToDriver::Look)))
                        && resend_or_end(ctx, secrets, &mut state).await?
                    {
                        return Ok(());
                    }
                    continue;
                }
            },
        };
        if turn(ctx, secrets, &mut state, "build.step", event).await? {
            return Ok(());
        }
    }
}

enum Event {
    None,
    /// The first of a build that was made a moment ago.
    Matched,
    Outcome(wire::CommandId, Box<wire::Outcome>),
    Lost(End),
    /// The command that is out can never be asked for again.
    Abandoned(End),
    /// Nothing runs, and the build is to stop.
    Stop,
}

/// How a turn left the build.
#[derive(PartialEq, Eq)]
enum Left {
    Open,
    /// There is more to do at once.
    Again,
    Ended,
}

/// As many turns as there are until something has to be waited for; `true` once the build has ended.
async fn turn(
    ctx: &Ctx,
    secrets: &Secrets,
    state: &mut State,
    name: &'static str,
    event: Event,
) -> Result<bool, DriveError> {
    let mut left = one_turn(ctx, secrets, state, name, event).await?;
    while left == Left::Again {
        left = one_turn(ctx, secrets, state, "build.step", Event::None).await?;
    }
    if left == Left::Open {
        announced::say(ctx, state).await?;
    }
    Ok(left == Left::Ended)
}

async fn one_turn(
    ctx: &Ctx,
    secrets: &Secrets,
    state: &mut State,
    name: &'static str,
    event: Event,
) -> Result<Left, DriveError> {
    let mut turn = Turn::new(ctx, secrets, name, stopping(state));
    let matched = matches!(event, Event::Matched);
    match event {
        Event::Outcome(command, outcome) => turn.take(state, command, &outcome).await?,
        Event::Lost(end) => turn.lose(state, end).await?,
        Event::Abandoned(end) => turn.end_outstanding(state, end).await?,
        Event::None | Event::Matched | Event::Stop => {}
    }
    let generation = state.build.generation;
    turn.advance(state).await?;
    if matched && state.build.generation == generation {
        // The match may be on its way to the record, and nothing may be written without it.
        turn.batch.expect(&mut state.build);
    }
    let Turn { mut batch, send, opens, forget, done, again, waits, passing, closes, frees, .. } = turn;
    if done {
        batch.name = "build.end";
    }
    if let Some(message) = send.as_ref().filter(|_| !opens.is_empty()) {
        // Before the agent may write a byte.
        let masks = masks_of(message);
        opens.iter().for_each(|log| ctx.logs.open_new(log, masks.clone()));
    }
    if !batch.is_empty() {
        commit(ctx, batch, passing, frees).await?;
    }
    if done {
        ctx.metrics.ended(&state.build);
    }
    closes.iter().for_each(|closed| closed.tell(ctx));
    if waits {
        // Its worker counts no more.
        ctx.nudges.fleet.notify_one();
    }
    if !forget.is_empty() {
        ctx.switchboard.to_session(state.worker.id, ToSession::Forget(forget));
    }
    if let Some(message) = send {
        ctx.switchboard.to_session(state.worker.id, ToSession::Run(message));
    }
    Ok(match (done, again) {
        (true, _) => Left::Ended,
        (false, true) => Left::Again,
        (false, false) => Left::Open,
    })
}

/// Makes a turn's batch true. The next end of the same buildset passes, and the worker is given its next build, as soon as this one has its place.
async fn commit(
    ctx: &Ctx,
    batch: Batch,
    passing: Option<Passing>,
    frees: Option<Worker>,
) -> Result<(), CommitError> {
    let submitted = ctx.store.submit(batch).await;
    if let Some(worker) = frees {
        ctx.switchboard.free(worker);
        ctx.nudges.matching.notify_one();
    }
    let passed = passing.map(Passing::on);
    let done = match submitted {
        Ok(submitted) => submitted.committed().await,
        Err(error) => Err(error),
    };
    if let (Err(_), Some(passed)) = (&done, passed) {
        passed.back().await;
    }
    done
}

fn masks_of(message: &wire::Command) -> wire::masking::Masks {
    wire::masking::Masks::new(message.masks.iter().map(wire::Hidden::reveal))
}

/// Asks the agent once more for what is outstanding, or ends its step where that cannot be; `true` once the build has ended.
async fn resend_or_end(ctx: &Ctx, secrets: &Secrets, state: &mut State) -> Result<bool, DriveError> {
    let Some(end) = resend(ctx, secrets, state).await else { return Ok(false) };
    if let Some(command) = state.outstanding() {
        // Should it run there: it is killed, and what it printed is dropped unseen.
        let forget = vec![wire::CommandId(command.id.0)];
        ctx.switchboard.to_session(state.worker.id, ToSession::Forget(forget));
    }
    turn(ctx, secrets, state, "build.step", Event::Abandoned(end)).await
}

/// Asks the agent once more for what is outstanding; it runs an id once, however often it is asked. Answers how the step ends where the message
/// cannot be made any more.
async fn resend(ctx: &Ctx, secrets: &Secrets, state: &mut State) -> Option<End> {
    let command = state.outstanding()?.clone();
    if state.worker.incarnation.as_deref() != Some(command.incarnation.as_str()) {
        return None;
    }
    if let Some((result, why)) = stopping(state)
        && state.is_stopped_by(result)
    {
        let id = wire::CommandId(command.id.0);
        ctx.switchboard.to_session(state.worker.id, ToSession::Stop { command: id, reason: why });
    }
    let stored = serde_json::from_str::<Stored>(&command.action).ok()?;
    match action::for_agent(ctx, secrets, state, &command, stored).await {
        Ok(message) => {
            let (streams, masks) = (message.action.streams(), masks_of(&message));
            streams.iter().for_each(|stream| ctx.logs.open(LogId(stream.0), masks.clone()));
            ctx.switchboard.to_session(state.worker.id, ToSession::Run(Box::new(message)));
            None
        }
        // A secret that was there and is not any more. Without it nothing of the output can be masked, so none of it is taken.
        Err(error) => {
            tracing::error!(build = %state.build.id, error = crate::supervisor::chain(&error), "a command cannot be sent again");
            let mut end = action::end_of(&error);
            if end.result != BuildResult::Retry {
                end.result = BuildResult::Exception;
                end.class = Some(FailureClass::Auth);
            }
            end.summary = format!("the command cannot be taken up again: {}", end.summary);
            Some(end)
        }
    }
}

/// Whether the build is to stop, and as what.
fn stopping(state: &State) -> Option<(BuildResult, String)> {
    if let Some(why) = &state.build.cancel {
        return Some((BuildResult::Cancelled, why.clone()));
    }
    let limit = state.plan.timeout_s?;
    let up = state.ends.is_some_and(|end| end <= Instant::now());
    up.then(|| (BuildResult::Failure, format!("the build took longer than {limit} s")))
}

fn remaining(ctx: &Ctx, state: &State) -> Option<Duration> {
    let of_build = state.ends.map(|ends| ends.saturating_duration_since(Instant::now()));
    let of_step = triggers::left(state, ctx.now());
    let left = [of_build, of_step].into_iter().flatten().filter(|left| !left.is_zero()).min()?;
    // Once one is up there is nothing to wait for but the usual look.
    Some(left.max(Duration::from_millis(10)))
}

/// Reads build and worker again, and says what has to be done about it.
async fn look(ctx: &Ctx, state: &mut State) -> Result<Option<Event>, DriveError> {
    let id = state.build.id;
    state.build = ctx.store.build(id).await?.ok_or(DriveError::NoBuild(id))?;
    state.worker = ctx.store.worker(state.worker.id).await?.ok_or(DriveError::Missing(id, "its worker"))?;
    if let Some(end) = lost(state) {
        return Ok(Some(Event::Lost(end)));
    }
    if let Some((result, reason)) = stopping(state) {
        match state.outstanding() {
            Some(_) if !state.is_stopped_by(result) => {}
            Some(command) => {
                let command = wire::CommandId(command.id.0);
                ctx.switchboard.to_session(state.worker.id, ToSession::Stop { command, reason });
            }
            None => return Ok(Some(Event::Stop)),
        }
    }
    // Those that it waits for may have ended.
    Ok(triggers::is_open(state).then_some(Event::None))
}

/// How the open step ends where its agent is lost.
fn lost(state: &State) -> Option<End> {
    let worker = &state.worker;
    let restarted =
        state.outstanding().is_some_and(|c| worker.incarnation.as_deref() != Some(c.incarnation.as_str()));
    let cause = match (&worker.phase, &worker.wanted) {
        (Phase::Terminating { cause, .. } | Phase::Gone { cause }, _) => Some(cause),
        (_, Wanted::End { cause }) if matches!(worker.link, Link::Lost { .. }) => Some(cause),
        _ => None,
    };
    if cause.is_none() && !restarted {
        return None;
    }
    let class = cause.and_then(|c| c.class).unwrap_or(FailureClass::AgentLost);
    let why = cause.map_or_else(|| "the agent was restarted".to_owned(), |c| c.message.clone());
    let result = if class == FailureClass::User { BuildResult::Failure } else { BuildResult::Retry };
    Some(End { result, class: Some(class), summary: format!("worker {} was lost: {why}", worker.name) })
}

/// Adds the build's end to a turn: the build, its slot, its worker, its request and with the last one the buildset.
pub(super) async fn end_build(
    turn: &mut Turn<'_>,
    state: &mut State,
    result: BuildResult,
) -> Result<(), DriveError> {
    super::services::keep_logs(turn, state).await?;
    let (ctx, now) = (turn.ctx, turn.now);
    let id = state.build.id;
    // Whoever has changed it since, as by cancelling it, sends this turn back.
    let mut request = state.request.clone();
    let mut result = result;
    let mut summary = summary_of(state, turn, result);
    let cancelled = request.cancel.is_some() || state.build.cancel.is_some();
    let mut class =
        state.steps.iter().rev().find_map(|s| s.class.filter(|_| s.result != Some(BuildResult::Success)));
    if result == BuildResult::Retry && !cancelled {
        // A build may be lost between two steps, too.
        class = class.or(turn.stopping.as_ref().map(|_| FailureClass::AgentLost));
        if let Some(why) = state.forbids_retry(class) {
            result = BuildResult::Exception;
            summary = format!("{summary}; {why}");
        } else if request.attempts >= i64::from(state.plan.retries) {
            result = BuildResult::Exception;
            summary = format!("{summary}; given up after {} attempts", request.attempts + 1);
        }
    }
    let build = &mut state.build;
    build.result = Some(result);
    build.class = class;
    build.summary.clone_from(&summary);
    build.running_from.get_or_insert(now);
    build.finishing_from.get_or_insert(now);
    build.finished = Some(now);
    turn.batch.update(build);
    turn.batch.delete(&Lease {
        worker: state.worker.id,
        slot: state.build.slot,
        build: id,
        since: state.build.matched,
    });
    let mut worker = state.worker.clone();
    let mut others = 0;
    if worker.slots > 1 {
        worker = ctx.store.worker(worker.id).await?.ok_or(DriveError::Missing(id, "its worker"))?;
        others = ctx.store.leases_of(worker.id).await?.into_iter().filter(|l| l.build != id).count();
    }
    if others == 0 {
        worker.idle_since = Some(now);
    }
    turn.batch.update(&mut worker);
    // Those with several slots change under the matcher's hands.
    turn.frees = (worker.slots == 1).then_some(worker);
    if result == BuildResult::Retry && !cancelled {
        request.state = RequestState::Queued;
        request.attempts += 1;
        request.not_before = Some(now + backoff(request.attempts));
        request.claimed_by = None;
        // Others may have them while it pauses.
        request.locks = None;
        turn.batch.update(&mut request);
        turn.batch.event(crate::requests::request_event(EventKind::RequestChanged, &request, now));
    } else {
        let passing = turn.passing.insert(ctx.turnstile.pass(request.buildset).await);
        let (store, batch) = (&ctx.store, &mut turn.batch);
        turn.closes = crate::requests::finish(store, Some(passing), batch, &mut request, result, now).await?;
    }
    let payload = serde_json::json!({
        "builder": state.build.builder, "request": state.build.request, "result": result, "summary": summary,
        "times": state.build.phase_times(now),
    });
    turn.event(state, EventKind::BuildFinished, format!("build/{id}"), payload);
    Ok(())
}

fn summary_of(state: &State, turn: &Turn<'_>, result: BuildResult) -> String {
    if let Some((_, why)) = &turn.stopping {
        return why.clone();
    }
    let worst =
        state.steps.iter().find(|s| s.result.is_some_and(|r| !r.is_good() && r != BuildResult::Skipped));
    match worst {
        Some(step) if !result.is_good() => format!("{result} in `{}`: {}", step.name, step.summary),
        _ => result.to_string(),
    }
}
