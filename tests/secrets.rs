//! Secrets: they reach the step that may see them, and nothing else ever has their value.

mod sought;
mod vault;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::harness::{Bench, GitRepo, Options, Scratch, processes, wait};

const FILE_VALUE: &str = "s3cr3t/from+a=file";
const ENV_VALUE: &str = "tok-5f1e9a77c0";

const CONFIG: &str = r#"
pools:
  here: {local: {}, max: 3, accepts: any, reuse: {builds: 100, idle: 5m}}
builders:
  uses:
    env: {A: secret:from-file}
    steps:
      - {name: known, run: 'printf %s "$A" | sha256sum; printf %s "$B" | sha256sum', env: {B: secret:from-env}}
      - {name: shown, run: 'echo "$A"; echo "x${A}${A}y $B"; printf "%s" "$A" >&2; echo "$A" >&2', env: {B: secret:from-env}}
      - name: split
        run: |
          i=1
          while [ $i -lt ${#A} ]; do
            head=$(printf %s "$A" | cut -c1-$i); tail=$(printf %s "$A" | cut -c$((i + 1))-)
            printf '%s' "$head"; sleep 0.02; printf '%s\n' "$tail"; i=$((i + 1))
          done
          i=1
          while [ $i -le ${#A} ]; do printf '%s' "$(printf %s "$A" | cut -c$i)"; sleep 0.01; i=$((i + 1)); done
          echo
      - {name: terminal, run: 'echo "$A"', tty: true}
      # Far more than a row of the database takes.
      - {name: much, run: 'i=0; while [ $i -lt 3000 ]; do echo "$i $A $A $A"; i=$((i + 1)); done'}
      - {name: property, properties: {output: 'printf %s "$A"', as: from_output}}
      - {name: write, run: 'printf "{\"from_file\": \"<%s>\", \"more\": [\"%s\"]}" "$A" "$A" > p.json'}
      - {name: read, properties: {from: p.json}}
      - {name: repeat, run: 'echo "{{ props.from_output }} {{ props.from_file }}"'}
      - {name: fails, run: 'exec "$A"'}
  lists:
    steps:
      - {name: env, run: 'env | sort'}
  missing:
    steps:
      - {name: never, run: 'true', env: {A: secret:nowhere}}
"#;

fn secret_file(folder: &Path, name: &str, value: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, value).expect("a file can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
    path.display().to_string()
}

fn config(folder: &Path, more: &str) -> String {
    let file = secret_file(folder, "key", &format!("{FILE_VALUE}\n"));
    format!(
        "secrets:\n  from-file: {{file: {file}}}\n  from-env: {{env: TEST_TOKEN}}\n  nowhere: {{file: {}/none}}\n{more}",
        folder.display()
    )
}

fn options() -> Options {
    Options { environment: vec![("TEST_TOKEN".into(), ENV_VALUE.into())], ..Options::default() }
}

/// Every file below the folder that has one of the values in it.
fn files_with_a_value(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with_a_value(&path));
        } else if has_a_value(&std::fs::read(&path).unwrap_or_default()) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn has_a_value(bytes: &[u8]) -> bool {
    [FILE_VALUE, ENV_VALUE].iter().any(|value| bytes.windows(value.len()).any(|w| w == value.as_bytes()))
}

fn sum(value: &str) -> String {
    format!("{}  -\n", hex::encode(Sha256::digest(value)))
}

#[test]
fn a_value_reaches_its_step_and_is_found_nowhere_else() {
    let scratch = Scratch::new();
    let config = config(scratch.path(), CONFIG);
    let bench = Bench::within(scratch, &config, options());
    // Command lines are seen by everybody on a machine.
    let done = Arc::new(AtomicBool::new(false));
    let watched = done.clone();
    let watcher = std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !watched.load(Ordering::Relaxed) {
            let all = processes::all().filter(|p| has_a_value(p.command.as_bytes()));
            seen.extend(all.map(|p| p.command));
        }
        seen
    });
    let build = bench.run("uses");
    done.store(true, Ordering::Relaxed);
    // `exec` of the value itself never comes to be a process.
    assert_eq!(watcher.join().unwrap(), BTreeSet::new());

    build.must_be("failure");
    assert_eq!(build.text("known"), format!("{}{}", sum(FILE_VALUE), sum(ENV_VALUE)));
    let (a, b) = ("*".repeat(FILE_VALUE.len()), "*".repeat(ENV_VALUE.len()));
    let lines = bench.api.get(&format!("/logs/{}/lines", build.log_of("shown")));
    let texts = |channel: &str| -> Vec<String> {
        let lines = lines["lines"].as_array().unwrap().iter().filter(|line| line["channel"] == channel);
        lines.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts("out"), [a.clone(), format!("x{a}{a}y {b}")]);
    assert_eq!(texts("err"), [format!("{a}{a}")]);
    assert_eq!(build.text("split"), format!("{a}\n").repeat(FILE_VALUE.len()));
    assert_eq!(build.text("terminal"), format!("{a}\r\n"));
    let much: String = (0..3000).map(|i| format!("{i} {a} {a} {a}\n")).collect();
    assert!(build.text("much") == much, "3000 lines are not masked throughout");
    assert_eq!(build.property("from_output"), a.as_str());
    assert_eq!(build.property("from_file"), format!("<{a}>").as_str());
    assert_eq!(*build.property("more"), json!([a]));
    assert_eq!(build.text("repeat"), format!("{a} <{a}>\n"));
    assert!(build.end_of("fails").1.contains(&a), "{:#}", build.detail);

    let mut answers = build.detail.to_string();
    for path in
        ["/events/list", "/config", "/requests", "/requests/1/explain", "/builders", "/workers", "/master"]
    {
        answers += &bench.api.get(path).to_string();
    }
    for step in build.steps().iter().filter(|step| step["logs"][0].is_object()) {
        answers += &bench.api.get(&format!("/logs/{}/lines", step["logs"][0]["id"])).to_string();
    }
    answers += &bench.cli(&["explain", "request", "1"]);
    answers += &bench.cli(&["build", "show", &build.id().to_string(), "-o", "json"]);
    answers += &bench.cli(&["logs", &build.id().to_string()]);
    assert!(!has_a_value(answers.as_bytes()), "an answer has the value");
    // The database with its write-ahead log, objects, and what the master itself has said; the agent's own folder is the build's affair.
    let state = bench.master.state();
    // A file of properties goes once it is read.
    wait::until_true("no file to have it", wait::SOON, || {
        files_with_a_value(&state).iter().all(|path| path.contains("/build/"))
    });
    assert!(!has_a_value(bench.master.log().as_bytes()));

    let lists = bench.run("lists");
    assert!(!has_a_value(lists.text("env").as_bytes()) && !lists.text("env").contains("***"));
    let missing = bench.run("missing");
    missing.must_be("exception");
    assert_eq!(missing.step("never")["class"], "auth", "{:#}", missing.detail);
    assert!(missing.end_of("never").1.contains("secret `nowhere`"), "{:#}", missing.detail);
}

#[test]
fn a_secret_is_refused_to_builders_projects_and_builds_that_it_is_not_for() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    repo.branch("stranger");
    repo.push("stranger");
    let folder = scratch.path().to_owned();
    let key = secret_file(&folder, "bound", FILE_VALUE);
    let base = format!(
        "secrets:\n  bound: {{file: {key}, builders: [package]}}\n  shops: {{file: {key}, projects: [shop]}}\nprojects: {{shop: {{}}}}\n\
         codebases:\n  app: {{git: '{}', branches: main}}\npools:\n  here: {{local: {{}}, accepts: any}}\nbuilders:\n",
        repo.url()
    );
    let builder = |name: &str, project: &str, secret: &str| {
        format!(
            "  {name}:\n    project: {project}\n    steps:\n      - checkout: app\n      - {{name: use, run: 'printf %s \"$A\" | sha256sum', \
             env: {{A: secret:{secret}}}}}\n"
        )
    };
    let good = builder("package", "default", "bound") + &builder("sell", "shop", "shops");
    let bad = format!(
        "{base}{good}{}{}",
        builder("other", "default", "bound"),
        builder("elsewhere", "default", "shops")
    );
    let bench = Bench::within(scratch, &format!("{base}{good}"), Options::default());
    let file = folder.join("bad.yaml");
    std::fs::write(&file, format!("version: 1\n{bad}")).unwrap();
    let refused = bench.master.cli(&["config", "check", file.to_str().unwrap()]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(!refused.status.success());
    for words in
        ["secret `bound` does not reach", "secret `shops` does not reach", "other", "elsewhere", "C027"]
    {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }

    for name in ["package", "sell"] {
        let build = bench.run(name);
        build.must_be("success");
        assert_eq!(build.text("use"), sum(FILE_VALUE));
    }
    // A branch that nobody declared: whoever pushed it may not have the key.
    let wish = json!({"sources": [{"codebase": "app", "branch": "stranger"}]});
    let untrusted = bench.ended(bench.start_with("package", &wish));
    untrusted.must_be("failure");
    assert_eq!(untrusted.detail["trust"], "untrusted");
    assert!(untrusted.end_of("use").1.contains("trusted builds only"), "{:#}", untrusted.detail);
    assert!(untrusted.step("use")["logs"].as_array().unwrap().is_empty(), "it never ran");
}

#[test]
fn a_secret_that_vanishes_while_the_master_is_away_ends_its_step() {
    let scratch = Scratch::new();
    let pid = scratch.file("pid", "");
    std::fs::set_permissions(&pid, std::fs::Permissions::from_mode(0o666)).unwrap();
    let builder = format!(
        "pools: {{here: {{local: {{}}}}}}\nbuilders:\n  long:\n    steps:\n      - name: wait\n        env: {{A: secret:from-file}}\n        \
         run: 'echo $$ > {}; while :; do echo \"$A\"; sleep 0.2; done'\n      - {{name: clean, run: 'echo cleaned', always: true}}\n",
        pid.display()
    );
    let config = config(scratch.path(), &builder);
    let mut bench = Bench::within(scratch, &config, options());
    let request = bench.start("long");
    let process = wait::until("the step to run", wait::A_BUILD, || {
        std::fs::read_to_string(&pid).ok()?.trim().parse::<i32>().ok()
    });
    bench.master.kill9();
    std::fs::remove_file(bench.scratch.path().join("key")).unwrap();
    bench.master.run();
    let build = bench.ended(request);
    build.must_be("exception");
    assert_eq!(build.step("wait")["class"], "auth", "{:#}", build.detail);
    let said = build.end_of("wait").1;
    assert!(said.contains("secret `from-file`") && said.contains("cannot be taken up again"), "{said}");
    assert_eq!(build.end_of("clean").0, "success");
    assert!(!has_a_value(&build.bytes("wait")));
    wait::until_true("the step's process to end", wait::SOON, || !processes::is_alive(process));
}
