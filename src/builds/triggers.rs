//! Builds that a step makes of other builders: made once each, waited for, and folded into the step's end.
//!
//! What is to be made is settled with the step's own row, and each buildset has an origin of its own; so whoever takes a build up after a crash
//! makes what lacks and finds the rest. While it waits, the build's row says so: the fleet does not count a worker that only waits.

use super::action::{Memory, StepError};
use super::outcome::{self, End};
use super::state::{DriveError, State};
use super::turn::Turn;
use crate::ctx::Ctx;
use crate::render::{self, RenderError};
use crate::requests::{self, CancelError, MakeError, Stamp, Wish};
use rouse_model::buildset::{Buildset, MergeTargets, Request};
use rouse_model::event::EventKind;
use rouse_model::plan::{Action, Trigger};
use rouse_model::property::Properties;
use rouse_model::{BuildId, BuildResult, Timestamp, Trust};
use rouse_store::Batch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Builds that are named in the summary of a step that they failed.
const NAMED: usize = 3;

impl From<CancelError> for DriveError {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::Read(error) => Self::Read(error),
            CancelError::Commit(error) => Self::Commit(error),
        }
    }
}

/// The properties of each buildset.
pub(super) fn settle(state: &State, trigger: &Trigger) -> Result<Vec<Properties>, StepError> {
    let source = format!("trigger by build {}", state.build.id);
    let set = |values: &BTreeMap<String, Value>| {
        let mut properties = Properties::default();
        for (name, value) in values {
            let mut tainted = false;
            let value = render::document(value, &mut |_, text| {
                let rendered = render::text(text, &state.scope)?;
                tainted |= rendered.tainted;
                Ok::<_, RenderError>(rendered.text.into())
            })?;
            properties.set(name.clone(), value, source.clone(), tainted);
        }
        Ok(properties)
    };
    trigger.sets.iter().map(set).collect()
}

/// Whether the open step is one that starts builds.
pub(super) fn is_open(state: &State) -> bool {
    state.open_step().is_some_and(|(_, planned)| matches!(planned.action, Action::Trigger(_)))
}

/// How long the open step may still wait for builds, where there is a limit.
pub(super) fn left(state: &State, now: Timestamp) -> Option<Duration> {
    let (index, planned) = state.open_step().filter(|_| is_open(state))?;
    let limit = Duration::from_secs(planned.timeout_s?);
    Some((state.steps[index].started + limit).since(now).min(limit))
}

/// What all buildsets of one step are called, but for their number.
pub(super) fn origin(build: BuildId, index: usize) -> String {
    format!("trigger/{build}/{index}/")
}

impl Turn<'_> {
    /// One move of a step that starts builds; `true` where it has to wait.
    pub(super) async fn go_on_with_builds(
        &mut self,
        state: &mut State,
        index: usize,
    ) -> Result<bool, DriveError> {
        // Nothing is made before it is on record that it will be.
        if self.again {
            return Ok(true);
        }
        let planned = state.plan.steps[index].clone();
        let Action::Trigger(trigger) = &planned.action else { return Ok(false) };
        let stopped = self.stopping.clone().filter(|(result, _)| state.is_stopped_by(*result));
        let end = if let Some((_, why)) = stopped {
            End { result: BuildResult::Cancelled, class: None, summary: why }
        } else {
            match self.make(state, index, trigger).await? {
                Err(end) => end,
                Ok(made) if !trigger.wait => {
                    End::success(format!("{} started", builds(made.len() * trigger.builders.len())))
                }
                Ok(made) if made.iter().all(|buildset| buildset.done.is_some()) => self.fold(&made).await?,
                Ok(_) => match left(state, self.now) {
                    Some(Duration::ZERO) => {
                        outcome::timed_out(super::action::seconds(planned.timeout_s.unwrap_or_default()))
                    }
                    _ => {
                        self.wait(state);
                        return Ok(true);
                    }
                },
            }
        };
        self.end_step(state, index, end).await?;
        Ok(false)
    }

    /// All buildsets of a step; what is not there yet is made. Else how the step ends.
    async fn make(
        &self,
        state: &State,
        index: usize,
        trigger: &Trigger,
    ) -> Result<Result<Vec<Buildset>, End>, DriveError> {
        let sets = Memory::of(&state.steps[index]).trigger.unwrap_or_default();
        let there = self.made(state, index).await?;
        if there.len() >= sets.len() {
            return Ok(Ok(there));
        }
        let active = self.ctx.config();
        let strange = trigger.builders.iter().find(|name| {
            let builder = active.config.builders.get(name.as_str());
            builder.is_none_or(|builder| builder.project.as_str() != state.build.project)
        });
        if let Some(name) = strange {
            let project = &state.build.project;
            return Ok(Err(End::failure(format!("project `{project}` has no builder `{name}` any more"))));
        }
        let wish = wish(self.ctx, state, index, trigger).await?;
        for (n, properties) in sets.into_iter().enumerate() {
            let origin = format!("{}{n}", origin(state.build.id, index));
            if there.iter().any(|buildset| buildset.origin == origin) {
                continue;
            }
            let wish = Wish { origin, properties, ..wish.clone() };
            match requests::make(self.ctx, &active, wish, Batch::new("trigger.make")).await {
                Ok(_) => {}
                Err(MakeError::Read(error)) => return Err(error.into()),
                Err(MakeError::Commit(error)) => return Err(error.into()),
                Err(error @ (MakeError::NoBuilder(_) | MakeError::Empty)) => {
                    return Ok(Err(End::failure(error.to_string())));
                }
            }
        }
        Ok(Ok(self.made(state, index).await?))
    }

    /// What a step has made so far.
    async fn made(&self, state: &State, index: usize) -> Result<Vec<Buildset>, DriveError> {
        let origin = origin(state.build.id, index);
        let mut made = self.ctx.store.buildsets_of(state.build.id).await?;
        made.retain(|buildset| buildset.origin.starts_with(&origin));
        Ok(made)
    }

    /// The build only waits from now on.
    fn wait(&mut self, state: &mut State) {
        if state.build.waiting_from.is_some() {
            return;
        }
        state.build.waiting_from = Some(self.now);
        self.batch.update(&mut state.build);
        self.waits = true;
        let payload = serde_json::json!({"phase": state.build.visible_phase(), "waiting": true});
        self.event(state, EventKind::BuildPhase, format!("build/{}", state.build.id), payload);
    }

    /// The end of a step, of those of its builds.
    async fn fold(&self, made: &[Buildset]) -> Result<End, DriveError> {
        let mut ended = Vec::new();
        for buildset in made {
            ended.extend(self.ctx.store.requests_of(buildset.id).await?);
        }
        let mut end = folded(&ended);
        // Whose fault it was is what its worst build says.
        let worst = ended.iter().find(|request| request.result == Some(end.result));
        if !end.result.is_good()
            && let Some(build) = worst.and_then(|request| request.build)
        {
            end.class = self.ctx.store.build(build).await?.and_then(|build| build.class);
        }
        Ok(end)
    }

    /// At a step's end: nobody waits any more, and what was only there to be waited for ends too.
    pub(super) async fn leave_builds(
        &mut self,
        state: &mut State,
        index: usize,
        end: &End,
    ) -> Result<(), DriveError> {
        if state.build.waiting_from.take().is_some() {
            self.batch.update(&mut state.build);
        }
        let waits = matches!(&state.plan.steps[index].action, Action::Trigger(trigger) if trigger.wait);
        if !waits || Memory::of(&state.steps[index]).trigger.is_none() {
            return Ok(());
        }
        let why = format!("build {} does not wait for it any more: {}", state.build.id, end.summary);
        for buildset in self.made(state, index).await?.into_iter().filter(|made| made.done.is_none()) {
            for request in self.ctx.store.requests_of(buildset.id).await? {
                requests::cancel_if_open(self.ctx, request, &why).await?;
            }
        }
        Ok(())
    }
}

/// What the wishes of a step have in common: the sources of its build, and no more trust than that has.
pub(super) async fn wish(
    ctx: &Ctx,
    state: &State,
    index: usize,
    trigger: &Trigger,
) -> Result<Wish, DriveError> {
    let (store, build) = (&ctx.store, &state.build);
    let own = store.buildset(build.buildset).await?;
    let own = own.ok_or(DriveError::Missing(build.id, "its buildset"))?;
    // What a branch was that is merged into: the first request of a buildset knows.
    let first = store.requests_of(build.buildset).await?.into_iter().next();
    let merges: MergeTargets = first.map(|request| request.provision.merges).unwrap_or_default();
    let reason = format!("step `{}` of `{}` {}", state.plan.steps[index].name, build.builder, build.id);
    Ok(Wish {
        origin: String::new(),
        scheduler: None,
        reason,
        owner: own.owner,
        properties: Properties::default(),
        builders: trigger.builders.clone(),
        stamps: stamps(state),
        parent: Some(build.id),
        trust: build.trust,
        // Before its equals: else new builds that wait, too, could take all the room there is.
        priority: state.request.priority.saturating_add(i64::from(trigger.wait)),
        images: BTreeMap::new(),
        merges,
        approved: None,
    })
}

/// The sources of a build, as far as it has settled them.
fn stamps(state: &State) -> Vec<Stamp> {
    let stamp = |stamp: &rouse_model::source::SourceStamp| Stamp {
        codebase: stamp.codebase.clone(),
        branch: stamp.branch.clone(),
        revision: stamp.revision.clone(),
        change_set: stamp.change_set,
        trust: stamp.trust,
    };
    let mut stamps: Vec<Stamp> = state.stamps.iter().map(stamp).collect();
    for (step, planned) in state.steps.iter().zip(&state.plan.steps) {
        let Action::Checkout { trees } = &planned.action else { continue };
        for (codebase, revision) in Memory::of(step).revisions {
            match stamps.iter_mut().find(|stamp| stamp.codebase == codebase) {
                Some(stamp) => {
                    stamp.revision.get_or_insert(revision);
                }
                // Nobody has asked for it but the configuration.
                None => {
                    let tree = trees.iter().find(|tree| tree.codebase == codebase);
                    let branch =
                        tree.and_then(|tree| super::action::stamp_branch(state, tree).ok().flatten());
                    let revision = Some(revision);
                    stamps.push(Stamp {
                        codebase,
                        branch,
                        revision,
                        change_set: None,
                        trust: Trust::Trusted,
                    });
                }
            }
        }
    }
    stamps
}

/// The worst of all, and how many went well.
fn folded(ended: &[Request]) -> End {
    let results = || ended.iter().filter_map(|request| request.result);
    let result = results().reduce(BuildResult::worse).unwrap_or(BuildResult::Success);
    let good = results().filter(|result| result.is_good()).count();
    let mut summary = match ended.len() {
        1 if good == 1 => "it succeeded".to_owned(),
        all => format!("{good} of {all} succeeded"),
    };
    let mut others: Vec<&Request> =
        ended.iter().filter(|request| request.result.is_some_and(|result| !result.is_good())).collect();
    others.sort_by_key(|request| request.result != Some(result));
    for request in others.iter().take(NAMED) {
        let result = request.result.map(BuildResult::as_str).unwrap_or_default();
        let which = match request.build {
            Some(build) => format!("build {build}"),
            None => format!("request {}", request.id),
        };
        summary.push_str(&format!("; {which} of `{}`: {result}", request.builder));
    }
    if others.len() > NAMED {
        summary.push_str(&format!("; and {} more", others.len() - NAMED));
    }
    End { result, class: None, summary }
}

fn builds(n: usize) -> String {
    if n == 1 { "1 build".to_owned() } else { format!("{n} builds") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rouse_model::buildset::{Provision, RequestState};
    use rouse_model::{BuildsetId, ConfigRevisionId, RequestId};

    fn ended(id: i64, builder: &str, result: BuildResult) -> Request {
        Request {
            id: RequestId(id),
            buildset: BuildsetId(1),
            builder: builder.into(),
            project: "default".into(),
            branch: None,
            state: RequestState::Done,
            priority: 0,
            created: Timestamp(1),
            not_before: None,
            attempts: 0,
            trust: Trust::Trusted,
            cancel: None,
            build: (id != 9).then_some(BuildId(id + 10)),
            claimed_by: None,
            result: Some(result),
            done: Some(Timestamp(2)),
            config: ConfigRevisionId(1),
            provision: Provision::default(),
            locks: None,
            approval: None,
            lapses: None,
            generation: 0,
        }
    }

    #[test]
    fn a_step_is_as_good_as_its_worst_build_and_names_those_that_were_not_good() {
        use BuildResult::{Cancelled, Exception, Failure, Success, Warnings};
        let fold = |results: &[(i64, BuildResult)]| {
            let all: Vec<Request> = results.iter().map(|(id, result)| ended(*id, "unit", *result)).collect();
            let End { result, summary, .. } = folded(&all);
            (result, summary)
        };
        assert_eq!(fold(&[(1, Success)]), (Success, "it succeeded".into()));
        assert_eq!(fold(&[(1, Success), (2, Warnings)]), (Warnings, "2 of 2 succeeded".into()));
        assert_eq!(
            fold(&[(1, Success), (2, Failure), (9, Cancelled)]),
            (
                Cancelled,
                "1 of 3 succeeded; request 9 of `unit`: cancelled; build 12 of `unit`: failure".into()
            )
        );
        let many: Vec<(i64, BuildResult)> = (1..=5).map(|id| (id, Failure)).chain([(6, Exception)]).collect();
        assert_eq!(
            fold(&many),
            (
                Exception,
                "0 of 6 succeeded; build 16 of `unit`: exception; build 11 of `unit`: failure; build 12 of `unit`: \
                 failure; and 3 more"
                    .into()
            )
        );
    }
}
