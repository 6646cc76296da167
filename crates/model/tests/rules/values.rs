//! Results, trust, properties and plans as values.

use proptest::prelude::*;
use rouse_model::plan::{
    Action, Checkout, CheckoutBy, CheckoutMode, FileLog, OnLost, Plan, PlannedStep, Program, Rules, Run,
    Submodules,
};
use rouse_model::property::{Properties, Property};
use rouse_model::source::SourceStamp;
use rouse_model::{BuildResult, BuildsetId, Trust};
use std::collections::BTreeMap;

fn results() -> impl Strategy<Value = BuildResult> {
    prop::sample::select(BuildResult::ALL.to_vec())
}

fn trusts() -> impl Strategy<Value = Trust> {
    prop::sample::select(vec![Trust::Trusted, Trust::Untrusted])
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn properties() -> impl Strategy<Value = Properties> {
    let property = (json(), any::<String>(), any::<bool>()).prop_map(|(value, source, tainted)| Property {
        value,
        source,
        tainted,
    });
    prop::collection::btree_map("[a-d]", property, 0..4).prop_map(Properties)
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(any::<String>(), any::<String>(), 0..3)
}

fn actions() -> impl Strategy<Value = Action> {
    let argv = || prop::collection::vec(any::<String>(), 1..4);
    prop_oneof![
        argv().prop_map(|argv| Action::Run(Run {
            program: Program::Argv(argv),
            tty: false,
            warning_pattern: None,
            logs: vec![],
        })),
        (argv(), any::<String>(), any::<bool>()).prop_map(|(interpreter, text, tty)| Action::Run(Run {
            program: Program::Script { interpreter, text },
            tty,
            warning_pattern: Some("warn".into()),
            logs: vec![FileLog { name: "tests".into(), path: "out/{{ branch }}.log".into() }],
        })),
        any::<Option<u32>>().prop_map(|depth| Action::Checkout {
            trees: vec![Checkout {
                codebase: "app".into(),
                dir: None,
                branch: None,
                mode: CheckoutMode::Incremental,
                depth,
                by: CheckoutBy::Master,
                submodules: Submodules::Own,
                folders: vec!["a/b".into()],
                merge: Some("main".into()),
                lfs: true,
            }],
        }),
        any::<String>().prop_map(|path| Action::PropertiesFromFile { path }),
        (argv(), any::<String>()).prop_map(|(paths, set)| Action::Upload { paths, set }),
    ]
}

fn plans() -> impl Strategy<Value = Plan> {
    let step = (actions(), texts(), any::<Option<String>>(), any::<Option<u64>>(), any::<[bool; 7]>())
        .prop_map(|(action, env, condition, timeout_s, flags)| PlannedStep {
            name: "test".into(),
            action,
            env,
            dir: condition.clone(),
            condition,
            timeout_s,
            silence_s: timeout_s,
            rules: Rules {
                halt_on_failure: flags[0],
                flunk_on_failure: flags[1],
                flunk_on_warnings: flags[2],
                warn_on_failure: flags[3],
                warn_on_warnings: flags[4],
                always_run: flags[5],
                exit: [(77, BuildResult::Skipped)].into(),
            },
            repeatable: flags[6],
        });
    (prop::collection::vec(step, 0..4), texts(), any::<Option<u64>>(), any::<bool>(), any::<u32>()).prop_map(
        |(steps, env, timeout_s, fail, retries)| Plan {
            steps,
            env,
            timeout_s,
            on_lost: if fail { OnLost::Fail } else { OnLost::Retry },
            retries,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// In whatever order and grouping results come in, the worst of them is one of them, and the same one.
    #[test]
    fn the_worst_of_several_is_one_of_them(mut all in prop::collection::vec(results(), 1..8)) {
        const WORST_FIRST: [BuildResult; 7] = [
            BuildResult::Cancelled, BuildResult::Retry, BuildResult::Exception, BuildResult::Failure,
            BuildResult::Warnings, BuildResult::Success, BuildResult::Skipped,
        ];
        let fold = |all: &[BuildResult]| all.iter().copied().reduce(BuildResult::worse).expect("not empty");
        let worst = fold(&all);
        prop_assert_eq!(Some(worst), WORST_FIRST.into_iter().find(|r| all.contains(r)));
        all.reverse();
        prop_assert_eq!(fold(&all), worst);
        let (left, right) = all.split_at(all.len() / 2);
        if !left.is_empty() {
            prop_assert_eq!(fold(left).worse(fold(right)), worst);
        }
        prop_assert_eq!(worst.worse(worst), worst);
    }

    #[test]
    fn one_untrusted_part_makes_the_whole_untrusted(all in prop::collection::vec(trusts(), 0..8)) {
        let least = Trust::least(all.iter().copied());
        prop_assert_eq!(least == Trust::Untrusted, all.contains(&Trust::Untrusted));
        let (stamps, parent) = all.split_at(all.len() / 2);
        let in_parts = Trust::least([Trust::least(stamps.to_vec()), Trust::least(parent.to_vec())]);
        prop_assert_eq!(in_parts, least);
    }

    /// Each keeps where it came from and whether an untrusted hand has set it, through the store's text too.
    #[test]
    fn properties_keep_source_and_taint(first in properties(), later in properties()) {
        let text = serde_json::to_string(&first).expect("JSON values have JSON text");
        prop_assert_eq!(&serde_json::from_str::<Properties>(&text).expect("its own text"), &first);
        let mut both = first.clone();
        both.extend(&later);
        for name in first.0.keys().chain(later.0.keys()) {
            let winner = later.get(name).or_else(|| first.get(name));
            prop_assert_eq!(both.get(name), winner, "later wins, whole");
        }
        prop_assert_eq!(both.0.len(), first.0.keys().chain(later.0.keys()).collect::<std::collections::BTreeSet<_>>().len());
        let mut again = both.clone();
        again.extend(&later);
        prop_assert_eq!(again, both);
    }

    /// One text, one address; and what is read from the text has the address that it was found under.
    #[test]
    fn a_plan_is_found_under_what_it_says(plan in plans(), other in plans()) {
        let (hash, body) = plan.address();
        prop_assert_eq!(hash.len(), 64);
        let read: Plan = serde_json::from_str(&body).expect("its own text");
        prop_assert_eq!(&read, &plan);
        prop_assert_eq!(read.address(), (hash.clone(), body));
        prop_assert_eq!(other.address().0 == hash, other == plan);
        let changed = Plan { retries: plan.retries.wrapping_add(1), ..plan };
        prop_assert_ne!(changed.address().0, hash);
    }
}

/// A parent's trust counts like a stamp's: `SourceStamp` carries it so.
#[test]
fn a_stamp_carries_its_trust_as_a_word() {
    let stamp = SourceStamp {
        buildset: BuildsetId(1),
        codebase: "app".into(),
        branch: None,
        revision: None,
        change_set: None,
        trust: Trust::Untrusted,
    };
    let text = serde_json::to_value(&stamp).unwrap();
    assert_eq!(text["trust"], Trust::Untrusted.as_str());
}

/// Written down: an address that moves without need makes every plan of an installation a new row, and this is where it would be seen.
#[test]
fn the_address_of_an_empty_plan_stays() {
    let (hash, body) = Plan::default().address();
    assert_eq!(body, r#"{"steps":[],"env":{},"timeout_s":null,"on_lost":"retry","retries":0}"#);
    assert_eq!(hash, "6e9b7f266887d70ffa2b2953488e026f84bc07a92e6b7122e7c08844fd6b6914");
}

/// A row of an older version lacks what came later.
#[test]
fn an_older_plan_is_read_with_what_was_usual_then() {
    let plan: Plan =
        serde_json::from_str(r#"{"steps":[{"name":"a","action":{"run":{"program":{"argv":["true"]}}}}]}"#)
            .unwrap();
    assert_eq!((plan.retries, plan.on_lost), (3, OnLost::Retry));
    assert!(plan.steps[0].repeatable);
    assert_eq!(plan.steps[0].rules, Rules::default());
}

/// Taint without a word of it is no taint: rows from before there was any.
#[test]
fn a_property_without_taint_is_clean() {
    let property: Property = serde_json::from_str(r#"{"value":1,"source":"x"}"#).unwrap();
    assert!(!property.tainted);
}

#[test]
fn some_steps_are_about_a_command() {
    let run =
        Run { program: Program::Argv(vec!["make".into()]), tty: false, warning_pattern: None, logs: vec![] };
    let about = [
        Action::Run(run.clone()),
        Action::StepsFrom { run: run.clone() },
        Action::PropertiesFromOutput { run: run.clone(), property: None },
    ];
    assert!(about.iter().all(|action| action.run() == Some(&run)));
    assert_eq!(Action::PropertiesFromFile { path: "a".into() }.run(), None);
}

#[test]
fn what_is_usual_is_not_written() {
    let text = |submodules| {
        let plain: Checkout = serde_json::from_str(r#"{"codebase": "app"}"#).unwrap();
        serde_json::to_value(Checkout { submodules, ..plain }).unwrap()["submodules"].clone()
    };
    assert_eq!((text(Submodules::None), text(Submodules::Own)), (serde_json::Value::Null, "own".into()));
}
