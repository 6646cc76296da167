//! What the `trigger` steps of a build will ask for, said before they do, as schedulers say what is coming: by when its builder's last builds came to
//! them, and how often they did. Nothing of it is kept, and nothing depends on it.

use super::state::{DriveError, State};
use super::triggers::{origin, settle, wish};
use crate::ctx::{Announced, Ctx};
use crate::render;
use crate::requests::Wish;
use rouse_model::BuildResult;
use rouse_model::build::Build;
use rouse_model::plan::Action;
use rouse_store::Page;
use rouse_store::reads::BuildFilter;
use std::time::Duration;

/// Of a builder's last so many builds is learned when and how often they come to a step.
const LEARNED_FROM: i64 = 20;

/// What is known of a step that starts builds, before it begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Foretold {
    /// Its place in the plan.
    index: usize,
    /// The half of the last builds had it begin so long after their match at most; `None` where none came so far.
    after: Option<Duration>,
    /// The share of the last builds that came so far; 1 where there were none.
    likely: f64,
}

/// Looks back, where anybody listens and there is something to say.
pub(super) async fn foretell(ctx: &Ctx, state: &State) -> Result<Vec<Foretold>, DriveError> {
    let steps = state.plan.steps.iter().enumerate().skip(state.steps.len());
    let ahead: Vec<_> = steps.filter(|(_, step)| matches!(step.action, Action::Trigger(_))).collect();
    if ahead.is_empty() || !ctx.coming.has_listeners() {
        return Ok(Vec::new());
    }
    let filter = BuildFilter { builder: Some(state.build.builder.clone()), ..BuildFilter::default() };
    let page = Page { before: Some(state.build.id.0), limit: LEARNED_FROM };
    let before = ctx.store.builds(&filter, page).await?;
    let mut begun = vec![Vec::new(); ahead.len()];
    let ended: Vec<&Build> = before.iter().filter(|build| build.finished.is_some()).collect();
    for build in &ended {
        let steps = ctx.store.steps(build.id).await?;
        for ((_, planned), begun) in ahead.iter().zip(&mut begun) {
            let came = |step: &&rouse_model::build::Step| {
                step.name == planned.name && step.result != Some(BuildResult::Skipped)
            };
            begun.extend(steps.iter().find(came).map(|step| step.started.since(build.matched)));
        }
    }
    let foretold = ahead.iter().zip(begun).map(|((index, _), begun)| of(*index, begun, ended.len()));
    Ok(foretold.collect())
}

fn of(index: usize, mut begun: Vec<Duration>, ended: usize) -> Foretold {
    begun.sort_unstable();
    let likely = if ended == 0 { 1.0 } else { begun.len() as f64 / ended as f64 };
    Foretold { index, after: begun.get(begun.len() / 2).copied(), likely }
}

/// Says what is still to come of a build, as things stand; what cannot be told yet, as its properties are not known, is not said.
pub(super) async fn say(ctx: &Ctx, state: &State) -> Result<(), DriveError> {
    if state.foretold.is_empty() {
        return Ok(());
    }
    let mut all = Vec::new();
    let stops = state.build.cancel.is_some();
    for foretold in state.foretold.iter().filter(|step| step.index >= state.steps.len() && !stops) {
        let planned = &state.plan.steps[foretold.index];
        let Action::Trigger(trigger) = &planned.action else { continue };
        let condition = planned.condition.as_deref().map(|text| render::condition(text, &state.scope));
        let holds = condition.is_none_or(|holds| holds.unwrap_or(false));
        let Some(sets) = settle(state, trigger).ok().filter(|_| holds) else { continue };
        let wish = wish(ctx, state, foretold.index, trigger).await?;
        let due = foretold.after.map(|after| state.build.matched + after);
        for (n, properties) in sets.into_iter().enumerate() {
            let origin = format!("{}{n}", origin(state.build.id, foretold.index));
            let wish = Wish { origin, properties, ..wish.clone() };
            all.push(Announced { wish, due, likely: foretold.likely });
        }
    }
    ctx.coming.say_of_build(state.build.id, all);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_foretold_by_the_builds_that_came_to_it() {
        let seconds = |all: &[u64]| all.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(of(1, seconds(&[]), 0), Foretold { index: 1, after: None, likely: 1.0 });
        assert_eq!(of(1, seconds(&[]), 4), Foretold { index: 1, after: None, likely: 0.0 });
        let half = Foretold { index: 2, after: Some(Duration::from_secs(20)), likely: 0.75 };
        assert_eq!(of(2, seconds(&[90, 10, 20]), 4), half);
    }
}
