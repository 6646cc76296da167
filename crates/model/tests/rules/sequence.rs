//! Which step is next, against Buildbot's own rules written down once more in Buildbot's own words.

use proptest::prelude::*;
use rouse_model::BuildResult::{self, Cancelled, Exception, Failure, Retry, Skipped, Success, Warnings};
use rouse_model::plan::{Action, Plan, PlannedStep, Program, Recorded, Rules, Run};
use rouse_model::sequence::{Next, next};

fn step(n: usize, rules: Rules) -> PlannedStep {
    let program = Program::Argv(vec!["true".into()]);
    PlannedStep {
        name: format!("step {n}"),
        action: Action::Run(Run { program, tty: false, warning_pattern: None, logs: vec![] }),
        env: Default::default(),
        dir: None,
        condition: None,
        timeout_s: None,
        silence_s: None,
        rules,
        repeatable: true,
    }
}

fn plan(rules: &[Rules]) -> Plan {
    let steps = rules.iter().enumerate().map(|(n, rules)| step(n, rules.clone())).collect();
    Plan { steps, ..Plan::default() }
}

fn rules() -> impl Strategy<Value = Rules> {
    any::<[bool; 6]>().prop_map(|[halt, flunk, flunk_warn, warn, warn_warn, always]| Rules {
        halt_on_failure: halt,
        flunk_on_failure: flunk,
        flunk_on_warnings: flunk_warn,
        warn_on_failure: warn,
        warn_on_warnings: warn_warn,
        always_run: always,
        exit: Default::default(),
    })
}

fn result() -> impl Strategy<Value = BuildResult> {
    prop_oneof![
        6 => Just(Success), 3 => Just(Warnings), 3 => Just(Failure), 2 => Just(Skipped),
        1 => Just(Exception), 1 => Just(Retry), 1 => Just(Cancelled),
    ]
}

/// Worst first.
const WORST: [BuildResult; 7] = [Cancelled, Retry, Exception, Failure, Warnings, Success, Skipped];

fn worst(a: BuildResult, b: BuildResult) -> BuildResult {
    WORST.into_iter().find(|r| *r == a || *r == b).expect("all are listed")
}

/// `computeResultAndTermination` of buildbot 4's process/results.
fn of_buildbot(rules: &Rules, result: BuildResult, previous: BuildResult) -> (BuildResult, bool) {
    let (mut possible, mut terminate) = (result, false);
    if result == Failure {
        if !rules.flunk_on_failure {
            possible = Success;
        }
        if rules.warn_on_failure {
            possible = Warnings;
        }
        if rules.flunk_on_failure {
            possible = Failure;
        }
        terminate = rules.halt_on_failure;
    } else if result == Warnings {
        possible = if rules.warn_on_warnings { Warnings } else { Success };
        if rules.flunk_on_warnings {
            possible = Failure;
        }
    } else if matches!(result, Exception | Retry | Cancelled) {
        terminate = true;
    }
    (worst(previous, possible), terminate)
}

/// A build from its first step to its end: which ran, and its result. It is stopped once so many steps have ended.
fn whole_build(
    rules: &[Rules],
    ends: &[BuildResult],
    stop: Option<(usize, BuildResult)>,
) -> (Vec<bool>, BuildResult) {
    let plan = plan(rules);
    let (mut recorded, mut ran) = (Vec::new(), Vec::new());
    loop {
        let stopping = stop.filter(|(at, _)| recorded.len() >= *at).map(|(_, result)| result);
        let (did, result) = match next(&plan, &recorded, stopping) {
            Next::Step(at) => {
                assert_eq!(at, recorded.len(), "steps come in order");
                (true, ends[at])
            }
            Next::Skip(at) => {
                assert_eq!(at, recorded.len(), "steps come in order");
                (false, Skipped)
            }
            Next::Done(result) => return (ran, result),
        };
        ran.push(did);
        recorded.push(Recorded { result, class: None });
    }
}

fn whole_build_of_buildbot(
    rules: &[Rules],
    ends: &[BuildResult],
    stop: Option<(usize, BuildResult)>,
) -> (Vec<bool>, BuildResult) {
    let (mut result, mut terminate, mut ran) = (Success, false, Vec::new());
    for (at, (rules, end)) in rules.iter().zip(ends).enumerate() {
        if let Some((stopped, why)) = stop
            && at >= stopped
        {
            terminate = true;
            result = worst(result, why);
        }
        let runs = !terminate || rules.always_run;
        ran.push(runs);
        if runs {
            let (next, stops) = of_buildbot(rules, *end, result);
            result = next;
            terminate |= stops;
        }
    }
    if let Some((stopped, why)) = stop
        && stopped <= rules.len()
    {
        result = worst(result, why);
    }
    (ran, result)
}

fn build() -> impl Strategy<Value = (Vec<Rules>, Vec<BuildResult>)> {
    prop::collection::vec((rules(), result()), 0..8).prop_map(|steps| steps.into_iter().unzip())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_build_goes_as_buildbots_would((rules, ends) in build()) {
        prop_assert_eq!(whole_build(&rules, &ends, None), whole_build_of_buildbot(&rules, &ends, None));
    }

    #[test]
    fn a_stopped_build_goes_as_buildbots_would(
        (rules, ends) in build(),
        at in 0..9usize,
        why in prop::sample::select(vec![Cancelled, Failure, Exception, Retry]),
    ) {
        let stop = Some((at, why));
        let (ran, result) = whole_build(&rules, &ends, stop);
        prop_assert_eq!((ran.clone(), result), whole_build_of_buildbot(&rules, &ends, stop));
        for (n, ran) in ran.into_iter().enumerate().skip(at) {
            prop_assert_eq!(ran && !rules[n].always_run, false, "step {} ran after the stop", n);
        }
    }

    /// A restarted master has nothing but the rows: it comes to the same.
    #[test]
    fn it_depends_on_what_is_recorded_alone((rules, ends) in build(), at in 0..8usize) {
        let plan = plan(&rules);
        let recorded: Vec<Recorded> =
            ends.iter().take(at).map(|result| Recorded { result: *result, class: None }).collect();
        let body = plan.address().1;
        let read_again: Plan = serde_json::from_str(&body).expect("a plan is its own text");
        prop_assert_eq!(next(&plan, &recorded, None), next(&read_again, &recorded, None));
    }
}

/// Every single step under every single rule, in the table of Buildbot's manual.
#[test]
fn one_step_under_each_rule() {
    let none = Rules {
        halt_on_failure: false,
        flunk_on_failure: false,
        flunk_on_warnings: false,
        warn_on_failure: false,
        warn_on_warnings: false,
        always_run: false,
        exit: Default::default(),
    };
    let table = [
        // what ends            rules                                                        build, goes on
        (Failure, none.clone(), Success, true),
        (Failure, Rules { flunk_on_failure: true, ..none.clone() }, Failure, true),
        (Failure, Rules { warn_on_failure: true, ..none.clone() }, Warnings, true),
        (Failure, Rules { flunk_on_failure: true, warn_on_failure: true, ..none.clone() }, Failure, true),
        (Failure, Rules { halt_on_failure: true, ..none.clone() }, Success, false),
        (Failure, Rules { flunk_on_warnings: true, warn_on_warnings: true, ..none.clone() }, Success, true),
        (Warnings, none.clone(), Success, true),
        (Warnings, Rules { warn_on_warnings: true, ..none.clone() }, Warnings, true),
        (Warnings, Rules { flunk_on_warnings: true, ..none.clone() }, Failure, true),
        (Warnings, Rules { flunk_on_warnings: true, halt_on_failure: true, ..none.clone() }, Failure, true),
        (Warnings, Rules { flunk_on_failure: true, warn_on_failure: true, ..none.clone() }, Success, true),
        (Skipped, Rules { flunk_on_failure: true, ..none.clone() }, Success, true),
        (Success, none.clone(), Success, true),
        (Exception, none.clone(), Exception, false),
        (Retry, none.clone(), Retry, false),
        (Cancelled, none.clone(), Cancelled, false),
    ];
    for (end, rules, result, goes_on) in table {
        let plain = Rules { flunk_on_failure: true, ..none.clone() };
        let always = Rules { always_run: true, ..none.clone() };
        let (ran, got) = whole_build(&[rules.clone(), plain, always], &[end, Success, Success], None);
        assert_eq!((got, ran), (result, vec![true, goes_on, true]), "{end} under {rules:?}");
    }
}
