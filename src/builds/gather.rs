//! What a step leaves to its build: properties, the revision that was checked out, warnings, and the line that tells why it failed.

use super::action::{self, Memory, PROPERTIES_SET};
use super::given;
use super::outcome::{self, End};
use super::reports::REPORTS_SET;
use super::state::{DriveError, State};
use super::turn::Turn;
use super::{properties, summary};
use crate::config;
use rouse_agent_protocol::{self as wire, MAX_PROPERTIES, MAX_PROPERTIES_BYTES};
use rouse_model::build::BuildProperty;
use rouse_model::config_revision::PlanRow;
use rouse_model::failure::FailureClass;
use rouse_model::plan::{Action, PlannedStep};
use rouse_model::{BuildResult, LogId, Trust};

/// What a step that sets properties may print.
#[allow(clippy::cast_possible_truncation)] // A megabyte.
const MAX_OUTPUT: usize = MAX_PROPERTIES_BYTES as usize;
/// How much of a failed step's log is searched for its first error.
const TELLING_TAIL: usize = 256 * 1024;

impl Turn<'_> {
    /// What a step that ended well has to say to the build: properties, a revision, warnings.
    pub(super) async fn gather(
        &mut self,
        state: &mut State,
        index: usize,
        end: &mut End,
    ) -> Result<(), DriveError> {
        if !end.result.is_good() {
            return Ok(());
        }
        let planned = state.plan.steps[index].clone();
        let step = state.steps[index].clone();
        let tainted = state.build.trust == Trust::Untrusted;
        let source = format!("step {}", planned.name);
        let found = match &planned.action {
            Action::Checkout { .. } => {
                let memory: Memory = serde_json::from_str(&step.memory).unwrap_or_default();
                let own = state.scope.codebase.as_ref().and_then(|c| memory.revisions.get_key_value(c));
                let Some((codebase, revision)) = own.or_else(|| memory.revisions.iter().next()) else {
                    return Ok(());
                };
                let (merge, revision) = (memory.merges.get(codebase), revision.clone());
                state.scope.revision = Some(revision.clone());
                let mut props = rouse_model::property::Properties::default();
                if let Some(merge) = merge {
                    props.set("got_merge_target", merge.onto.clone(), source.clone(), tainted);
                    props.set("got_merge", merge.commit.clone(), source.clone(), tainted);
                }
                props.set("got_revision", revision, source, tainted);
                Ok(props)
            }
            Action::PropertiesFromFile { path } => {
                // A log is masked on its way; a file is not.
                let masks = match given::masks(self.secrets, state).await {
                    Ok(masks) => masks,
                    Err(error) => {
                        *end = action::end_of(&error.into());
                        return Ok(());
                    }
                };
                let (build, batch) = (state.build.id, &mut self.batch);
                match self.ctx.artifacts.take_small(build, step.id, PROPERTIES_SET, batch).await {
                    Ok(bytes) => properties::parse(
                        &String::from_utf8_lossy(&bytes),
                        &format!("{source} ({path})"),
                        tainted,
                    )
                    .map(|found| properties::masked(found, &masks))
                    .map_err(|e| format!("{path}: {e}")),
                    // Nobody's build is red for a store that is away.
                    Err(error) if error.is_away() => return Err(error.into()),
                    Err(error) => Err(crate::supervisor::chain(&error)),
                }
            }
            Action::PropertiesFromOutput { property, .. } => match self.output_of(state, index).await? {
                None => Err(format!("the output is longer than {MAX_OUTPUT} bytes")),
                Some(text) => match property {
                    Some(name) => properties::single(name, &text, &source, tainted),
                    None => properties::parse(&text, &source, tainted),
                },
            },
            Action::StepsFrom { .. } => {
                let steps = match self.output_of(state, index).await? {
                    None => Err(format!("the output is longer than {MAX_OUTPUT} bytes")),
                    Some(text) => config::printed_steps(&text),
                };
                match steps.and_then(|steps| self.add_steps(state, index, steps)) {
                    Ok(summary) => end.summary = summary,
                    Err(message) => *end = End::failure(message),
                }
                return Ok(());
            }
            Action::Run(run) => {
                if let Some(pattern) = &run.warning_pattern
                    && let Ok(pattern) = regex::Regex::new(pattern)
                {
                    let mut count = 0;
                    for log in logs_of(state, index) {
                        count += self.ctx.logs.count(log, |line| pattern.is_match(line)).await?;
                    }
                    if count > 0 {
                        end.result = BuildResult::Warnings;
                        end.summary =
                            if count == 1 { "1 warning".into() } else { format!("{count} warnings") };
                    }
                }
                return Ok(());
            }
            Action::Upload { set, .. } => {
                let said = state.commands_of(index).first().and_then(|c| c.outcome.clone());
                let said = said.and_then(|text| serde_json::from_str::<wire::Outcome>(&text).ok());
                let kept = self.ctx.store.artifacts(state.build.id).await?;
                let arrived: Vec<_> = kept.iter().filter(|a| a.step == step.id).collect();
                if let Some(lie) = said.and_then(|said| outcome::of_upload(&said, &arrived)) {
                    *end = lie;
                } else if set == REPORTS_SET {
                    // What a test says may be what no row may hold.
                    match given::masks(self.secrets, state).await {
                        Ok(masks) => self.take_reports(state, &step, &arrived, &masks, end).await?,
                        Err(error) => *end = action::end_of(&error.into()),
                    }
                }
                return Ok(());
            }
            Action::SaveCache(cache) if end.result == BuildResult::Success => {
                return self.take_cache(state, &step, cache, end).await;
            }
            Action::Download { .. } | Action::RestoreCache(_) | Action::SaveCache(_) | Action::Trigger(_) => {
                return Ok(());
            }
        };
        let found = found.and_then(|props| {
            let known = &state.scope.props.0;
            let all = known.len() + props.0.keys().filter(|name| !known.contains_key(*name)).count();
            match all <= MAX_PROPERTIES {
                true => Ok(props),
                false => Err(format!("the build would have {all} properties, and may have {MAX_PROPERTIES}")),
            }
        });
        match found {
            Ok(props) => {
                for (name, property) in &props.0 {
                    let row = BuildProperty {
                        build: state.build.id,
                        name: name.clone(),
                        property: property.clone(),
                    };
                    self.batch.upsert(&row);
                }
                state.scope.props.extend(&props);
            }
            Err(message) => {
                *end = End { result: BuildResult::Failure, class: Some(FailureClass::User), summary: message }
            }
        }
        Ok(())
    }

    /// The build goes on by a plan of its own, in which the steps come after the one that printed them.
    fn add_steps(
        &mut self,
        state: &mut State,
        index: usize,
        steps: Vec<PlannedStep>,
    ) -> Result<String, String> {
        let (plan, count) = (&mut state.plan, steps.len());
        if plan.steps.len() + count > config::MAX_STEPS {
            return Err(format!("the build would have more than {} steps", config::MAX_STEPS));
        }
        for (place, mut step) in (index + 1..).zip(steps) {
            let taken = |name: &str| plan.steps.iter().any(|other| other.name == name);
            let mut names = (2..).map(|n| format!("{} {n}", step.name));
            if taken(&step.name)
                && let Some(free) = names.find(|name| !taken(name))
            {
                step.name = free;
            }
            plan.steps.insert(place, step);
        }
        let (hash, body) = plan.address();
        state.build.plan.clone_from(&hash);
        self.batch.insert_or_ignore(&PlanRow { hash, body });
        self.batch.update(&mut state.build);
        Ok(if count == 1 { "1 step".to_owned() } else { format!("{count} steps") })
    }

    async fn text_of(&self, state: &State, index: usize) -> String {
        let mut text = String::new();
        for log in logs_of(state, index) {
            text.push_str(&self.ctx.logs.plain_tail(log, TELLING_TAIL).await.unwrap_or_default());
        }
        text
    }

    /// What the step's command wrote to its standard output; `None` where that is too much.
    async fn output_of(&self, state: &State, index: usize) -> Result<Option<String>, DriveError> {
        let Some(log) = logs_of(state, index).next() else { return Ok(Some(String::new())) };
        Ok(self.ctx.logs.output(log, MAX_OUTPUT).await?)
    }

    pub(super) async fn telling_line(&self, state: &State, index: usize) -> Option<String> {
        summary::first_error(&self.text_of(state, index).await)
    }
}

fn logs_of(state: &State, index: usize) -> impl Iterator<Item = LogId> {
    state.commands_of(index).into_iter().map(|command| command.log).filter(|log| log.0 != 0)
}
