//! Services beside the build: reached by their names, ready before the first step, with their logs kept, and gone with the worker.

use serde_json::{Value, json};

use rouse_testkit::back_ends;

use crate::harness::builds::{printed, run, run_green, start};
use crate::harness::scratch::unique;
use crate::harness::{Api, Bench, Docker, GitRepo, Master, Options, Scratch, wait};

const PAGE: &str = "wget -qO- http://db/";

/// Serves a page a second after it has begun, and writes down who asks for what.
const DB: &str = "[sh, -c, 'echo db begins; sleep 1; mkdir /www; echo rows >/www/index.html; touch /ready; echo db is ready; \
                  exec httpd -f -vv -p 80 -h /www']";

fn options(docker: &Docker) -> Options {
    Options { docker: Some(docker.clone()), ..Options::default() }
}

/// The log of a service, as the build's first step has it.
fn log_of(api: &Api, build: &Value, service: &str) -> String {
    let name = format!("service {service}");
    let logs = build["steps"][0]["logs"].as_array().cloned().unwrap_or_default();
    let log = logs.iter().find(|log| log["name"] == *name).unwrap_or_else(|| panic!("{name}: {build:#}"));
    String::from_utf8_lossy(&api.bytes(&format!("/logs/{}/raw", log["id"]))).into_owned()
}

/// The container of a service of a pool.
fn container_of(docker: &Docker, pool: &str, service: &str) -> String {
    let by = [format!("label=rouse.pool={pool}"), format!("label=rouse.service={service}")];
    let arguments = ["ps", "--all", "--quiet", "--no-trunc", "--filter", &by[0], "--filter", &by[1]];
    docker.run(&arguments).trim().to_owned()
}

#[test]
fn they_are_reached_by_name_once_they_are_ready_and_what_they_print_is_kept() {
    let (Some(docker), Some(registry)) = (Docker::of_this_run(), back_ends::registry()) else { return };
    let image = docker.busybox(&[]);
    let healthy = docker.busybox(&["HEALTHCHECK --interval=300ms CMD test -e /ready"]);
    let served = format!("{registry}/{}:1", unique("db"));
    image.push_as(&served);
    let scratch = Scratch::new();
    let (go, name) = (scratch.folder("go"), image.name());
    let secret = scratch.path().join("token");
    std::fs::write(&secret, "sesame-4711").expect("written");
    std::os::unix::fs::chown(&secret, None, None).expect("ours");
    std::process::Command::new("chmod").arg("600").arg(&secret).status().expect("chmod runs");
    let pools = [unique("alone"), unique("bridged"), unique("kept")];
    let [alone, bridged, kept] = &pools;
    let config = format!(
        "version: 1\nsecrets: {{token: {{file: '{secret}'}}}}\npools:\n  \
         {alone}:\n    accepts: any\n    docker:\n      image: '{name}'\n      network: none\n      mounts: [{{source: '{go}', target: /go}}]\n      \
         services:\n        db: {{image: '{registry}/{{{{ props.db }}}}:1', ready: 'test -e /ready', command: {DB}, memory: 64 MiB, pids: 50}}\n  \
         {bridged}:\n    docker:\n      image: '{name}'\n      services:\n        db: {{image: '{healthy}', command: {DB}, env: {{COLOUR: '{{{{ props.db }}}}'}}}}\n  \
         {kept}:\n    docker: {{image: '{name}', network: none, services: {{db: {{image: '{name}', ready: [test, -e, /ready], command: {DB}}}}}}}\n    \
         reuse: {{builds: 2, idle: 60s}}\n    max: 1\n\
         builders:\n  \
         alone: {{pool: {alone}, steps: [{{run: '{PAGE}; until [ -e /go/on ]; do sleep 0.1; done; ls /sys/class/net; nslookup example.org'}}]}}\n  \
         bridged: {{pool: {bridged}, steps: [{{run: 'wget -qO- http://db/$TOKEN || true; {PAGE}', env: {{TOKEN: 'secret:token'}}}}]}}\n  \
         kept: {{pool: {kept}, steps: [{{run: 'echo $ROUSE_BUILD; wget -qO- http://db/of-$ROUSE_BUILD || true; {PAGE}'}}]}}\n",
        secret = secret.display(),
        go = go.display(),
        healthy = healthy.name(),
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let repository = served.rsplit('/').next().and_then(|name| name.strip_suffix(":1")).expect("a name");
    let request = start(&api, "alone", json!({"db": repository}));
    api.until("the build to run", "/builds", wait::A_BUILD, |b| {
        (b["items"][0]["phase"] == "running").then_some(())
    });
    // As it is hardened and held: by the registry's digest, in a network that leads nowhere.
    let db = container_of(&docker, alone, "db");
    let of = |what: &str| docker.run(&["inspect", "--format", what, &db]).trim().to_owned();
    assert_eq!(
        of("{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.SecurityOpt}}"),
        "67108864 50 [no-new-privileges]"
    );
    assert!(of("{{.HostConfig.CapDrop}}").contains("NET_RAW"));
    assert!(
        of("{{.Config.Image}}").starts_with(&format!("{registry}/{repository}@sha256:")),
        "{}",
        of("{{.Config.Image}}")
    );
    let network = of("{{range .NetworkSettings.Networks}}{{.NetworkID}} {{end}}");
    let network = network.trim();
    let said = docker.run(&["network", "inspect", "--format", "{{.Internal}} {{len .Containers}}", network]);
    assert_eq!(said.trim(), "true 2", "{network}");
    std::fs::write(go.join("on"), "").expect("written");
    let build = api.until_built(request);
    // The last command asks for what is not there; with no way out, nobody answers.
    assert_eq!(build["result"], "failure", "{build:#}");
    let text = printed(&api, &build);
    assert!(text.starts_with("rows\n"), "{text}");
    assert!(log_of(&api, &build, "db").contains("db begins\ndb is ready\n"));

    // Beside another network, with the image's own health check; what is a secret in the build is one in its service's log.
    let build = run(&api, "bridged", json!({"db": "blue"}));
    assert_eq!(build["result"], "success", "{build:#}");
    assert!(printed(&api, &build).ends_with("rows\n"), "{}", printed(&api, &build));
    let log = log_of(&api, &build, "db");
    assert!(log.contains("db is ready") && log.contains("url:/") && !log.contains("sesame"), "{log}");

    // One that serves two builds: each has its own part.
    let first = run(&api, "kept", json!({}));
    let second = run(&api, "kept", json!({}));
    for build in [&first, &second] {
        let log = log_of(&api, build, "db");
        assert!(log.contains(&format!("of-{}", build["id"])), "{log}");
    }
    assert!(log_of(&api, &first, "db").contains("db begins"));
    assert!(!log_of(&api, &second, "db").contains("db begins"));
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
    drop(master);
    let _ = docker.try_run(&["image", "rm", &served]);
}

#[test]
fn one_that_does_not_get_ready_ends_the_launch_with_what_it_printed() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let (scratch, name) = (Scratch::new(), image.name());
    let pool = |name_of: &str, service: &str| {
        format!(
            "  {name_of}: {{docker: {{image: '{name}', pull: never, network: none, services: {{db: {{{service}}}}}}}}}\n"
        )
    };
    let builder = |name: &str| format!("  {name}: {{pool: {name}, retries: 0, steps: [{{run: 'true'}}]}}\n");
    let config = format!(
        "version: 1\npools:\n{}{}{}{}builders:\n{}{}{}{}",
        pool(
            "ends",
            &format!(
                "image: '{name}', ready: 'false', command: [sh, -c, 'echo no password was given; exit 3']"
            )
        ),
        pool(
            "slow",
            &format!(
                "image: '{name}', ready: 'false', ready_within: 1s, command: [sh, -c, 'echo still at it; sleep 600']"
            )
        ),
        pool("broken", &format!("image: '{name}', command: [no-such-program]")),
        pool("absent", "image: 'no-such-image:1'"),
        builder("ends"),
        builder("slow"),
        builder("broken"),
        builder("absent"),
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    for (builder, class, words) in [
        ("ends", "boot", &["`db`", "exit code 3", "no password was given"][..]),
        ("slow", "boot", &["`db`", "not ready within 1 s", "`false`", "still at it"]),
        ("broken", "image", &["`db`", "no-such-program"]),
        ("absent", "image", &["`db`", "no-such-image:1"]),
    ] {
        let build = run(&api, builder, json!({}));
        assert_eq!((&build["result"], &build["class"]), (&json!("exception"), &json!(class)), "{build:#}");
        let said = build["summary"].as_str().unwrap_or_default();
        assert!(words.iter().all(|word| said.contains(word)), "{builder}: {said}");
    }
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

#[test]
fn they_go_with_their_worker_whatever_happens() {
    let Some(docker) = Docker::of_this_run() else { return };
    they_go_with_their_worker_on(docker);
}

#[test]
fn so_they_do_on_podman() {
    let Some(host) = back_ends::podman_host() else { return };
    they_go_with_their_worker_on(Docker::at(&host));
}

fn they_go_with_their_worker_on(docker: Docker) {
    let image = docker.busybox(&[]);
    let (scratch, name) = (Scratch::new(), image.name());
    let (go, pool) = (scratch.folder("go"), unique("gone"));
    let config = format!(
        "version: 1\npools:\n  {pool}: {{docker: {{image: '{name}', pull: never, network: none, mounts: [{{source: '{go}', target: /go}}], \
         services: {{db: {{image: '{name}', ready: 'test -e /ready', command: {DB}}}}}}}, max: 1}}\n\
         builders:\n  waits: {{pool: {pool}, steps: [{{run: '{PAGE}; until [ -e /go/on ]; do sleep 0.1; done'}}]}}\n",
        go = go.display(),
    );
    let mut master = Master::start(scratch.path(), &config, options(&docker));
    let request = start(&master.api(), "waits", json!({}));
    let running = |master: &Master| {
        master.api().until("the build to run", "/builds?open=true", wait::A_BUILD, |b| {
            (b["items"][0]["phase"] == "running").then_some(())
        });
    };
    running(&master);
    let db = container_of(&docker, &pool, "db");
    assert!(!db.is_empty(), "the service runs");
    // The master goes, and while it is away the worker too: the next one takes its service away, and builds with another.
    master.kill9();
    let worker = format!("label=rouse.pool={pool}");
    let all = docker.run(&["ps", "--quiet", "--no-trunc", "--filter", &worker]);
    for id in all.lines().filter(|id| *id != db) {
        docker.run(&["rm", "--force", "--volumes", id]);
    }
    master.run();
    wait::until_true("the service of the lost worker to go", wait::A_BUILD, || {
        docker.try_run(&["inspect", &db]).is_err()
    });
    std::fs::write(go.join("on"), "").expect("written");
    let build = master.api().until_built(request);
    assert_eq!(build["result"], "success", "{build:#}");
    assert!(log_of(&master.api(), &build, "db").contains("db is ready"));
    assert_eq!(run_green(&master.api(), "waits", json!({})), "rows\n");
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

#[test]
fn podman_has_them_for_who_is_trusted() {
    let Some(host) = back_ends::podman_host() else { return };
    let docker = Docker::at(&host);
    let image = docker.busybox(&[]);
    let (scratch, name) = (Scratch::new(), image.name());
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
    let [alone, bridged, ends] = [unique("alone"), unique("bridged"), unique("ends")];
    let db = format!("{{image: '{name}', ready: 'test -e /ready', command: {DB}, memory: 64 MiB, pids: 50}}");
    let config = format!(
        "codebases: {{app: {{git: '{}', branches: main, poll: never}}}}\npools:\n  \
         {alone}: {{accepts: any, docker: {{image: '{name}', pull: never, network: none, services: {{db: {db}}}}}}}\n  \
         {bridged}: {{docker: {{image: '{name}', pull: never, services: {{db: {db}, cache: {db}}}}}}}\n  \
         {ends}: {{docker: {{image: '{name}', pull: never, services: {{db: {{image: '{name}', ready: 'false', \
         command: [sh, -c, 'echo no password was given; exit 3']}}}}}}}}\n\
         builders:\n  \
         alone: {{pool: {alone}, retries: 0, steps: [{{checkout: app}}, {{name: look, run: '{PAGE}; ls /sys/class/net; cat /proc/net/route'}}]}}\n  \
         bridged: {{pool: {bridged}, steps: [{{name: look, run: '{PAGE}; wget -qO- http://cache/; ls /sys/class/net'}}]}}\n  \
         ends: {{pool: {ends}, retries: 0, steps: [{{run: 'true'}}]}}\n",
        repo.url(),
    );
    let bench = Bench::within(scratch, &config, options(&docker));
    let build = bench.run("alone");
    build.must_be("success");
    let text = build.text("look");
    // Its only network leads nowhere: no route has a gateway.
    assert!(text.starts_with("rows\neth0\nlo\n"), "{text}");
    assert!(!text.contains("\t00000000\t0003"), "{text}");
    assert!(log_of(&bench.api, &build.detail, "db").contains("db begins\ndb is ready\n"));

    let build = bench.run("bridged");
    build.must_be("success");
    assert_eq!(build.text("look"), "rows\nrows\neth0\neth1\nlo\n");

    let build = bench.run("ends");
    assert_eq!((build.result(), &build.detail["class"]), ("exception", &json!("boot")), "{:#}", build.detail);
    for part in ["`db`", "exit code 3", "no password was given"] {
        assert!(build.summary().contains(part), "{part}: {}", build.summary());
    }

    // What Podman cannot close is not opened for strangers.
    repo.branch("evil");
    repo.land("evil", "a look around", &[("file", "2\n")]);
    let build = bench.ended(bench.start_with("alone", &json!({"sources": [{"branch": "evil"}]})));
    assert_eq!(
        (build.result(), &build.detail["class"]),
        ("exception", &json!("image")),
        "{:#}",
        build.detail
    );
    assert!(build.summary().contains("leads to its host"), "{}", build.summary());
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
}
