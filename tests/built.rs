//! Images that are made of a project's own Dockerfile: once for each content, on whichever host wants one, and never of what strangers write.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use sha2::Digest;

use rouse_testkit::back_ends;

use crate::harness::scratch::unique;
use crate::harness::{Bench, Build, Docker, Dockerd, GitRepo, Lan, Options, Registry, Scratch, wait};

/// What was made has a word of its own, so that making it again would be seen.
fn dockerfile(base: &str) -> String {
    format!(
        "FROM {base}\nARG V=none\nCOPY greeting /greeting\nRUN head -c 9 /dev/urandom | base64 > /word && echo $V > /v\n"
    )
}

fn of_branch(branch: &str) -> Value {
    json!({"sources": [{"branch": branch}]})
}

/// What a build found in its image: the greeting, the argument, and the word.
fn found(build: &Build) -> [String; 3] {
    build.must_be("success");
    let said = build.text("look");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    [0, 1, 2].map(|n| lines[n].to_owned())
}

/// The images that a master has made on a daemon, which others share.
fn made_by(bench: &Bench, docker: &Docker) -> Vec<String> {
    let master = bench.api.get("/master");
    let installation = master["installation"].as_str().expect("a master says whose it is");
    let mark: String =
        sha2::Sha256::digest(installation)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let by = format!("reference=rouse-built/{mark}");
    let listed = docker.run(&["image", "ls", "--filter", &by, "--format", "{{.Repository}}:{{.Tag}}"]);
    listed.lines().map(str::to_owned).collect()
}

/// They may go at any time that no worker is there. How many there were.
fn remove_all(bench: &Bench, docker: &Docker) -> usize {
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
    let made = made_by(bench, docker);
    made.iter().for_each(|name| _ = docker.run(&["image", "rm", name]));
    made.len()
}

#[test]
fn one_is_made_for_each_content_and_of_nothing_that_strangers_write() {
    let Some(docker) = Docker::of_this_run() else { return };
    for_each_content_on(docker);
}

#[test]
fn so_it_is_on_podman() {
    let Some(host) = back_ends::podman_host() else { return };
    for_each_content_on(Docker::at(&host));
}

fn for_each_content_on(docker: Docker) {
    let base = docker.busybox(&[]);
    let scratch = Scratch::new();
    let files =
        [("ci/Dockerfile", dockerfile(base.name())), ("ci/greeting", "hello\n".into()), ("src", "1".into())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let repo = GitRepo::with(scratch.path(), "app", &files);
    let config = format!(
        "codebases: {{app: {{git: '{}', branches: [main, next, broken], poll: 1s}}}}\n\
         pools: {{own: {{docker: {{build: {{file: ci/Dockerfile, args: {{V: '{{{{ props.v }}}}'}}}}, network: none}}, accepts: any}}}}\n\
         builders:\n  unit: {{properties: {{v: a}}, retries: 0, steps: [{{checkout: app}}, {{name: look, run: cat /greeting /v /word}}]}}\n  \
         bare: {{properties: {{v: a}}, steps: [{{name: look, run: 'true'}}]}}\n",
        repo.url()
    );
    let options = Options { docker: Some(docker.clone()), ..Options::default() };
    let bench = Bench::within(scratch, &config, options);
    let build_of = |wish: &Value| bench.ended(bench.start_with("unit", wish));
    let seen = |branch: &str, revision: &str| {
        wait::until_true("the branch to be seen", wait::SOON, || {
            let heads = bench.api.get("/codebases/app")["heads"].as_array().cloned().unwrap_or_default();
            heads.iter().any(|head| head["branch"] == branch && head["revision"] == revision)
        });
    };

    let first = found(&build_of(&of_branch("main")));
    assert_eq!(first[..2], ["hello", "a"]);
    // Another revision with the same files has the same image, also at a stranger's.
    repo.branch("next");
    let next = repo.land("next", "something else", &[("src", "2")]);
    seen("next", &next);
    assert_eq!(found(&build_of(&of_branch("next"))), first);
    repo.branch("stranger");
    repo.land("stranger", "a fix", &[("src", "3")]);
    assert_eq!(found(&build_of(&of_branch("stranger"))), first);
    // Another argument, or another file beside the Dockerfile, makes another one.
    let mut wish = of_branch("main");
    wish["properties"] = json!({"v": "b"});
    let other = found(&build_of(&wish));
    assert_eq!(other[..2], ["hello", "b"]);
    assert_ne!(other[2], first[2]);
    repo.go_to("next");
    let changed = repo.land("next", "more friendly", &[("ci/greeting", "good morning\n")]);
    seen("next", &changed);
    let friendly = found(&build_of(&of_branch("next")));
    assert_eq!(friendly[..2], ["good morning", "a"]);
    assert_ne!(friendly[2], first[2]);

    // What a stranger writes is not built; what the branch that is watched has is theirs, too.
    repo.branch("friendlier");
    repo.land("friendlier", "a fix", &[("src", "4")]);
    assert_eq!(found(&build_of(&of_branch("friendlier"))), friendly);
    repo.branch("evil");
    repo.land("evil", "a look around", &[("ci/greeting", "let me in\n")]);
    let refused = build_of(&of_branch("evil"));
    assert_eq!(
        (refused.result(), &refused.detail["class"]),
        ("exception", &json!("image")),
        "{:#}",
        refused.detail
    );
    assert!(refused.summary().contains("what strangers write there is not built"), "{}", refused.summary());

    // What the Dockerfile says stands in the build.
    repo.go_to("main");
    repo.branch("broken");
    let text = format!("FROM {}\nRUN echo no such $((6 * 7)); exit 3\n", base.name());
    let broken = repo.land("broken", "a new tool", &[("ci/Dockerfile", &text)]);
    seen("broken", &broken);
    let failed = build_of(&of_branch("broken"));
    assert_eq!(
        (failed.result(), &failed.detail["class"]),
        ("exception", &json!("image")),
        "{:#}",
        failed.detail
    );
    for part in ["ci/Dockerfile of `app`", " 3", "no such 42"] {
        assert!(failed.summary().contains(part), "{part}: {}", failed.summary());
    }
    let without = bench.run("bare");
    assert!(without.summary().contains("checks out no codebase"), "{}", without.summary());

    assert_eq!(remove_all(&bench, &docker), 3);
    let again = found(&build_of(&of_branch("main")));
    assert_eq!(again[..2], first[..2]);
    assert_eq!(remove_all(&bench, &docker), 1);
}

#[test]
fn it_takes_no_more_of_its_host_than_a_worker_and_ends_in_time() {
    let Some(docker) = Docker::of_this_run() else { return };
    let base = docker.busybox(&[]);
    let scratch = Scratch::new();
    let of = |command: &str| format!("FROM {}\nRUN {command}\n", base.name());
    let limits = of("cd /sys/fs/cgroup; \
         (cat memory.max || cat memory/memory.limit_in_bytes) > /limits; \
         (cut -d ' ' -f 1 cpu.max || cat cpu/cpu.cfs_quota_us) >> /limits; \
         df -k /dev/shm | awk '{kib = $2} END {print kib}' >> /limits");
    let files = [
        ("ci/limits", limits),
        ("ci/greedy", of("echo begun && tail /dev/zero")),
        ("ci/endless", of("echo begun && sleep 86399")),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let repo = GitRepo::with(scratch.path(), "app", &files);
    let pool = |name: &str, more: &str, limits: &str| {
        format!("  {name}: {{docker: {{build: {{file: ci/{name}{more}}}, network: none{limits}}}}}\n")
    };
    let config = format!(
        "codebases: {{app: {{git: '{}', branches: main}}}}\npools:\n{}builders:\n{}",
        repo.url(),
        // More than fits into a number of 32 bits.
        pool("limits", "", ", memory: 3 GiB, cpus: 0.5, shm: 16 MiB")
            + &pool("greedy", "", ", memory: 32 MiB")
            + &pool("endless", ", within: 2s", ""),
        ["limits", "greedy", "endless"]
            .map(|name| format!(
                "  {name}: {{pool: {name}, retries: 0, steps: [{{checkout: app}}, {{name: look, run: cat /limits}}]}}\n"
            ))
            .concat()
    );
    let options = Options { docker: Some(docker.clone()), ..Options::default() };
    let bench = Bench::within(scratch, &config, options);
    let requests = ["limits", "greedy", "endless"].map(|builder| bench.start(builder));
    let [limits, greedy, endless] = requests.map(|request| bench.ended(request));
    limits.must_be("success");
    assert_eq!(limits.text("look"), "3221225472\n50000\n16384\n");
    for (build, told) in [
        (greedy, ["137", "killed", "the pool's `memory`, 32 MiB", "begun"]),
        (endless, ["within 2s", "all the time it has", "`within` of the pool's `build`", "begun"]),
    ] {
        let said = build.summary();
        assert_eq!((build.result(), &build.detail["class"]), ("exception", &json!("image")), "{said}");
        for part in told {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    wait::until_true("the endless command to end", wait::SOON, || {
        !docker.run(&["ps", "--all", "--no-trunc", "--format", "{{.Command}}"]).contains("sleep 86399")
    });
    remove_all(&bench, &docker);
}

#[test]
fn what_it_is_made_from_may_want_a_login() {
    let (Some(docker), Some(open), Some(login)) =
        (Docker::of_this_run(), back_ends::registry(), back_ends::registry_with_login())
    else {
        return;
    };
    let name = unique("private");
    docker.busybox(&[]).push_as(&format!("{open}/{name}:1"));
    let host = &login.address;
    let (scratch, keys) = (Scratch::new(), Scratch::new());
    let file = |name: &str, text: &str, mode: u32| {
        let path = keys.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
        path.display().to_string()
    };
    let (right, wrong) = (file("right", &login.password, 0o600), file("wrong", "not-the-sesame-78", 0o600));
    // What it says at first has ended.
    let once = keys.path().join("asked");
    let script = format!(
        "#!/bin/sh\nread -r server\nword={wrong}; [ -e '{once}' ] && word={right}; : > '{once}'\n\
         printf '{{\"ServerURL\":\"%s\",\"Username\":\"{user}\",\"Secret\":\"%s\"}}' \"$server\" \"$(cat $word)\"\n",
        once = once.display(),
        user = login.user,
    );
    let helper = file("helper", &script, 0o700);
    let text = dockerfile(&format!("{host}/{name}:1"));
    let repo = GitRepo::with(scratch.path(), "app", &[("ci/Dockerfile", &text), ("ci/greeting", "hello\n")]);
    let pool = |name: &str, login: &str| {
        format!(
            "  {name}: {{docker: {{build: {{file: ci/Dockerfile, args: {{V: {name}}}}}, network: none{login}}}}}\n"
        )
    };
    let with = |secret: &str| {
        format!(", registry: {{'{host}': {{user: {}, password: 'secret:{secret}'}}}}", login.user)
    };
    let pools = [
        ("none", String::new()),
        ("bad", with("wrong")),
        ("good", with("right")),
        ("helped", format!(", registry: {{'{host}': {{helper: '{helper}'}}}}")),
    ];
    let config = format!(
        "codebases: {{app: {{git: '{}', branches: main}}}}\n\
         secrets: {{right: {{file: '{right}'}}, wrong: {{file: '{wrong}'}}}}\npools:\n{}builders:\n{}",
        repo.url(),
        pools.each_ref().map(|(name, login)| pool(name, login)).concat(),
        pools
            .each_ref()
            .map(|(name, _)| format!(
                "  {name}: {{pool: {name}, retries: 0, steps: [{{checkout: app}}, {{name: look, run: cat /greeting /v /word}}]}}\n"
            ))
            .concat()
    );
    let options = Options { docker: Some(docker.clone()), ..Options::default() };
    let bench = Bench::within(scratch, &config, options);
    let refused = |builder: &str| {
        let build = bench.run(builder);
        let said = build.summary().to_owned();
        assert_eq!((build.result(), &build.detail["class"]), ("exception", &json!("image")), "{said}");
        assert!(said.contains(&format!("made from {host}/{name}:1")), "{said}");
        said
    };
    let said = refused("none");
    assert!(said.contains(&format!("registry {host} wants a login")), "{said}");
    let said = refused("bad");
    let told = [format!("registry {host}"), format!("user `{}`", login.user), "secret:wrong".into()];
    assert!(told.iter().all(|part| said.contains(part)), "{said}");
    for builder in ["good", "helped"] {
        // Each pulls it for itself.
        let _ = docker.try_run(&["image", "rm", "--force", &format!("{host}/{name}:1")]);
        assert_eq!(found(&bench.run(builder))[..2], ["hello", builder]);
    }
    for password in ["not-the-sesame-78", &login.password] {
        assert!(!bench.master.log().contains(password));
        for path in ["/config", "/requests", "/builds", "/workers"] {
            assert!(!bench.api.get(path).to_string().contains(password), "{path}");
        }
    }
    remove_all(&bench, &docker);
    let _ = docker.try_run(&["image", "rm", "--force", &format!("{host}/{name}:1")]);
}

#[test]
fn each_host_makes_its_own() {
    let Some(mut lan) = Lan::new() else { return };
    let registry = Registry::start(lan.here());
    let scratch = Scratch::new();
    let hosts: Vec<Dockerd> =
        (0..2).map(|_| Dockerd::on(&mut lan, registry.address(), scratch.path())).collect();
    let base = format!("{}/base:1", registry.address());
    hosts[0].docker().busybox(&[]).push_as(&base);
    let text = dockerfile(&base);
    let repo = GitRepo::with(scratch.path(), "app", &[("ci/Dockerfile", &text), ("ci/greeting", "hello\n")]);
    let tls = lan.tls();
    let providers: String = hosts
        .iter()
        .enumerate()
        .map(|(n, host)| {
            format!("  h{n}: {{docker: {{host: '{}', tls: {tls}, workers: 1}}}}\n", host.address())
        })
        .collect();
    let config = format!(
        "codebases: {{app: {{git: '{}', branches: main}}}}\nproviders:\n{providers}\
         pools: {{own: {{docker: {{on: [h0, h1], build: {{file: ci/Dockerfile}}, network: none}}}}}}\n\
         builders:\n  unit: {{steps: [{{checkout: app}}, {{name: look, run: 'cat /greeting /v /word'}}, {{name: wait, run: sleep 2}}]}}\n",
        repo.url()
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let requests = [0, 1].map(|n| bench.start_with("unit", &json!({"properties": {"n": n.to_string()}})));
    let builds = requests.map(|request| bench.ended(request));
    let words = builds.each_ref().map(|build| found(build)[2].clone());
    assert_ne!(words[0], words[1], "both were on one host");
    let made = made_by(&bench, hosts[0].docker());
    assert_eq!((made.len(), &made), (1, &made_by(&bench, hosts[1].docker())));
    // From now on each has it.
    let again = found(&bench.run("unit"));
    assert!(words.contains(&again[2]), "{again:?} {words:?}");
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
}
