//! Steps that a build prints: they run after the step that printed them, through `kill -9` of the master, and may name less than the configuration.

use serde_json::{Value, json};

use super::POOL;
use crate::harness::builds::{run, start};
use crate::harness::{Database, Master, Options, Scratch, wait};

fn names(steps: &Value, name: &str) -> Vec<String> {
    let steps = steps.as_array().expect("a list");
    steps.iter().map(|step| step[name].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn one_script_becomes_many_steps() {
    let scratch = Scratch::new();
    let out = scratch.folder("out");
    std::fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("it is ours");
    let plan = json!([
        {"run": "echo one >> $OUT/ran\n"},
        {"name": "waits", "run": ["sh", "-c", "until [ -e $OUT/go ]; do sleep 0.1; done; echo {{ builder.name }} >> $OUT/ran"]},
        {"name": "red", "run": "exit 3", "halt_on_failure": false, "env": {"A": "b"}},
        {"name": "last", "run": "echo two >> $OUT/ran"},
        {"run": "exit 77", "exit": {"77": "skipped"}},
    ]);
    let plan = scratch.file("plan.json", &format!("{plan:#}"));
    let config = format!(
        "version: 1\n{POOL}builders:\n  many:\n    env: {{OUT: {}}}\n    steps:\n      - {{name: plan, steps_from: [cat, {}]}}\n      \
         - {{name: last, run: \"echo three >> $OUT/ran\"}}\n  \
         any: {{steps: [{{steps_from: \"printf %s {{{{ props.text }}}}\"}}, {{run: 'true'}}]}}\n",
        out.display(),
        plan.display()
    );
    let mut master =
        Master::start(scratch.path(), &config, Options { database: Database::File, ..Options::default() });
    let request = start(&master.api(), "many", json!({}));
    let ran = || std::fs::read_to_string(out.join("ran")).unwrap_or_default();
    wait::until_true("the first printed step to run", wait::A_BUILD, || ran() == "one\n");
    master.kill9();
    master.run();
    std::fs::write(out.join("go"), "").expect("a file can be written");
    let api = master.api();
    let ended = api.until_built(request);
    assert_eq!(ended["result"], "failure", "{ended:#}");
    assert_eq!(
        names(&ended["steps"], "name"),
        ["plan", "echo one >> $OUT/ran", "waits", "red", "last 2", "exit 77", "last"]
    );
    assert_eq!(ended["planned"].as_array().map(Vec::len), Some(7));
    assert_eq!(
        names(&ended["steps"], "result"),
        ["success", "success", "success", "failure", "success", "skipped", "success"]
    );
    assert_eq!(
        (ended["steps"][0]["summary"].as_str(), ran().as_str()),
        (Some("5 steps"), "one\nmany\ntwo\nthree\n")
    );

    for (text, said) in [
        ("[{\"rum\": 1}]", "unknown key `rum` in step 1"),
        ("[{\"checkout\": \"app\"}]", "step 1: `checkout` is for the configuration alone"),
        ("no", "its output is not JSON"),
    ] {
        let ended = run(&api, "any", json!({"text": text}));
        let step = &ended["steps"][0];
        let summary = step["summary"].as_str().unwrap_or_default();
        assert!(ended["result"] == "failure" && summary.contains(said), "{text}: {ended:#}");
        assert_eq!(names(&ended["steps"], "result"), ["failure", "skipped"]);
    }
    let ended = run(&api, "any", json!({"text": "[]"}));
    assert_eq!((&ended["result"], &ended["steps"][0]["summary"]), (&json!("success"), &json!("0 steps")));
}
