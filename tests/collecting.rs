//! Images that were pulled for builds go again once they are more than a host is to keep; what was there before, is used or wanted stays.

use std::collections::BTreeSet;

use serde_json::json;

use rouse_testkit::back_ends;

use crate::harness::builds::{printed, run_green, start};
use crate::harness::dockerd::Dockerd;
use crate::harness::scratch::unique;
use crate::harness::{Bench, Docker, GitRepo, Master, Options, Scratch, wait};

const SAYS: &str = "[{run: 'echo $SAYS'}]";

/// The tags of ours on a daemon.
fn marks(docker: &Docker) -> Vec<String> {
    let listed = docker.run(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    listed.lines().filter(|name| name.starts_with("rouse-pulled/")).map(str::to_owned).collect()
}

#[test]
fn the_ones_that_were_not_used_for_longest_go_and_nothing_else() {
    let (Some(docker), Some(registry)) = (Docker::of_this_run(), back_ends::registry()) else { return };
    let Some(daemon) = Dockerd::start() else { return };
    let here = daemon.docker();
    let names: Vec<String> =
        ["before", "a", "b", "c", "d"].iter().map(|name| format!("{registry}/{}:1", unique(name))).collect();
    let mut size = 0;
    for (name, says) in names.iter().zip(["before", "a", "b", "c", "d"]) {
        let image = docker.busybox(&[&format!("ENV SAYS={says}")]);
        size = docker
            .run(&["image", "inspect", "--format", "{{.Size}}", image.name()])
            .trim()
            .parse::<u64>()
            .expect("a size");
        image.push_as(name);
    }
    let [before, a, b, c, d] = names.as_slice() else { panic!("five") };
    here.run(&["pull", "--quiet", before]);
    let has = |name: &str| {
        let repository = name.rsplit_once(':').expect("a tag").0;
        !here.run(&["image", "ls", "--quiet", repository]).trim().is_empty()
    };
    let gone = |name: &str| wait::until_true(&format!("{name} to go"), wait::A_BUILD, || !has(name));
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    let config = format!(
        "version: 1\nproviders: {{own: {{docker: {{host: '{host}', images: {{keep: {keep} B}}}}}}}}\npools:\n  \
         boxes: {{docker: {{on: own, image: '{{{{ props.image }}}}', network: none, mounts: [{{source: '{go}', target: /go}}]}}, max: 1}}\n\
         builders:\n  says: {{pool: boxes, steps: {SAYS}}}\n  \
         waits: {{pool: boxes, steps: [{{run: 'until [ -e /go/on ]; do sleep 0.1; done; echo $SAYS'}}]}}\n",
        host = here.host(),
        keep = size * 5 / 2,
        go = go.display(),
    );
    let mut master =
        Master::start(scratch.path(), &config, Options { docker: Some(here.clone()), ..Options::default() });
    let says = |master: &Master, image: &str| run_green(&master.api(), "says", json!({"image": image}));
    // Two of them and one that was there before: nothing has to go.
    assert_eq!(says(&master, before), "before\n");
    assert_eq!(says(&master, a), "a\n");
    assert_eq!(says(&master, b), "b\n");
    assert_eq!(marks(here).len(), 2, "{:?}", marks(here));
    // The third; `a` has been used since `b` was. What is on record outlives the master.
    assert_eq!(says(&master, a), "a\n");
    master.kill9();
    master.run();
    assert_eq!(says(&master, c), "c\n");
    gone(b);
    assert!(has(a) && has(c) && has(before));
    // Now `a` would have to go, which somebody's container has: so it is `c`, however lately it was used.
    let held = here.run(&["create", a, "sh"]).trim().to_owned();
    assert_eq!(says(&master, d), "d\n");
    gone(c);
    assert!(has(a) && has(d) && has(before));
    // One that runs or is waited for stays; then the other goes.
    here.run(&["rm", &held]);
    let waiting = start(&master.api(), "waits", json!({"image": a}));
    let next = start(&master.api(), "says", json!({"image": b}));
    gone(d);
    assert!(has(a) && has(b));
    std::fs::write(go.join("on"), "").expect("written");
    for request in [waiting, next] {
        let build = master.api().until_built(request);
        assert_eq!(build["result"], "success", "{build:#}");
    }
    assert!(has(before) && marks(here).len() == 2, "{:?}", marks(here));
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
    drop(master);
}

/// What a project's Dockerfile gives says who it is by a word that it has drawn when it was made.
#[test]
fn so_do_those_that_were_made_and_they_are_made_anew_when_they_are_wanted() {
    let Some(daemon) = Dockerd::start() else { return };
    let here = daemon.docker();
    let base = here.busybox(&[]);
    let size = here.run(&["image", "inspect", "--format", "{{.Size}}", base.name()]);
    let size: u64 = size.trim().parse().expect("a size");
    let scratch = Scratch::new();
    let go = scratch.folder("go");
    let text = format!(
        "FROM {}\nARG V=none\nRUN head -c 9 /dev/urandom | base64 > /word && echo $V > /v\n",
        base.name()
    );
    let repo = GitRepo::with(scratch.path(), "app", &[("ci/Dockerfile", &text)]);
    let config = format!(
        "codebases: {{app: {{git: '{repo}', branches: main}}}}\n\
         providers: {{own: {{docker: {{host: '{host}', images: {{keep: {keep} B}}}}}}}}\npools:\n  \
         boxes: {{docker: {{on: own, build: {{file: ci/Dockerfile, args: {{V: '{{{{ props.v }}}}'}}, network: none}}, network: none, \
         mounts: [{{source: '{go}', target: /go}}]}}, max: 2}}\n\
         builders:\n  says: {{pool: boxes, steps: [{{checkout: app}}, {{run: cat /v /word}}]}}\n  \
         waits: {{pool: boxes, steps: [{{checkout: app}}, {{name: wait, run: 'until [ -e /go/on ]; do sleep 0.1; done; cat /v /word'}}]}}\n",
        repo = repo.url(),
        host = here.host(),
        keep = size * 5 / 2,
        go = go.display(),
    );
    let options = Options { docker: Some(here.clone()), ..Options::default() };
    let bench = Bench::within(scratch, &config, options);
    // The word of the image that is for a value.
    let word = |v: &str| {
        let said = run_green(&bench.api, "says", json!({"v": v}));
        said.strip_prefix(&format!("{v}\n")).unwrap_or_else(|| panic!("{v}: {said}")).to_owned()
    };
    let made = || {
        let list = ["image", "ls", "--filter", "reference=rouse-built/*", "--format", "{{.Tag}}"];
        let listed = here.run(&list);
        listed.lines().map(str::to_owned).collect::<BTreeSet<String>>()
    };
    // What is there now and was not before.
    let new = |before: &BTreeSet<String>| {
        let now = made();
        let mut new = now.difference(before).cloned();
        let one = new.next().expect("one was made");
        assert_eq!(new.next(), None);
        one
    };
    let gone = |tag: &str| wait::until_true("an image to go", wait::A_BUILD, || !made().contains(tag));
    let first = word("a");
    let a = new(&BTreeSet::new());
    let second = word("b");
    let b = new(&BTreeSet::from([a.clone()]));
    // The third; `a` has been used since `b` was, and is the one that it was.
    assert_eq!(word("a"), first);
    let third = word("c");
    gone(&b);
    let c = new(&BTreeSet::from([a.clone()]));
    // It is wanted again, and made anew; now `a` is the one that was not used for longest.
    let anew = word("b");
    assert_ne!(anew, second);
    gone(&a);
    assert_eq!(made(), BTreeSet::from([b.clone(), c.clone()]));
    // One that is in use stays, though another was used since.
    let waiting = start(&bench.api, "waits", json!({"v": "c"}));
    bench.running(waiting, "the build to wait", |build| build.has_step("wait"));
    assert_eq!(word("b"), anew);
    assert_ne!(word("a"), first);
    gone(&b);
    assert_eq!(made(), BTreeSet::from([a, c]));
    std::fs::write(go.join("on"), "").expect("written");
    let build = bench.api.until_built(waiting);
    assert_eq!(printed(&bench.api, &build), format!("c\n{third}"), "{build:#}");
    // What they were made from was there before.
    here.run(&["image", "inspect", base.name()]);
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
    drop(bench);
}
