//! What good configurations become.

use super::{check, good};
use crate::config::leaf::seconds;
use crate::config::{Code, Config, Idle, Missed, SourceFile, Trigger, When, parse};
use rouse_model::plan::{Action, CheckoutBy, CheckoutMode, OnLost, Program};
use rouse_model::{BuildResult, Trust};

pub(super) const SMALLEST: &str = r"version: 1
codebases:
  app: {git: https://git.example.org/shop/app.git}
pools:
  containers: {docker: {image: debian:12}}
builders:
  unit:
    steps:
      - checkout: app
      - run: make test
schedulers:
  push: {changes: {app: {branch: main}}, builders: [unit]}
";

#[test]
fn the_smallest_that_works() {
    let loaded = good(SMALLEST);
    assert!(loaded.warnings.list.is_empty(), "{}", loaded.warnings);
    let Config { projects, codebases, providers, pools, builders, schedulers, .. } = loaded.config;
    assert_eq!(projects["default"].share, 1);
    assert_eq!(codebases["app"].poll, Some(seconds(60)));
    assert!(codebases["app"].watches("any/branch") && !codebases["app"].watches("refs/tags/v1"));
    assert!(providers["docker"].implied);
    let pool = &pools["containers"];
    assert_eq!(
        (pool.kind.as_str(), pool.bounds.min, pool.bounds.max, pool.slots, pool.accepts),
        ("docker", 0, 4, 1, Trust::Trusted)
    );
    assert_eq!((pool.on[0].as_str(), pool.reuse.builds, pool.reuse.idle), ("docker", 1, Idle::Auto));
    assert_eq!(pool.options, serde_json::json!({"image": "debian:12"}));
    let unit = &builders["unit"];
    assert_eq!((unit.project.as_str(), unit.pools.len(), unit.codebases[0].as_str()), ("default", 0, "app"));
    let names: Vec<_> = unit.plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["checkout", "make test"]);
    assert_eq!(unit.plan.steps[1].silence_s, Some(1200));
    let push = &schedulers["push"];
    assert_eq!(push.project, "default");
    let Trigger::Changes(changes) = &push.trigger else { panic!("{:?}", push.trigger) };
    let filter = &changes.codebases["app"];
    assert!(
        filter.takes_branch("main")
            && !filter.takes_branch("other")
            && !filter.takes_branch("refs/tags/main")
    );
    assert!(filter.takes_paths(["any"]) && filter.wake);
}

#[test]
fn like_takes_what_is_not_said() {
    let config = good(
        r"version: 1
secrets: {key: {env: KEY}}
codebases: {app: {git: /srv/app}}
pools: {a: {local: {}}, b: {local: {}}}
builders:
  base:
    template: true
    on_lost: fail
    retries: 1
    pool: [a]
    env: {LANG: C, N: 1.10, KEY: secret:key}
    properties: {os: debian, level: 1}
    steps: [{run: make}]
  middle: {like: base, template: true, env: {LANG: D}, timeout: 1h}
  leaf: {like: middle, pool: b, properties: {level: 2}}
",
    )
    .config;
    assert_eq!(config.builders.len(), 1);
    let leaf = &config.builders["leaf"];
    let plan = &leaf.plan;
    assert_eq!((plan.on_lost, plan.retries, plan.timeout_s), (OnLost::Fail, 1, Some(3600)));
    assert!(leaf.pools.len() == 1 && leaf.pools[0] == "b");
    // As it was written, never as the number that YAML makes of it.
    assert_eq!((plan.env["LANG"].as_str(), plan.env["N"].as_str()), ("D", "1.10"));
    assert_eq!((plan.env["KEY"].as_str(), leaf.secrets[0].as_str()), ("secret:key", "key"));
    assert_eq!((&leaf.properties["os"], &leaf.properties["level"]), (&"debian".into(), &2.into()));
    assert_eq!(plan.steps.len(), 1);
}

#[test]
fn steps_become_a_plan() {
    let config = good(
        r#"version: 1
codebases: {app: {git: /srv/app}, lib: {git: /srv/lib}}
pools: {a: {local: {}}}
builders:
  unit:
    steps:
      - checkout: {app: {mode: shallow}, lib: {dir: third/lib, branch: "{{ branch }}", mode: incremental, by: master}}
      - run: |
          # the first line that does something names the step
          set -x
          make -j{{ worker.cpus }} test
        exit: {77: skipped, 2: warnings}
        shell: [/bin/bash, -e]
        tty: true
        silence: never
        timeout: 90s
        warnings: "warning:"
        if: changed("src/**")
      - run: [make, "{{ branch }}"]
        halt_on_failure: false
        always: true
        repeatable: false
        dir: app
      - run: [make, "{{ branch }}"]
      - properties: {from: app/build.json}
      - properties: {output: git describe, as: version}
      - upload: {paths: "dist/*", as: debs}
      - download: {artifact: debs, from: parent, to: in}
"#,
    )
    .config;
    let steps = &config.builders["unit"].plan.steps;
    let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "checkout app, lib",
            "make -j{{ worker.cpus }} test",
            "make {{ branch }}",
            "make {{ branch }} 2",
            "properties",
            "properties 2",
            "upload debs",
            "download debs"
        ]
    );
    let Action::Checkout { trees } = &steps[0].action else { panic!("{:?}", steps[0]) };
    assert_eq!(
        (trees[0].dir.as_deref(), trees[0].depth, trees[0].mode),
        (Some("app"), Some(1), CheckoutMode::Full)
    );
    assert_eq!((trees[1].dir.as_deref(), trees[1].by), (Some("third/lib"), CheckoutBy::Master));
    let Action::Run(run) = &steps[1].action else { panic!("{:?}", steps[1]) };
    let Program::Script { interpreter, text } = &run.program else { panic!("{run:?}") };
    assert!(interpreter == &["/bin/bash", "-e"] && text.ends_with("test\n") && run.tty);
    assert_eq!((steps[1].timeout_s, steps[1].silence_s), (Some(90), None));
    assert_eq!(steps[1].rules.exit, [(2, BuildResult::Warnings), (77, BuildResult::Skipped)].into());
    assert!(steps[2].rules.always_run && !steps[2].rules.halt_on_failure && !steps[2].repeatable);
    assert!(steps[3].rules.halt_on_failure && steps[3].repeatable);
    assert!(
        matches!(&steps[5].action, Action::PropertiesFromOutput { property: Some(p), .. } if p == "version")
    );
    // A plan is stored, and read again by whoever resumes the build.
    let plan = &config.builders["unit"].plan;
    let text = serde_json::to_string(plan).expect("json");
    assert_eq!(&serde_json::from_str::<rouse_model::plan::Plan>(&text).expect("a plan"), plan);
}

#[test]
fn schedulers_have_triggers() {
    let config = good(
        r#"version: 1
codebases:
  app: {git: /srv/app, branches: ["release/*", main, dev], tags: "v*", poll: never}
  lib: {git: /srv/lib}
pools: {a: {local: {}}}
builders: {unit: {steps: [{checkout: {app: {}, lib: {}}}]}}
schedulers:
  push: {changes: {app: {branch: [main, "release/*"], paths: ["src/**", "!src/doc/**"]}, lib: {wake: false}}, message: "!*[skip ci]*", settle: 30s, builders: unit}
  tags: {changes: {app: {tags: "v*"}}, builders: unit}
  hourly: {every: 1h, only_if_changed: true, builders: unit, codebases: {app: {branch: dev}}}
  nightly: {cron: "0 3 * * mon-fri", timezone: Europe/Paris, missed: once, only_if_changed: {since: last-success}, builders: unit}
  then: {after: {push: any, tags: success}, builders: unit, priority: -5}
  also: {after: push, builders: unit}
  by-hand: {force: {parameters: {version: {string: {required: true}}, sign: {bool: {}}}}, builders: unit, properties: {a: [1, {b: c}]}}
"#,
    )
    .config;
    let trigger = |name: &str| &config.schedulers[name].trigger;
    let Trigger::Changes(push) = trigger("push") else { panic!() };
    assert_eq!(push.settle, seconds(30));
    assert!(push.message.as_ref().is_some_and(|m| !m.matches("x [skip ci]")));
    assert!(
        push.codebases["app"].takes_paths(["README", "src/a.rs"])
            && !push.codebases["app"].takes_paths(["src/doc/a"])
    );
    assert!(push.codebases["app"].takes_paths([]), "what a change touches is not always known");
    assert!(!push.codebases["lib"].wake && push.codebases["lib"].takes_branch("any/thing"));
    let Trigger::Changes(tags) = trigger("tags") else { panic!() };
    assert!(
        tags.codebases["app"].takes_branch("refs/tags/v1") && !tags.codebases["app"].takes_branch("main")
    );
    let hourly = &config.schedulers["hourly"];
    assert_eq!(hourly.codebases["app"].as_deref(), Some("dev"));
    assert_eq!(hourly.codebases["lib"], None);
    assert_eq!(config.schedulers["nightly"].codebases["app"].as_deref(), Some("main"));
    let Trigger::Cron(nightly) = trigger("nightly") else { panic!() };
    assert_eq!((nightly.missed, nightly.zone.to_string().as_str()), (Missed::Once, "Europe/Paris"));
    let Trigger::After(then) = trigger("then") else { panic!() };
    assert_eq!((then.upstream["push"], then.upstream["tags"]), (When::Any, When::Success));
    assert_eq!((config.schedulers["then"].priority, config.schedulers["then"].codebases.len()), (-5, 0));
    let Trigger::Force(force) = trigger("by-hand") else { panic!() };
    assert_eq!(force.parameters.keys().map(|key| key.as_str()).collect::<Vec<_>>(), ["version", "sign"]);
}

#[test]
fn further_files_add() {
    let main = SourceFile::new("rouse.yaml", SMALLEST);
    let more = SourceFile::new(
        "rouse.d/more.yaml",
        "version: 1\nprojects: {shop: {share: 2}}\nbuilders: {docs: {project: shop, steps: [{run: make docs}]}}\n",
    );
    let loaded = parse(&[main.clone(), more.clone()], &super::kinds::all()).expect("good");
    assert_eq!(loaded.config.builders.len(), 2);
    assert_eq!(loaded.config.projects["shop"].share, 2);
    assert_ne!(loaded.hash, parse(&[main], &super::kinds::all()).expect("good").hash);
    // What is stored of a revision gives the same again.
    let stored = serde_json::to_string(&loaded.sources).expect("json");
    let sources: Vec<SourceFile> = serde_json::from_str(&stored).expect("sources");
    let again = parse(&sources, &super::kinds::all()).expect("good");
    assert_eq!((again.config, again.hash), (loaded.config, loaded.hash));
}

#[test]
fn aliases_repeat_and_bombs_do_not_go_off() {
    let config = good("version: 1\npools:\n  a: &pool {local: {}, max: 2}\n  b: *pool\n").config;
    assert_eq!(config.pools["b"].bounds.max, 2);
    let mut bomb = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let item = format!("*a{}", i - 1);
        bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![item; 10].join(", ")));
    }
    let faults = check(&bomb).expect_err("too large");
    assert_eq!(faults.list[0].code, Code::TooLarge);
    let heavy =
        format!("version: 1\na: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 100_000].join(", "));
    assert_eq!(check(&heavy).expect_err("too large").list[0].code, Code::TooLarge);
    let mut chain = format!("version: 1\na0: &a0 {}{}\n", "[".repeat(40), "]".repeat(40));
    for i in 1..5000 {
        chain.push_str(&format!("a{i}: &a{i} {}*a{}{}\n", "[".repeat(10), i - 1, "]".repeat(10)));
    }
    assert_eq!(check(&chain).expect_err("too deep").list[0].code, Code::TooLarge);
    for depth in [100, 500, 100_000] {
        let deep = format!("version: 1\nx: {}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&deep).expect_err("too deep").list[0].code, Code::TooLarge, "{depth}");
    }
}

#[test]
fn one_entry_with_a_matrix_is_several_builders() {
    let config = good(
        r#"version: 1
secrets: {key: {env: KEY, builders: [unit]}}
pools: {a: {local: {}}}
builders:
  base: {template: true, matrix: {cc: [gcc12, gcc13], bits: [32, 64]}}
  unit: {like: base, env: {CC: "{{ matrix.cc }}", KEY: "secret:key"}, steps: [{run: "true"}]}
  plain: {steps: [{run: "true"}]}
schedulers: {often: {every: 1h, builders: [unit, plain]}}
"#,
    )
    .config;
    let names: Vec<&str> = config.builders.keys().map(|name| name.as_str()).collect();
    let of_unit = ["unit (gcc12, 32)", "unit (gcc12, 64)", "unit (gcc13, 32)", "unit (gcc13, 64)"];
    assert_eq!(names, [&of_unit[..], &["plain"]].concat());
    assert_eq!(config.of_matrix("unit"), of_unit);
    assert!(config.of_matrix("plain").is_empty());
    let last = &config.builders["unit (gcc13, 64)"];
    assert_eq!(serde_json::to_value(&last.matrix).unwrap(), serde_json::json!({"cc": "gcc13", "bits": 64}));
    let scheduled: Vec<&str> = config.schedulers["often"].builders.iter().map(|name| name.as_str()).collect();
    assert_eq!(scheduled, names);
    assert!(config.secrets["key"].reach.covers("default", Some("unit (gcc13, 64)")));
    assert!(!config.secrets["key"].reach.covers("default", Some("plain")));
}

#[test]
fn a_trigger_is_a_buildset_for_each_combination_of_all_builders_that_it_means() {
    let config = good(
        r#"version: 1
pools: {here: {local: {}, max: 3}, more: {local: {}, max: 2, waiting: 7}}
builders:
  unit: {matrix: {cc: [gcc12, gcc13]}, steps: [{run: "true"}]}
  plain: {steps: [{run: "true"}]}
  first:
    steps:
      - trigger: plain
      - trigger: {builders: [unit, plain], each: {a: [1, x], b: [true, false]}, properties: {of: "{{ branch }}"}, wait: false}
"#,
    )
    .config;
    let triggers: Vec<_> = (config.builders["first"].plan.steps.iter())
        .map(|step| match &step.action {
            Action::Trigger(trigger) => (step.name.as_str(), trigger),
            other => panic!("{other:?}"),
        })
        .collect();
    let (name, plain) = triggers[0];
    assert_eq!(
        (name, plain.builders.as_slice(), plain.wait),
        ("trigger plain", &["plain".to_owned()][..], true)
    );
    assert_eq!(plain.sets, [std::collections::BTreeMap::new()]);
    let (name, several) = triggers[1];
    assert_eq!((name, several.wait), ("trigger unit, plain", false));
    assert_eq!(several.builders, ["unit (gcc12)", "unit (gcc13)", "plain"]);
    let sets = serde_json::to_value(&several.sets).unwrap();
    let set = |a: serde_json::Value, b: bool| serde_json::json!({"a": a, "b": b, "of": "{{ branch }}"});
    let all = [set(1.into(), true), set(1.into(), false), set("x".into(), true), set("x".into(), false)];
    assert_eq!(sets, serde_json::json!(all));
    assert_eq!((config.pools["here"].beside_max(), config.pools["more"].beside_max()), (3, 7));
}
