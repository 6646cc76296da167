//! Test reports: read as they are kept, with what failed since when; and reports that are none, or hostile.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::builds::run;
use crate::harness::story::id;
use crate::harness::{Database, Master, Options, Scratch};

/// A builder whose step writes the report that it is given, and keeps it.
fn config(scratch: &Scratch) -> String {
    let secret = scratch.file("token", "s3cr3t-w0rd");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    let secret = secret.display();
    format!(
        "version: 1\nsecrets: {{token: {{file: {secret}}}}}\npools: {{here: {{local: {{}}, max: 2, reuse: {{builds: 100, idle: 1h}}}}}}\n\
         builders:\n  unit:\n    env: {{TOKEN: secret:token, CASES: '{{{{ props.cases }}}}'}}\n    steps:\n      \
         - name: test\n        run: |\n          mkdir -p out && cd out\n          \
         printf '%s' \"<testsuite name='words'>$CASES</testsuite>\" | sed \"s/@TOKEN@/$TOKEN/\" > report.xml\n      \
         - {{upload: {{paths: 'out/*.xml', as: junit}}, always: true}}\n  \
         bomb:\n    steps:\n      - run: |\n          head -c 300000 /dev/zero | sed 's/\\x00/<testsuite>/g' > deep.xml\n          \
         head -c 18000000 /dev/zero > large.xml\n          \
         echo \"<testsuite><testcase name='a'/></testsuite>\" > good.xml\n      \
         - upload: {{paths: '*.xml', as: junit}}\n"
    )
}

fn build(master: &Master, cases: &str) -> (i64, Value) {
    let ended = run(&master.api(), "unit", json!({"cases": cases}));
    (id(&ended, "id"), ended)
}

fn results(tests: &Value) -> Vec<(String, String, Value)> {
    let all = tests["results"].as_array().expect("a list");
    let word = |result: &Value, name: &str| result[name].as_str().unwrap_or_default().to_owned();
    all.iter().map(|r| (word(r, "name"), word(r, "outcome"), r["since"].clone())).collect()
}

#[test]
fn what_tests_came_to_is_told_from_build_to_build() {
    let scratch = Scratch::new();
    let options = Options { database: Database::File, ..Options::default() };
    let mut master = Master::start(scratch.path(), &config(&scratch), options);
    let good = |name: &str| format!("<testcase name='{name}' time='0.5'/>");
    let bad =
        |name: &str| format!("<testcase name='{name}'><failure message='expected @TOKEN@'/></testcase>");

    let (first, ended) =
        build(&master, &format!("{}{}{}", good("a"), bad("b"), "<testcase name='c'><skipped/></testcase>"));
    assert_eq!(ended["result"], "success", "a report by itself judges nothing: {ended:#}");
    let tests = master.api().get(&format!("/builds/{first}/tests"));
    let report = &tests["reports"][0];
    assert_eq!(
        (&report["total"], &report["failed"], &report["skipped"], &report["seconds"]),
        (&json!(3), &json!(1), &json!(1), &json!(0.5)),
        "{tests:#}"
    );
    assert_eq!(
        results(&tests),
        [("b".into(), "failed".into(), json!(first)), ("c".into(), "skipped".into(), Value::Null)]
    );
    let message = tests["results"][0]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("expected *") && !message.contains("s3cr3t"), "{message}");
    let step = &master.api().get(&format!("/builds/{first}"))["steps"][1];
    assert_eq!(step["summary"], "3 tests, 1 failed, 1 skipped", "{step:#}");

    // What fails on goes on since then, what fails anew begins now, and a build without a report in between changes nothing.
    master.kill9();
    master.run();
    let (empty, _) = build(&master, "");
    assert_eq!(master.api().get(&format!("/builds/{empty}/tests"))["reports"], json!([]));
    let (second, _) = build(&master, &format!("{}{}", bad("a"), bad("b")));
    let tests = master.api().get(&format!("/builds/{second}/tests"));
    assert_eq!(
        results(&tests),
        [("a".into(), "failed".into(), json!(second)), ("b".into(), "failed".into(), json!(first))]
    );
    build(&master, &format!("{}{}", good("a"), good("b")));
    let (last, _) = build(&master, &bad("b"));
    assert_eq!(
        results(&master.api().get(&format!("/builds/{last}/tests"))),
        [("b".into(), "failed".into(), json!(last))]
    );

    let history = master.api().list("/builders/unit/tests?suite=words&test=b");
    let told: Vec<&str> = history.iter().filter_map(|run| run["outcome"].as_str()).collect();
    assert_eq!(told, ["failed", "passed", "failed", "failed"]);
    let said = master.cli(&["build", "tests", &second.to_string()]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains(&format!("words · b  since build {first}")) && said.contains("words · a  new"),
        "{said}"
    );
}

#[test]
fn what_is_no_report_gives_warnings_and_harms_nobody() {
    let scratch = Scratch::new();
    let master = Master::start(scratch.path(), &config(&scratch), Options::default());
    let (_, ended) = build(&master, "<testcase");
    assert_eq!(ended["result"], "warnings", "{ended:#}");
    let step = &master.api().get(&format!("/builds/{}", id(&ended, "id")))["steps"][1];
    let summary = step["summary"].as_str().unwrap_or_default();
    assert!(summary.starts_with("0 tests; not read: out/report.xml: line 1: "), "{summary}");

    let ended = run(&master.api(), "bomb", json!({}));
    let tests = master.api().get(&format!("/builds/{}/tests", id(&ended, "id")));
    assert_eq!(
        (&ended["result"], &tests["reports"][0]["total"]),
        (&json!("warnings"), &json!(1)),
        "{ended:#}"
    );
    let step = &master.api().get(&format!("/builds/{}", id(&ended, "id")))["steps"][1];
    let summary = step["summary"].as_str().unwrap_or_default();
    for part in
        ["1 test; not read: ", "deep.xml: line 1: more than 64 suites", "large.xml: it has more than 16 MiB"]
    {
        assert!(summary.contains(part), "{part}: {summary}");
    }
}
