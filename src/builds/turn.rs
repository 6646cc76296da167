//! One turn of a build: what an outcome, or the start, makes true, up to the next command or the build's end; all of it one commit.

use super::action::{self, Memory, Move, StepError, Stored};
use super::outcome::End;
use super::state::{DriveError, State};
use super::{caches, given, output, triggers};
use crate::ctx::Ctx;
use crate::requests::Closed;
use crate::secrets::Secrets;
use rouse_agent_protocol as wire;
use rouse_model::build::{Command, CommandState, Step};
use rouse_model::event::{EventKind, NewEvent};
use rouse_model::failure::FailureClass;
use rouse_model::logs::Log;
use rouse_model::plan::{Action, DownloadFrom};
use rouse_model::sequence::{self, Next};
use rouse_model::worker::Worker;
use rouse_model::{BuildResult, LogId, Timestamp};
use rouse_store::Batch;
use std::time::Duration;

/// What a turn has gathered.
pub(super) struct Turn<'a> {
    pub ctx: &'a Ctx,
    pub(super) secrets: &'a Secrets,
    pub batch: Batch,
    pub now: Timestamp,
    /// The command to send once the batch is true.
    pub send: Option<Box<wire::Command>>,
    /// The logs that it will write.
    pub opens: Vec<Log>,
    /// Outcomes that are on record once the batch is true.
    pub forget: Vec<wire::CommandId>,
    pub done: bool,
    /// Another turn follows at once: what it does must not come before this one is true.
    pub again: bool,
    /// The build only waits for others from now on.
    pub(super) waits: bool,
    /// Set once somebody cancelled the build or its time is up.
    pub stopping: Option<(BuildResult, String)>,
    /// The worker is lost: nothing more can run on it.
    lost: bool,
    /// Where a log of a command that has ended was cut.
    pub(super) cut: Option<u64>,
    /// Held until the batch has its place, where it ends a request: the others of its buildset wait.
    pub passing: Option<crate::requests::Passing>,
    /// The end of the buildset, where it ends with it.
    pub closes: Option<Closed>,
    /// The worker with nothing to do, once the batch is true.
    pub frees: Option<Worker>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        ctx: &'a Ctx,
        secrets: &'a Secrets,
        name: &'static str,
        stopping: Option<(BuildResult, String)>,
    ) -> Self {
        let (batch, now) = (Batch::new(name), ctx.now());
        let (send, opens, forget) = (None, vec![], vec![]);
        Self {
            ctx,
            secrets,
            batch,
            now,
            send,
            opens,
            forget,
            done: false,
            again: false,
            waits: false,
            stopping,
            lost: false,
            cut: None,
            passing: None,
            closes: None,
            frees: None,
        }
    }

    /// Records an outcome.
    pub(super) async fn take(
        &mut self,
        state: &mut State,
        id: wire::CommandId,
        outcome: &wire::Outcome,
    ) -> Result<(), DriveError> {
        let said = self.fit_to_keep(state, outcome).await;
        let outcome = &said;
        let Some(command) =
            state.commands.iter_mut().find(|c| c.id.0 == id.0 && c.state == CommandState::Wanted)
        else {
            self.forget.push(id);
            return Ok(());
        };
        command.state = CommandState::Done;
        command.outcome = Some(serde_json::to_string(outcome).unwrap_or_default());
        self.batch.update(command);
        self.forget.push(id);
        let logs = output::logs_of(command);
        self.seal_at_end(state, &logs, outcome).await
    }

    /// What an agent says is capped here, and masked once more, whoever it is.
    async fn fit_to_keep(&self, state: &mut State, outcome: &wire::Outcome) -> wire::Outcome {
        let mut kept = outcome.clone().capped();
        if kept.texts_mut().next().is_some() {
            let masks = given::masks(self.secrets, state).await;
            for text in kept.texts_mut() {
                *text = match &masks {
                    Ok(masks) => masks.mask_text(text),
                    Err(error) => format!("(not shown, as it cannot be masked: {error})"),
                };
            }
        }
        kept
    }

    /// Goes on until a command is out, the step waits for other builds, or the build has ended.
    pub(super) async fn advance(&mut self, state: &mut State) -> Result<(), DriveError> {
        loop {
            if state.outstanding().is_some() {
                return Ok(());
            }
            if let Some((index, _)) = state.open_step() {
                if self.go_on(state, index).await? {
                    return Ok(());
                }
                continue;
            }
            let stopping = self.stopping.as_ref().map(|(result, _)| *result);
            match sequence::next(&state.plan, &state.recorded(), stopping) {
                Next::Step(index) if self.lost => {
                    self.skip_step(state, index, "its worker was lost").await?;
                }
                Next::Step(index) => self.begin_step(state, index).await?,
                Next::Skip(index) => {
                    let why =
                        if stopping.is_some() { "the build was stopped" } else { "an earlier step failed" };
                    self.skip_step(state, index, why).await?;
                }
                Next::Done(result) => {
                    super::driver::end_build(self, state, result).await?;
                    self.done = true;
                    return Ok(());
                }
            }
        }
    }

    /// One move of the open step; `true` once a command is out, or there is something else to wait for.
    async fn go_on(&mut self, state: &mut State, index: usize) -> Result<bool, DriveError> {
        if matches!(state.plan.steps[index].action, Action::Trigger(_)) {
            return self.go_on_with_builds(state, index).await;
        }
        let outcomes: Vec<wire::Outcome> = state
            .commands_of(index)
            .iter()
            .filter_map(|c| c.outcome.as_deref().and_then(|o| serde_json::from_str(o).ok()))
            .collect();
        let log: LogId = self.ctx.store.next_id().await?;
        let planned = state.plan.steps[index].clone();
        let made = action::next_move(state, &planned, &state.steps[index], &outcomes, log);
        match made {
            Ok(Move::Command(stored)) => return self.begin_command(state, index, log, *stored).await,
            Ok(Move::End(end)) => self.end_step(state, index, end).await?,
            Err(error) => self.end_step(state, index, action::end_of(&error)).await?,
        }
        Ok(false)
    }

    async fn begin_step(&mut self, state: &mut State, index: usize) -> Result<(), DriveError> {
        let planned = state.plan.steps[index].clone();
        if let Some(condition) = &planned.condition {
            match crate::render::condition(condition, &state.scope) {
                Ok(true) => {}
                Ok(false) => return self.skip_step(state, index, "its condition does not hold").await,
                Err(error) => {
                    self.insert_step(state, index, String::new()).await?;
                    return self.end_step(state, index, action::end_of(&StepError::Render(error))).await;
                }
            }
        }
        if let Some(why) = caches::left_out(state, &planned.action) {
            return self.skip_step(state, index, why).await;
        }
        let memory = self.remember(state, &planned.action).await;
        let running = !matches!(
            planned.action,
            Action::Checkout { .. } | Action::Download { .. } | Action::RestoreCache(_)
        );
        if running && state.build.running_from.is_none() {
            state.build.running_from = Some(self.now);
            state.build.summary = format!("running `{}`", planned.name);
            self.batch.update(&mut state.build);
            let payload = serde_json::json!({"phase": state.build.visible_phase()});
            self.event(state, EventKind::BuildPhase, format!("build/{}", state.build.id), payload);
        }
        match memory {
            Ok(mut memory) => {
                memory.stopped = self.stopping.as_ref().map(|(result, _)| *result);
                self.again = memory.trigger.is_some();
                let memory = serde_json::to_string(&memory).unwrap_or_default();
                self.insert_step(state, index, memory).await
            }
            Err(error) => {
                self.insert_step(state, index, String::new()).await?;
                self.end_step(state, index, action::end_of(&error)).await
            }
        }
    }

    /// Settles what must not change while the step runs.
    async fn remember(&self, state: &mut State, action: &Action) -> Result<Memory, StepError> {
        let mut memory = Memory::default();
        match action {
            Action::Checkout { trees } => {
                for tree in trees {
                    super::checkout::settle(self.ctx, state, tree, &mut memory).await?;
                    if let Some(revision) = memory.revisions.get(&tree.codebase) {
                        super::mirrored::wish(self.ctx, state, tree, revision);
                    }
                }
            }
            Action::Download { set, from, .. } => {
                let build = match from {
                    DownloadFrom::ThisBuild => state.build.id,
                    DownloadFrom::Parent => state.parent.ok_or_else(|| {
                        StepError::User("this build has no parent to download from".to_owned())
                    })?,
                };
                let kept = self
                    .ctx
                    .store
                    .artifacts(build)
                    .await
                    .map_err(|e| StepError::Infrastructure(crate::supervisor::chain(&e)))?;
                memory.artifacts =
                    kept.into_iter().filter(|a| a.set == *set).map(|a| (a.id.0, a.path)).collect();
                if memory.artifacts.is_empty() {
                    return Err(StepError::User(format!(
                        "build {build} has no artifacts in the set `{set}`"
                    )));
                }
            }
            Action::RestoreCache(cache) => {
                let settled = caches::find(&self.ctx.store, state, cache).await?;
                self.note_use(&settled).await;
                memory.cache = Some(settled);
            }
            Action::SaveCache(cache) => {
                memory.cache = Some(caches::find_own(&self.ctx.store, state, cache).await?);
            }
            Action::Trigger(trigger) => memory.trigger = Some(triggers::settle(state, trigger)?),
            Action::Run(_)
            | Action::PropertiesFromFile { .. }
            | Action::PropertiesFromOutput { .. }
            | Action::StepsFrom { .. }
            | Action::Upload { .. } => {}
        }
        Ok(memory)
    }

    async fn insert_step(
        &mut self,
        state: &mut State,
        index: usize,
        memory: String,
    ) -> Result<(), DriveError> {
        let step = Step {
            id: self.ctx.store.next_id().await?,
            build: state.build.id,
            seq: i64::try_from(index).unwrap_or(i64::MAX),
            name: state.plan.steps[index].name.clone(),
            result: None,
            class: None,
            summary: String::new(),
            started: self.now,
            finished: None,
            memory,
            generation: 0,
        };
        self.batch.insert(&step);
        let payload = serde_json::json!({"build": step.build, "seq": step.seq, "name": step.name});
        self.event(state, EventKind::StepStarted, format!("step/{}", step.id), payload);
        state.steps.push(step);
        Ok(())
    }

    async fn skip_step(&mut self, state: &mut State, index: usize, why: &str) -> Result<(), DriveError> {
        self.insert_step(state, index, String::new()).await?;
        let end = End { result: BuildResult::Skipped, class: None, summary: format!("skipped: {why}") };
        self.end_step(state, index, end).await
    }

    /// Puts a command on record and makes it ready to send; `false` where it cannot be made, which ends the step.
    async fn begin_command(
        &mut self,
        state: &mut State,
        index: usize,
        log: LogId,
        mut stored: Stored,
    ) -> Result<bool, DriveError> {
        let step = state.steps[index].id;
        let seq = i64::try_from(state.commands_of(index).len()).unwrap_or(i64::MAX);
        self.number_files(&mut stored).await?;
        let streams = stored.action.streams();
        let command = Command {
            id: self.ctx.store.next_id().await?,
            build: state.build.id,
            step,
            seq,
            worker: state.worker.id,
            incarnation: state.worker.incarnation.clone().unwrap_or_default(),
            log: if streams.is_empty() { LogId(0) } else { log },
            state: CommandState::Wanted,
            action: serde_json::to_string(&stored).unwrap_or_default(),
            outcome: None,
            stop: None,
            generation: 0,
        };
        let message = match action::for_agent(self.ctx, self.secrets, state, &command, stored).await {
            Ok(message) => message,
            Err(error) => {
                self.end_step(state, index, action::end_of(&error)).await?;
                return Ok(false);
            }
        };
        self.insert_logs(state, index, seq, &streams).await?;
        self.batch.insert(&command);
        state.commands.push(command);
        self.send = Some(Box::new(message));
        Ok(true)
    }

    pub(super) async fn end_step(
        &mut self,
        state: &mut State,
        index: usize,
        mut end: End,
    ) -> Result<(), DriveError> {
        // All that the build is for is done by then.
        if matches!(state.plan.steps[index].action, Action::SaveCache(_)) {
            end = caches::bearable(end);
        }
        if matches!(state.plan.steps[index].action, Action::Trigger(_)) {
            self.leave_builds(state, index, &end).await?;
        }
        self.gather(state, index, &mut end).await?;
        if let Some(most) = self.cut.take() {
            end.summary = format!("{}; its log was cut after {most} bytes", end.summary);
        }
        if output::lacks_files(state, index) {
            end.summary = format!("{}; {}", end.summary, output::LACKING);
        }
        let lost = end.class == Some(FailureClass::AgentLost);
        if matches!(end.result, BuildResult::Failure | BuildResult::Retry)
            && !lost
            && let Some(line) = self.telling_line(state, index).await
        {
            end.summary = format!("{}: {line}", end.summary);
        }
        if self.stopping.as_ref().is_some_and(|_| end.result == BuildResult::Cancelled)
            && let Some((result, why)) = &self.stopping
        {
            end.result = *result;
            end.summary.clone_from(why);
        }
        if end.result == BuildResult::Retry
            && let Some(why) = state.forbids_retry(end.class)
        {
            end.result = BuildResult::Exception;
            end.summary = format!("{}; {why}", end.summary);
        }
        let step = &mut state.steps[index];
        step.result = Some(end.result);
        step.class = end.class;
        step.summary = end.summary;
        step.finished = Some(self.now);
        self.batch.update(step);
        let payload = serde_json::json!({
            "build": step.build, "seq": step.seq, "name": step.name, "result": step.result, "summary": step.summary,
        });
        let subject = format!("step/{}", step.id);
        self.event(state, EventKind::StepFinished, subject, payload);
        Ok(())
    }

    pub(super) fn event(
        &mut self,
        state: &State,
        kind: EventKind,
        subject: String,
        payload: serde_json::Value,
    ) {
        let project = state.build.project.clone();
        self.batch.event(NewEvent { kind, version: 1, subject, project, at: self.now, payload });
    }

    /// The agent is lost: the outstanding command ends without an outcome, and nothing more runs on the worker.
    pub(super) async fn lose(&mut self, state: &mut State, end: End) -> Result<(), DriveError> {
        self.lost = true;
        self.end_outstanding(state, end).await
    }

    /// Ends the open step without the outcome of the command that is out.
    pub(super) async fn end_outstanding(&mut self, state: &mut State, end: End) -> Result<(), DriveError> {
        if let Some(command) = state.commands.iter_mut().find(|c| c.state == CommandState::Wanted) {
            command.state = CommandState::Done;
            self.batch.update(command);
            let mut ends = Vec::new();
            for log in output::logs_of(command) {
                ends.push((log, self.ctx.logs.received(log).await?, Some(end.summary.clone())));
            }
            self.seal(state, ends).await?;
        }
        if let Some((index, _)) = state.open_step() {
            self.end_step(state, index, end).await?;
        } else {
            self.stopping.get_or_insert((end.result, end.summary));
        }
        Ok(())
    }
}

/// How long a request waits before its next attempt.
pub(super) fn backoff(attempts: i64) -> Duration {
    Duration::from_secs(1u64 << attempts.clamp(0, 6))
}
