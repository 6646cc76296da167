//! Which step is next, and what a build's result is. Replayed from the recorded results after any restart, so it must depend on nothing else.

use crate::BuildResult;
use crate::plan::{Plan, Recorded};

/// What to do after what was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Run the step at this index of the plan.
    Step(usize),
    /// Record the step at this index as skipped: an earlier step halted the build and this one is not `always`.
    Skip(usize),
    Done(BuildResult),
}

/// Steps are recorded in plan order, each exactly once; `recorded[i]` is the end of `plan.steps[i]`.
///
/// `stopping` is set once somebody cancelled the build or its time is up: only `always` steps run from then on, and the result is the given one.
#[must_use]
pub fn next(plan: &Plan, recorded: &[Recorded], stopping: Option<BuildResult>) -> Next {
    let so_far = summary(plan, recorded);
    let Some(step) = plan.steps.get(recorded.len()) else {
        return Next::Done(match stopping {
            Some(result) => result.worse(so_far.result),
            None => so_far.result,
        });
    };
    let halted = so_far.halted || stopping.is_some();
    if halted && !step.rules.always_run { Next::Skip(recorded.len()) } else { Next::Step(recorded.len()) }
}

/// What the build would be if it ended after what was recorded.
#[must_use]
pub fn so_far(plan: &Plan, recorded: &[Recorded]) -> BuildResult {
    summary(plan, recorded).result
}

struct Summary {
    result: BuildResult,
    halted: bool,
}

fn summary(plan: &Plan, recorded: &[Recorded]) -> Summary {
    let mut sum = Summary { result: BuildResult::Success, halted: false };
    for (step, end) in plan.steps.iter().zip(recorded) {
        let rules = &step.rules;
        let effect = match end.result {
            BuildResult::Success | BuildResult::Skipped => BuildResult::Success,
            BuildResult::Warnings if rules.flunk_on_warnings => BuildResult::Failure,
            BuildResult::Warnings if rules.warn_on_warnings => BuildResult::Warnings,
            BuildResult::Warnings => BuildResult::Success,
            BuildResult::Failure if rules.flunk_on_failure => BuildResult::Failure,
            BuildResult::Failure if rules.warn_on_failure => BuildResult::Warnings,
            BuildResult::Failure => BuildResult::Success,
            other @ (BuildResult::Exception | BuildResult::Retry | BuildResult::Cancelled) => other,
        };
        sum.result = sum.result.worse(effect);
        sum.halted |= match end.result {
            BuildResult::Failure => rules.halt_on_failure,
            BuildResult::Exception | BuildResult::Retry | BuildResult::Cancelled => true,
            BuildResult::Success | BuildResult::Warnings | BuildResult::Skipped => false,
        };
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, PlannedStep, Program, Rules, Run};

    fn step(name: &str, rules: Rules) -> PlannedStep {
        PlannedStep {
            name: name.into(),
            action: Action::Run(Run {
                program: Program::Argv(vec!["true".into()]),
                tty: false,
                warning_pattern: None,
                logs: vec![],
            }),
            env: Default::default(),
            dir: None,
            condition: None,
            timeout_s: None,
            silence_s: None,
            rules,
            repeatable: true,
        }
    }

    fn ends(results: &[BuildResult]) -> Vec<Recorded> {
        results.iter().map(|r| Recorded { result: *r, class: None }).collect()
    }

    fn run_all(plan: &Plan, results: &[BuildResult]) -> (Vec<bool>, BuildResult) {
        let (mut recorded, mut ran) = (Vec::new(), Vec::new());
        loop {
            match next(plan, &recorded, None) {
                Next::Step(i) => {
                    ran.push(true);
                    recorded.push(ends(&results[i..=i])[0]);
                }
                Next::Skip(_) => {
                    ran.push(false);
                    recorded.push(ends(&[BuildResult::Skipped])[0]);
                }
                Next::Done(result) => return (ran, result),
            }
        }
    }

    use BuildResult::{Cancelled, Exception, Failure, Retry, Success, Warnings};

    #[test]
    fn a_failure_halts_all_but_always_steps() {
        let plan = Plan {
            steps: vec![
                step("a", Rules::default()),
                step("b", Rules::default()),
                step("c", Rules { always_run: true, ..Rules::default() }),
            ],
            ..Plan::default()
        };
        assert_eq!(run_all(&plan, &[Failure, Success, Success]), (vec![true, false, true], Failure));
        assert_eq!(run_all(&plan, &[Success, Success, Failure]), (vec![true, true, true], Failure));
    }

    #[test]
    fn rules_decide_what_a_failure_means() {
        let lenient = Rules {
            halt_on_failure: false,
            flunk_on_failure: false,
            warn_on_failure: true,
            ..Rules::default()
        };
        let plan =
            Plan { steps: vec![step("lint", lenient), step("test", Rules::default())], ..Plan::default() };
        assert_eq!(run_all(&plan, &[Failure, Success]), (vec![true, true], Warnings));
        let strict = Rules { flunk_on_warnings: true, ..Rules::default() };
        let plan = Plan { steps: vec![step("lint", strict)], ..Plan::default() };
        assert_eq!(run_all(&plan, &[Warnings]), (vec![true], Failure));
    }

    #[test]
    fn infrastructure_always_halts() {
        let free = Rules { halt_on_failure: false, ..Rules::default() };
        for end in [Exception, Retry, Cancelled] {
            let plan =
                Plan { steps: vec![step("a", free.clone()), step("b", free.clone())], ..Plan::default() };
            assert_eq!(run_all(&plan, &[end, Success]), (vec![true, false], end));
        }
    }

    #[test]
    fn stopping_runs_always_steps_and_keeps_the_worse_result() {
        let always = Rules { always_run: true, ..Rules::default() };
        let plan = Plan { steps: vec![step("a", Rules::default()), step("b", always)], ..Plan::default() };
        assert_eq!(next(&plan, &[], Some(Cancelled)), Next::Skip(0));
        assert_eq!(next(&plan, &ends(&[BuildResult::Skipped]), Some(Cancelled)), Next::Step(1));
        assert_eq!(
            next(&plan, &ends(&[BuildResult::Skipped, Failure]), Some(Cancelled)),
            Next::Done(Cancelled)
        );
    }

    #[test]
    fn an_empty_plan_succeeds() {
        assert_eq!(next(&Plan::default(), &[], None), Next::Done(Success));
    }

    #[test]
    fn exit_codes_map() {
        let rules = Rules { exit: [(77, BuildResult::Skipped)].into(), ..Rules::default() };
        assert_eq!(rules.of_exit(77), BuildResult::Skipped);
        assert_eq!(rules.of_exit(0), Success);
        assert_eq!(rules.of_exit(1), Failure);
    }
}
