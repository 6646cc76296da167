//! Caches: what a build leaves is there for those that follow, by key and by project; strangers read it and leave nothing; what is too much, old or
//! broken costs no build anything.

use serde_json::{Value, json};

use crate::harness::{Bench, Build, Docker, GitRepo, Options, Scratch};

const RESTORE: &str = "restore cache tools";
const KEEP: &str = "keep cache tools";

/// Builders that print what they find in their cache, and write there what their property `write` says.
fn config(repo: &GitRepo) -> String {
    format!(
        "server: {{keep: {{caches: 90d}}}}\nprojects: {{other: {{}}}}\ncodebases: {{app: {{git: '{}', branches: main}}}}\n\
         pools:\n  here: {{local: {{}}, accepts: any}}\nbuilders:\n  base:\n    template: true\n    properties: {{write: '', key: one, size: 0, fails: false}}\n    \
         caches: {{tools: {{path: app/kept, key: '{{{{ props.key }}}}', max: 3 MiB}}}}\n    \
         steps:\n      - checkout: {{app: {{dir: app}}}}\n      - name: look\n        dir: app\n        run: |\n          ls kept 2>/dev/null | tr '\\n' ' '; cat kept/* 2>/dev/null | head -c 100 || true\n          \
         test -z \"$WRITE\" || {{ mkdir -p kept; echo \"$WRITE\" > kept/$WRITE; head -c \"$SIZE\" /dev/urandom > kept/noise; }}\n          ! $FAILS\n\
         \n    env: {{WRITE: '{{{{ props.write }}}}', SIZE: '{{{{ props.size }}}}', FAILS: '{{{{ props.fails }}}}'}}\n  \
         unit: {{like: base}}\n  docs:\n    like: base\n    caches: {{tools: {{path: app/kept, key: ['{{{{ props.key }}}}', one]}}}}\n  stranger: {{like: base, project: other}}\n",
        repo.url()
    )
}

struct Scene {
    bench: Bench,
}

impl Scene {
    fn run(&self, builder: &str, properties: Value) -> Build {
        self.bench.ended(self.bench.start_with(builder, &json!({"properties": properties})))
    }

    fn green(&self, builder: &str, properties: Value) -> Build {
        let build = self.run(builder, properties);
        build.must_be("success");
        build
    }

    fn listed(&self) -> Vec<Value> {
        self.bench.api.get("/caches")["items"].as_array().expect("a list").clone()
    }
}

fn ends(build: &Build, step: &str) -> (String, String) {
    let (result, summary) = build.end_of(step);
    (result.to_owned(), summary.to_owned())
}

#[test]
fn what_a_build_leaves_is_there_for_those_that_follow() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    repo.branch("fork");
    repo.land("fork", "a small fix", &[("file", "other\n")]);
    let config = config(&repo);
    let scene = Scene { bench: Bench::within(scratch, &config, Options::default()) };

    let first = scene.green("unit", json!({"write": "a"}));
    assert_eq!(ends(&first, RESTORE), ("success".into(), "nothing is kept yet, under `one`".into()));
    assert_eq!(first.end_of(KEEP).0, "success");
    let names: Vec<&str> = first.steps().iter().filter_map(|step| step["name"].as_str()).collect();
    assert_eq!(names, ["checkout", RESTORE, "look", KEEP]);
    let second = scene.green("unit", json!({}));
    assert!(second.text("look").starts_with("a noise a"), "{}", second.text("look"));
    assert_eq!(ends(&second, KEEP).1, "unchanged, under `one`");
    // Another builder of the project, with another key, goes by the one that it has beside that, and keeps its own.
    let docs = scene.green("docs", json!({"key": "two", "write": "b"}));
    assert!(docs.text("look").starts_with("a noise a"), "{}", docs.text("look"));
    assert!(docs.end_of(RESTORE).1.ends_with(", under `one`"), "{:?}", docs.end_of(RESTORE));
    let both = scene.green("unit", json!({"key": "two"}));
    assert!(both.text("look").starts_with("a b noise"), "{}", both.text("look"));
    // Of another project nothing is seen.
    let other = scene.green("stranger", json!({}));
    assert_eq!(other.text("look"), "");
    assert_eq!(ends(&other, KEEP).1, "nothing is there to be kept");
    let keys: Vec<_> = scene.listed().iter().map(|c| (c["name"].clone(), c["key"].clone())).collect();
    assert_eq!(keys, [(json!("tools"), json!("one")), (json!("tools"), json!("two"))]);

    // A failed build leaves nothing, nor does a stranger's, which reads all the same.
    let failed = scene.run("unit", json!({"write": "c", "fails": true}));
    failed.must_be("failure");
    assert_eq!(failed.end_of(KEEP).0, "skipped");
    let wish = json!({"sources": [{"branch": "fork"}], "properties": {"write": "poison"}});
    let stranger = scene.bench.ended(scene.bench.start_with("unit", &wish));
    stranger.must_be("success");
    assert!(stranger.text("look").starts_with("a noise a"), "{}", stranger.text("look"));
    assert_eq!(ends(&stranger, KEEP), ("skipped".into(), "skipped: only trusted builds write caches".into()));
    let after = scene.green("unit", json!({}));
    assert!(after.text("look").starts_with("a noise a"), "{}", after.text("look"));

    // Too much is not kept, and what is there stays. The least recently used key makes room.
    let large = scene.green("unit", json!({"size": 4 << 20, "write": "large"}));
    let (result, summary) = ends(&large, KEEP);
    assert_eq!(result, "warnings", "{summary}");
    assert!(summary.contains("more than may be kept"), "{summary}");
    let third = scene.green("unit", json!({"key": "three", "size": 2 << 20, "write": "d"}));
    assert_eq!(third.end_of(KEEP).0, "success");
    let fourth = scene.green("unit", json!({"key": "four", "size": 2 << 20, "write": "e"}));
    assert_eq!(fourth.end_of(KEEP).0, "success");
    let keys: Vec<_> = scene.listed().iter().map(|c| c["key"].clone()).collect();
    assert_eq!(keys, [json!("four")]);

    // A person takes one away.
    let shown = scene.bench.cli(&["cache", "list"]);
    assert!(shown.contains("tools") && shown.contains("four") && shown.contains("2.0 MiB"), "{shown}");
    let id = scene.listed()[0]["id"].to_string();
    scene.bench.cli(&["cache", "remove", &id]);
    let without = scene.green("unit", json!({"key": "four"}));
    assert_eq!(without.text("look"), "");
}

/// One that lies on the way of a build is gone, or broken: the build is what it is without.
#[test]
fn a_cache_that_is_broken_costs_no_build_anything() {
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "text\n")]);
    let config = config(&repo);
    let scene = Scene { bench: Bench::within(scratch, &config, Options::default()) };
    scene.green("unit", json!({"write": "a", "size": 100_000}));
    let archive = archives(&scene).pop().expect("its archive");
    let whole = std::fs::read(&archive).expect("it can be read");
    std::fs::write(&archive, &whole[..whole.len() / 2]).expect("it is ours");
    let broken = scene.green("unit", json!({"write": "b"}));
    let (result, summary) = ends(&broken, RESTORE);
    assert_eq!(result, "warnings", "{summary}");
    assert!(summary.starts_with("goes without: "), "{summary}");
    // Nothing of the half that came.
    assert_eq!(broken.text("look"), "");
    let mended = scene.green("unit", json!({}));
    assert!(mended.text("look").starts_with("b noise b"), "{}", mended.text("look"));
    for archive in archives(&scene) {
        std::fs::remove_file(archive).expect("it is ours");
    }
    let gone = scene.green("unit", json!({}));
    assert!(gone.end_of(RESTORE).1.contains("is not there any more"), "{:?}", gone.end_of(RESTORE));
}

fn archives(scene: &Scene) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![scene.bench.master.state().join("objects/artifacts")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the master's").flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn an_absolute_path_is_for_containers() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let config = format!(
        "pools: {{boxes: {{docker: {{image: '{}', pull: never}}, accepts: any}}}}\nbuilders:\n  unit:\n    caches:\n      tools: {{path: /var/kept/tools}}\n      \
         etc: {{path: /etc}}\n    steps:\n      - name: look\n        run: 'cat /var/kept/tools/file || echo none; echo text > /var/kept/tools/file'\n",
        image.name()
    );
    let bench =
        Bench::within(Scratch::new(), &config, Options { docker: Some(docker), ..Options::default() });
    let first = bench.run("unit");
    first.must_be("success");
    assert!(first.text("look").contains("none"), "{}", first.text("look"));
    // What is in the image is not put out of the way.
    let (result, summary) = ends(&first, "restore cache etc");
    assert_eq!(result, "warnings", "{summary}");
    let second = bench.run("unit");
    second.must_be("success");
    assert_eq!(second.text("look"), "text\n");
}
