//! A Docker daemon that is restarted, killed or frozen under builds and launches: infrastructure, and so never red. Each scenario has a daemon
//! of its own.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::builds::explained;
use crate::harness::{Bench, Build, Dockerd, Options, Scratch, wait};

fn config(image: &str, seen: &Path) -> String {
    format!(
        "pools:\n  boxes: {{docker: {{image: '{image}', pull: never, network: none, mounts: [{{source: '{}', target: /seen}}]}}, max: 8}}\n  \
         here: {{local: {{}}}}\n\
         builders:\n  base: {{template: true, pool: boxes}}\n  \
         retried: {{like: base, retries: 3, steps: [{{name: work, run: 'echo x >> /seen/retried; until [ -e /seen/go ]; do sleep 0.1; done'}}]}}\n  \
         failed: {{like: base, on_lost: fail, steps: [{{name: publish, run: 'echo x >> /seen/failed; sleep 300'}}]}}\n  \
         once: {{like: base, steps: [{{name: publish, repeatable: false, run: 'echo x >> /seen/once'}}, {{name: after, run: 'echo x >> /seen/after; sleep 300'}}]}}\n  \
         quick: {{like: base, retries: 3, steps: [{{run: 'echo x >> /seen/quick'}}]}}\n  \
         elsewhere: {{pool: here, steps: [{{run: 'true'}}]}}\n",
        seen.display()
    )
}

struct Scene {
    bench: Bench,
    seen: PathBuf,
}

impl Scene {
    fn on(daemon: &Dockerd, image: &str) -> Self {
        let scratch = Scratch::new();
        let seen = scratch.folder("seen");
        let options = Options { docker: Some(daemon.docker().clone()), ..Options::default() };
        let bench = Bench::within(scratch, &config(image, &seen), options);
        Self { bench, seen }
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.seen.join(name)).unwrap_or_default().lines().count()
    }

    fn wait_for(&self, files: &[&str]) {
        wait::until_true(&format!("{files:?} to be written"), wait::A_BUILD, || {
            files.iter().all(|file| self.lines(file) > 0)
        });
    }

    /// Until a launch has begun; any moment of it and after it will do.
    fn wait_for_launch(&self) {
        self.bench.api.until("a launch", "/workers", wait::A_BUILD, |workers| {
            let begun = |w: &Value| w["pool"] == "boxes" && w["phase"] != "requested" && w["phase"] != "gone";
            workers["items"].as_array()?.iter().any(begun).then_some(())
        });
    }

    /// All attempts at a request, oldest first. None of them is red.
    fn attempts(&self, request: i64) -> Vec<Build> {
        let listed = self.bench.api.list(&format!("/builds?request={request}"));
        let builds: Vec<Build> =
            listed.iter().rev().map(|b| self.bench.build(b["id"].as_i64().expect("a number"))).collect();
        for build in &builds {
            assert_ne!(build.result(), "failure", "{:#}", build.detail);
            assert!(build.steps().iter().all(|step| step["result"] != "failure"), "{:#}", build.detail);
        }
        builds
    }

    fn page_of(&self, build: &Build) -> String {
        self.bench.cli(&["build", "show", &build.id().to_string()])
    }

    fn assert_nothing_left(&self) {
        let master = &self.bench.master;
        master.leftovers().assert_no_workers(wait::A_BUILD, master.pid());
    }
}

/// How a daemon ends.
type End = fn(&mut Dockerd);

#[test]
fn a_docker_daemon_restarted_or_killed_under_builds_costs_attempts_and_is_never_red() {
    let Some(mut daemon) = Dockerd::start() else { return };
    let image = daemon.docker().busybox(&[]);
    let scene = Scene::on(&daemon, image.name());
    let ends: [(&str, End); 2] = [("stopped", Dockerd::stop), ("killed", Dockerd::kill9)];
    for (how, end) in ends {
        for file in ["retried", "failed", "once", "after", "go"] {
            let _ = std::fs::remove_file(scene.seen.join(file));
        }
        let [retried, failed, once] = ["retried", "failed", "once"].map(|name| scene.bench.start(name));
        scene.wait_for(&["retried", "failed", "after"]);
        end(&mut daemon);
        daemon.spawn();
        daemon.wait_until_it_answers();
        // One that the daemon ended is tried again.
        wait::until_true("the second attempt", wait::A_BUILD, || scene.lines("retried") == 2);
        std::fs::write(scene.seen.join("go"), "").expect("written");
        scene.bench.ended(retried).must_be("success");
        let attempts = scene.attempts(retried);
        assert_eq!(attempts.len(), 2, "{how}");
        attempts[0].must_be("retry");
        assert_eq!(attempts[0].detail["class"], "agent_lost", "{:#}", attempts[0].detail);
        let page = scene.page_of(&attempts[0]);
        assert!(page.contains("was lost: "), "{how}: {page}");
        // What publishes is not tried again, and says why.
        for (request, file, why) in [(failed, "failed", "on_lost: fail"), (once, "once", "not repeatable")] {
            scene.bench.ended(request).must_be("exception");
            let attempts = scene.attempts(request);
            assert_eq!((attempts.len(), scene.lines(file)), (1, 1), "{how}: {file}");
            let page = scene.page_of(&attempts[0]);
            assert!(page.contains("was lost: ") && page.contains(why), "{how}: {page}");
        }
        scene.assert_nothing_left();
    }
}

#[test]
fn a_docker_daemon_killed_or_restarted_under_a_launch_costs_time_alone() {
    let Some(mut daemon) = Dockerd::start() else { return };
    let image = daemon.docker().busybox(&[]);
    let scene = Scene::on(&daemon, image.name());
    let ends: [fn(&mut Dockerd); 3] = [Dockerd::kill9, Dockerd::stop, |daemon| {
        // Frozen first, so that the call is under way for sure.
        let frozen = daemon.freeze();
        std::mem::forget(frozen);
        daemon.kill9();
    }];
    for (n, end) in ends.into_iter().enumerate() {
        let request = scene.bench.start("quick");
        scene.wait_for_launch();
        end(&mut daemon);
        daemon.spawn();
        daemon.wait_until_it_answers();
        scene.bench.ended(request).must_be("success");
        scene.attempts(request);
        // More often where one had run and not yet said so.
        assert!(scene.lines("quick") > n);
        scene.assert_nothing_left();
    }
}

#[test]
fn a_docker_daemon_that_stands_still_holds_up_nobody_else() {
    let Some(daemon) = Dockerd::start() else { return };
    let image = daemon.docker().busybox(&[]);
    let scene = Scene::on(&daemon, image.name());
    let api = &scene.bench.api;
    // Under a build: it does not need the daemon to go on, nor to end.
    let running = scene.bench.start("retried");
    scene.wait_for(&["retried"]);
    let frozen = daemon.freeze();
    std::fs::write(scene.seen.join("go"), "").expect("written");
    scene.bench.ended(running).must_be("success");
    assert_eq!(scene.attempts(running).len(), 1);
    // Before a launch: what waits says for what, and others are built meanwhile.
    let waiting = scene.bench.start("quick");
    scene.bench.run("elsewhere").must_be("success");
    let why = explained(api, waiting, "why it waits", |explained| {
        Some(explained.to_string()).filter(|text| text.contains("does not answer"))
    });
    assert!(why.contains("boxes"), "{why}");
    drop(frozen);
    scene.bench.ended(waiting).must_be("success");
    // Under a launch.
    let launching = scene.bench.start("quick");
    scene.wait_for_launch();
    let frozen = daemon.freeze();
    scene.bench.run("elsewhere").must_be("success");
    drop(frozen);
    scene.bench.ended(launching).must_be("success");
    assert_eq!((scene.attempts(launching).len(), scene.lines("quick")), (1, 2));
    scene.assert_nothing_left();
}
