//! A daemon without root, of a user who is not the master's: what it runs is nobody on the host, and what is the master's alone it cannot enter.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::docker::Image;
use crate::harness::rootless::Sort;
use crate::harness::{Bench, Build, GitRepo, Options, Rootless, Scratch, wait};

/// Where it is, who it is, and what of the master's it has; then until somebody lets it go on.
const LOOK: &str = "cat file; id -u; ls /sys/class/net; echo kept > made; cat /.rouse/link/join.json || echo no token; until [ -e /tmp/go ]; do sleep 0.1; done";

/// Serves a page once it is ready.
const DB: &str =
    "[sh, -c, 'mkdir /www; echo rows >/www/index.html; touch /ready; exec httpd -f -p 80 -h /www']";

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

struct Scene {
    // In this order: the master ends before its daemon.
    bench: Bench,
    repo: GitRepo,
    _images: [Image; 2],
    daemon: Rootless,
}

impl Scene {
    fn new(sort: Sort) -> Option<Self> {
        let daemon = Rootless::start(sort)?;
        let docker = daemon.docker().clone();
        let (root, user) = (docker.busybox(&[]), docker.busybox(&["USER 1000"]));
        let scratch = Scratch::new();
        let repo = GitRepo::with(scratch.path(), "app", &[("file", "from the repository\n")]);
        let config = format!(
            "codebases: {{app: {{git: '{}', branches: main, poll: 1s, mirror: always}}}}\n\
             pools:\n  own: {{docker: {{image: '{}', pull: never}}, accepts: any}}\n  \
             someone: {{docker: {{image: '{}', pull: never, network: none, read_only: true}}}}\n  \
             limited: {{docker: {{image: '{}', pull: never, memory: 64 MiB, pids: 50}}}}\n  \
             beside: {{docker: {{image: '{}', pull: never, network: none, services: {{db: {{image: '{}', ready: 'test -e /ready', command: {DB}}}}}}}}}\n\
             builders:\n  build: {{pool: own, steps: [{{checkout: app}}, {{name: look, run: '{LOOK}'}}, {{name: keep, upload: {{paths: made, as: things}}}}]}}\n  \
             plain: {{pool: someone, steps: [{{checkout: app}}, {{name: look, run: '{LOOK}'}}]}}\n  \
             limited: {{pool: limited, retries: 0, steps: [{{run: 'true'}}]}}\n  \
             beside: {{pool: beside, retries: 0, steps: [{{name: ask, run: wget -qO- http://db/}}]}}\n",
            repo.url(),
            root.name(),
            user.name(),
            root.name(),
            root.name(),
            root.name(),
        );
        let options = Options { docker: Some(docker), ..Options::default() };
        let bench = Bench::within(scratch, &config, options);
        Some(Self { bench, repo, _images: [root, user], daemon })
    }

    /// Waits until a build waits in its container.
    fn wait_for(&self, request: i64) {
        self.bench.api.until(
            "the build to wait",
            &format!("/builds?request={request}"),
            wait::A_BUILD,
            |builds| {
                let build = self.bench.build(builds["items"][0]["id"].as_i64()?);
                let begun =
                    build.steps().iter().any(|step| step["name"] == "look" && step["logs"][0]["id"].is_i64());
                let text = if begun { build.text("look") } else { String::new() };
                assert_eq!(build.result(), "none yet", "{:#}\n{text}", build.detail);
                text.contains("no token").then_some(())
            },
        );
    }

    /// Looks at the container that runs, and lets what waits in it go on.
    fn let_go(&self) {
        let docker = self.daemon.docker();
        let id = wait::until("the one container that runs", wait::SOON, || {
            let running = docker.run(&["ps", "--quiet", "--no-trunc"]);
            (running.lines().count() == 1).then(|| running.trim().to_owned())
        });
        let process = docker.first_process(&id).expect("it runs");
        assert!(self.daemon.owns(process), "an agent is a user of the daemon's");
        docker.run(&["exec", "--detach", &id, "touch", "/tmp/go"]);
    }

    fn built(&self, builder: &str, wish: &Value) -> Build {
        let request = self.bench.start_with(builder, wish);
        self.wait_for(request);
        self.let_go();
        let build = self.bench.ended(request);
        build.must_be("success");
        build
    }
}

#[test]
fn workers_of_a_rootless_podman_build_and_it_sees_nothing_of_the_masters() {
    let Some(scene) = Scene::new(Sort::Podman) else { return };
    its_workers_build_and_it_sees_nothing(&scene);
}

#[test]
fn so_do_those_of_a_rootless_docker() {
    let Some(scene) = Scene::new(Sort::Docker) else { return };
    its_workers_build_and_it_sees_nothing(&scene);
}

fn its_workers_build_and_it_sees_nothing(scene: &Scene) {
    let (bench, daemon) = (&scene.bench, &scene.daemon);
    let build = scene.built("build", &json!({"sources": [{"branch": "main"}]}));
    let text = build.text("look");
    assert!(text.starts_with("from the repository\n0\n") && text.contains("eth0"), "{text}");
    let artifacts = bench.api.list(&format!("/builds/{}/artifacts", build.id()));
    assert_eq!((artifacts.len(), &artifacts[0]["set"]), (1, &json!("things")), "{artifacts:?}");

    // A stranger's has no network.
    scene.repo.branch("evil");
    scene.repo.land("evil", "a look around", &[("file", "from a stranger\n")]);
    let text = scene.built("build", &json!({"sources": [{"branch": "evil"}]})).text("look");
    assert!(text.starts_with("from a stranger\n0\nlo\n") && !text.contains("eth0"), "{text}");

    // A user of the image's own, and files that cannot be changed.
    let text = scene.built("plain", &json!({})).text("look");
    assert!(text.starts_with("from the repository\n1000\nlo\n"), "{text}");

    let build = bench.run("beside");
    build.must_be("success");
    assert_eq!(build.text("ask"), "rows\n");

    // Without cgroups no limit is kept, and nothing is run as if it were.
    let refused = bench.run("limited");
    assert_eq!(
        (refused.result(), &refused.detail["class"]),
        ("exception", &json!("image")),
        "{:#}",
        refused.detail
    );
    for part in ["does not keep `memory`, `pids`", daemon.docker().host(), "Delegate="] {
        assert!(refused.summary().contains(part), "{part}: {}", refused.summary());
    }

    // The master's folder is what others may pass through, but its state is its own, except for its address.
    let mut state = files_below(&bench.master.state());
    state.retain(|file| !file.ends_with("api.url"));
    assert!(state.len() > 3, "{state:?}");
    for file in &state {
        assert!(!daemon.can_read(file), "{}", file.display());
    }
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
}
