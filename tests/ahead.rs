//! What is coming is known before it waits: its images are on a host by then, and no worker is.

use rouse_testkit::back_ends;

use crate::harness::builds::{explained, printed};
use crate::harness::scratch::unique;
use crate::harness::{Bench, Docker, GitRepo, Options, Scratch, wait};

#[test]
fn images_are_pulled_before_their_builds_can_run() {
    let (Some(docker), Some(registry)) = (Docker::of_this_run(), back_ends::registry()) else { return };
    let images: Vec<String> = ["after", "settling", "locked"]
        .map(|what| {
            let image = docker.busybox(&[&format!("ENV SAYS={what}")]);
            let name = format!("{registry}/{}:1", unique(what));
            image.push_as(&name);
            name
        })
        .into();
    let [after, settling, locked] = images.as_slice() else { unreachable!("three") };
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "1\n")]);
    let out = scratch.folder("out");
    let says = |image: &str| format!("properties: {{image: '{image}'}}, steps: [{{run: 'echo $SAYS'}}]");
    let waits = format!("steps: [{{run: 'until [ -e {}/go ]; do sleep 0.1; done'}}]", out.display());
    let config = format!(
        "codebases: {{app: {{git: '{}', poll: 1s}}}}\nlocks: {{one: 1}}\npools:\n  here: {{local: {{}}, max: 2}}\n  \
         boxes: {{docker: {{image: '{{{{ props.image }}}}', pull: missing, network: none}}}}\nbuilders:\n  \
         first: {{pool: here, {waits}}}\n  second: {{pool: boxes, {}}}\n  calm: {{pool: boxes, {}}}\n  \
         holder: {{pool: here, locks: {{one: exclusive}}, {waits}}}\n  waiter: {{pool: boxes, locks: {{one: exclusive}}, {}}}\nschedulers:\n  \
         push: {{changes: {{app: {{branch: main}}}}, builders: first}}\n  then: {{after: push, builders: second}}\n  \
         quiet: {{changes: {{app: {{branch: main}}}}, settle: 10m, builders: calm}}\n",
        repo.url(),
        says(after),
        says(settling),
        says(locked)
    );
    let options = Options { docker: Some(docker.clone()), ..Options::default() };
    let bench = Bench::within(scratch, &config, options);
    bench.api.until_looked(&["app"]);
    let holder = bench.start("holder");
    bench.running(holder, "the lock to be taken", |build| !build.steps().is_empty());
    let waiter = bench.start("waiter");
    repo.land("main", "2", &[("file", "2\n")]);
    let is_there = |image: &String| docker.try_run(&["image", "inspect", image]).is_ok();
    wait::until_true("the images", wait::A_BUILD, || images.iter().all(is_there));
    let code = |explained: &serde_json::Value| explained["primary"]["code"].as_str().map(str::to_owned);
    assert_eq!(explained(&bench.api, waiter, "a reason", code), "lock_taken");
    assert!(
        bench.api.list("/workers").iter().all(|worker| worker["pool"] != "boxes"),
        "nobody wants one yet"
    );
    std::fs::write(out.join("go"), "").expect("it is ours");
    bench.ended(holder).must_be("success");
    assert_eq!(printed(&bench.api, &bench.ended(waiter).detail), "locked\n");
    let second = &bench.api.until_buildsets("then", 1)[0]["id"];
    let second = bench.api.get(&format!("/buildsets/{second}"))["requests"][0]["id"].as_i64();
    assert_eq!(printed(&bench.api, &bench.ended(second.expect("it has one")).detail), "after\n");
    assert!(bench.api.buildsets("quiet").is_empty(), "it is not quiet yet");
    for image in &images {
        let _ = docker.try_run(&["image", "rm", image]);
    }
}
