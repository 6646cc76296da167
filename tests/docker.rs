//! Containers as workers: the agent in any image, what the options do, and what goes wrong, said where the user looks.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::builds::{explained, printed, run, run_green, start};
use crate::harness::docker::{File, Image};
use crate::harness::{Docker, Master, Options, Scratch, processes, wait};

fn options(docker: &Docker) -> Options {
    Options { docker: Some(docker.clone()), ..Options::default() }
}

/// Programs that need nothing beside them, under names of their own. No shell.
fn bare(docker: &Docker, changes: &[&str]) -> Image {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    docker.image(&[File::program("echo", busybox.clone()), File::program("id", busybox)], changes)
}

fn summary(build: &Value) -> &str {
    build["summary"].as_str().unwrap_or_default()
}

/// How long after the wish for it a worker was gone.
fn life_of_first_worker(api: &crate::harness::api::Api) -> (f64, Value) {
    let workers = api.list("/workers");
    let first = workers.last().unwrap_or_else(|| panic!("no worker was ever launched"));
    let detail = api.get(&format!("/workers/{}", first["id"]));
    let gone = detail["timeline"].as_array().expect("a timeline").last().expect("an end").clone();
    (gone["after"].as_f64().expect("a time"), detail)
}

#[test]
fn any_image_will_do() {
    let Some(docker) = Docker::of_this_run() else { return };
    let scratch = Scratch::new();
    let host = scratch.folder("host");
    std::fs::write(host.join("given"), "given\n").expect("written");
    let (bare_image, user_image) = (
        bare(&docker, &[]),
        docker.busybox(&["USER user", "ENTRYPOINT [\"/bin/false\"]", "ENV OF_IMAGE=yes"]),
    );
    let foreign = foreign_of(&docker, &bare_image);
    let config = format!(
        "version: 1\npools:\n  \
         bare: {{docker: {{image: '{bare}', pull: never, network: none, read_only: true}}}}\n  \
         rich:\n    docker:\n      image: '{user}'\n      pull: never\n      network: none\n      read_only: true\n      memory: 64 MiB\n      cpus: 0.5\n      \
         env: {{OF_POOL: '{{{{ props.greeting }}}}'}}\n      labels: {{team: '{{{{ builder.name }}}}'}}\n      \
         mounts: [{{source: '{host}', target: /host, readonly: true}}]\n      entrypoint: [/bin/env, OF_ENTRYPOINT=yes]\n      command: [OF_COMMAND=yes]\n  \
         root: {{docker: {{image: '{user}', pull: never, network: none, user: '0'}}}}\n  \
         foreign: {{docker: {{image: '{foreign}', pull: never, network: none}}}}\n  \
         cached: {{docker: {{image: '{user}', pull: never, network: none, mounts: [{{source: '{host}/{{{{ props.cache }}}}', target: /cache, allow: ['{host}']}}]}}}}\n  \
         small: {{docker: {{image: '{user}', pull: never, network: none, user: '0', memory: 24 MiB}}}}\n\
         builders:\n  bare: {{pool: bare, steps: [{{run: [/echo, \"it's $HOME\"]}}]}}\n  \
         script: {{pool: bare, steps: [{{run: 'echo hello'}}]}}\n  \
         rich: {{pool: rich, properties: {{greeting: hello}}, steps: [{{run: 'id -u; echo $OF_IMAGE $OF_POOL $OF_ENTRYPOINT $OF_COMMAND; cat /host/given; touch file && echo written; touch /etc/x || echo kept; touch /host/x || echo kept; wc -l < /proc/net/route; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true; until [ -e /host/seen ]; do sleep 0.05; done'}}]}}\n  \
         root: {{pool: root, steps: [{{run: 'id -u'}}]}}\n  \
         foreign: {{pool: foreign, steps: [{{run: [/echo, hello]}}]}}\n  \
         cached: {{pool: cached, properties: {{cache: mine}}, steps: [{{run: 'cat /cache/whose'}}]}}\n  \
         hungry: {{pool: small, steps: [{{run: 'tail /dev/zero'}}]}}\n  \
         greedy: {{pool: small, steps: [{{run: 'echo 1000 > /proc/$PPID/oom_score_adj; tail /dev/zero'}}]}}\n",
        bare = bare_image.name(),
        user = user_image.name(),
        host = host.display(),
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    assert!(run_green(&api, "bare", json!({})).starts_with("it's "));
    // A script where there is no shell.
    let build = run(&api, "script", json!({}));
    assert_eq!(build["result"], "failure", "{build:#}");
    assert!(summary(&build).contains("needs `/bin/sh` to run its script"), "{build:#}");
    // What the options say, seen from within and from outside.
    let request = start(&api, "rich", json!({}));
    let container = container_of(&api, &docker, "rich");
    let inspected: Value =
        serde_json::from_str(&docker.run(&["container", "inspect", &container])).expect("JSON");
    let host_config = &inspected[0]["HostConfig"];
    assert_eq!((&host_config["Memory"], &host_config["NanoCpus"]), (&json!(64 << 20), &json!(500_000_000)));
    assert_eq!(inspected[0]["Config"]["Labels"]["team"], "rich");
    std::fs::write(host.join("seen"), "").expect("written");
    let build = api.until_built(request);
    let said = printed(&api, &build);
    assert_eq!(build["result"], "success", "{said}");
    assert_eq!(
        said.lines().filter(|line| !line.contains("Read-only")).collect::<Vec<_>>(),
        ["1000", "yes hello yes yes", "given", "written", "kept", "kept", "1", "67108864"],
        "{said}"
    );
    assert_eq!(run_green(&api, "root", json!({})), "0\n");
    let build = run(&api, "foreign", json!({}));
    assert_eq!(build["result"], "exception", "{build:#}");
    assert!(summary(&build).contains("it is for linux/s390x, not for linux/amd64"), "{build:#}");
    // A mount that is rendered stays within the folder that is allowed.
    std::fs::create_dir(host.join("mine")).expect("made");
    std::fs::write(host.join("mine/whose"), "mine\n").expect("written");
    assert_eq!(run_green(&api, "cached", json!({})), "mine\n");
    let build = run(&api, "cached", json!({"cache": "../../../etc"}));
    assert_eq!((&build["result"], &build["class"]), (&json!("exception"), &json!("user")), "{build:#}");
    assert!(summary(&build).contains("is not to be mounted"), "{build:#}");
    // Its own memory limit is the user's: red, not tried again.
    let build = run(&api, "hungry", json!({}));
    // So is it where the kernel picks the agent instead.
    let attempts = [build, run(&api, "greedy", json!({}))];
    for build in attempts {
        let seen = (&build["result"], &build["class"], &build["attempt"]);
        assert_eq!(seen, (&json!("failure"), &json!("user"), &json!(1)), "{build:#}");
        assert!(summary(&build).contains("ran out of memory"), "{build:#}");
    }
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
    let _ = docker.try_run(&["image", "rm", &foreign]);
}

/// An image that says that it is for another platform: what the daemon has exported, with one word of it changed.
fn foreign_of(docker: &Docker, image: &Image) -> String {
    const OURS: &[u8] = b"\"architecture\":\"amd64\"";
    const THEIRS: &[u8] = b"\"architecture\":\"s390x\"";
    let scratch = Scratch::new();
    let (name, file) = (format!("{}-foreign", image.name()), scratch.path().join("image.tar"));
    let path = file.display().to_string();
    docker.run(&["tag", image.name(), &name]);
    docker.run(&["save", "--output", &path, &name]);
    let mut tar = std::fs::read(&file).expect("saved");
    let places: Vec<usize> =
        tar.windows(OURS.len()).enumerate().filter(|(_, w)| *w == OURS).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "an image says which platform it is for");
    for at in places {
        tar[at..at + THEIRS.len()].copy_from_slice(THEIRS);
    }
    std::fs::write(&file, tar).expect("written");
    docker.run(&["load", "--quiet", "--input", &path]);
    name
}

/// The container of the only worker of a pool that runs a build.
fn container_of(api: &crate::harness::api::Api, docker: &Docker, pool: &str) -> String {
    let reference = api.until("a worker at work", "/workers", wait::A_BUILD, |workers| {
        let of_pool =
            |w: &&Value| w["pool"] == pool && w["running"].as_array().is_some_and(|r| !r.is_empty());
        let id = workers["items"].as_array()?.iter().find(of_pool)?["id"].as_i64()?;
        api.get(&format!("/workers/{id}"))["provider_ref"].as_str().map(str::to_owned)
    });
    let (_, container) = reference.split_once(':').expect("KEY:CONTAINER");
    docker.run(&["container", "inspect", "--format", "{{.Id}}", container]).trim().to_owned()
}

#[test]
fn a_launch_that_fails_says_so_at_once_in_its_own_words() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let scratch = Scratch::new();
    let pool = |options: &str| {
        format!("{{docker: {{image: '{}', pull: never, network: none, {options}}}}}", image.name())
    };
    let config = format!(
        "version: 1\npools:\n  dies: {}\n  refused: {}\n  unknown: {}\n  gone: {{docker: {{image: '{}-none', pull: never}}}}\n\
         builders:\n  dies: {{pool: dies, retries: 1, steps: [{{run: 'true'}}]}}\n  refused: {{pool: refused, steps: [{{run: 'true'}}]}}\n  \
         unknown: {{pool: unknown, steps: [{{run: 'true'}}]}}\n  gone: {{pool: gone, steps: [{{run: 'true'}}]}}\n",
        pool("entrypoint: [/bin/sh, -c, 'echo the disk is on fire >&2; exit 7']"),
        pool("entrypoint: [/sbin/no-such-init]"),
        pool("user: nobody-here"),
        image.name(),
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let request = start(&api, "dies", json!({}));
    let said = explained(&api, request, "the first failure to be explained", |e| {
        e["failures"][0]["message"].as_str().map(str::to_owned)
    });
    assert!(said.contains("exit code 7") && said.contains("the disk is on fire"), "{said}");
    let build = api.until_built(request);
    assert_eq!((&build["result"], &build["class"]), (&json!("exception"), &json!("boot")), "{build:#}");
    assert!(summary(&build).contains("the disk is on fire"), "{build:#}");
    assert_eq!(build["attempt"], 1, "{build:#}");
    let (after, worker) = life_of_first_worker(&api);
    assert!(worker["console"].as_str().is_some_and(|c| c.contains("the disk is on fire")), "{worker:#}");
    // The attach deadline is two minutes.
    assert!(after < 20.0, "gone {after} s after the wish: {worker:#}");
    eprintln!("a container that dies before attaching: gone {after:.2} s after the wish");
    for (builder, words) in
        [("refused", "no-such-init"), ("unknown", "nobody-here"), ("gone", "the daemon does not have it")]
    {
        let build = run(&api, builder, json!({}));
        assert_eq!((&build["result"], &build["class"]), (&json!("exception"), &json!("image")), "{build:#}");
        assert!(summary(&build).contains(words), "{build:#}");
    }
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

#[test]
fn a_container_killed_under_a_build_is_nobodys_red() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let scratch = Scratch::new();
    let seen = scratch.folder("seen");
    let twice = |name: &str| {
        format!(
            "{{like: base, steps: [{{run: 'echo x >> /seen/{name}; [ $(wc -l < /seen/{name}) = 2 ] || sleep 300'}}]}}"
        )
    };
    let config = format!(
        "version: 1\npools:\n  boxes: {{docker: {{image: '{}', pull: never, network: none, mounts: [{{source: '{}', target: /seen}}]}}}}\n\
         builders:\n  base: {{template: true, pool: boxes}}\n  retried: {}\n  first: {}\n  group: {}\n  \
         failed: {{like: base, on_lost: fail, steps: [{{run: 'echo x >> /seen/failed; sleep 300'}}]}}\n",
        image.name(),
        seen.display(),
        twice("retried"),
        twice("first"),
        twice("group"),
    );
    let master = Master::start(scratch.path(), &config, options(&docker));
    let api = master.api();
    let kills: [(&str, Kill, &str, i64); 4] = [
        ("retried", kill_by_daemon, "success", 2),
        ("failed", kill_by_daemon, "exception", 1),
        ("first", kill_first_process, "success", 2),
        ("group", kill_group_of_step, "success", 2),
    ];
    for (builder, kill, result, attempts) in kills {
        let request = start(&api, builder, json!({}));
        wait::until_true("the step to run", wait::A_BUILD, || seen.join(builder).exists());
        kill(&docker, &container_of(&api, &docker, "boxes"));
        let build = api.until_built(request);
        assert_eq!((&build["result"], &build["attempt"]), (&json!(result), &json!(attempts)), "{build:#}");
        let first = api.list(&format!("/builds?request={request}")).pop().expect("a first build");
        assert!(summary(&first).contains("killed by signal 9"), "{first:#}");
    }
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}

type Kill = fn(&Docker, &str);

fn kill_by_daemon(docker: &Docker, container: &str) {
    docker.run(&["kill", container]);
}

/// From the host, past the daemon.
fn kill_first_process(docker: &Docker, container: &str) {
    processes::kill9(docker.first_process(container).expect("it runs"));
}

fn kill_group_of_step(docker: &Docker, container: &str) {
    let listed = docker.run(&["top", container, "-eo", "pid,pgid,args"]);
    let of_step =
        listed.lines().find(|line| line.trim_end().ends_with("sleep 300")).expect("the step sleeps");
    let group = of_step.split_whitespace().nth(1).and_then(|group| group.parse().ok()).expect("a number");
    killpg(Pid::from_raw(group), Signal::SIGKILL).expect("it runs");
}
