//! Workers that are stopped instead of ended, and come back with what they had.

use serde_json::json;

use crate::harness::builds::{run, run_green};
use crate::harness::{Docker, Master, Options, Scratch, wait};

#[test]
fn a_parked_container_comes_back_with_its_files_and_another_agent() {
    let Some(docker) = Docker::of_this_run() else { return };
    let scratch = Scratch::new();
    let image = docker.busybox(&[]);
    let config = |park: u8| {
        format!(
            "version: 1\npools:\n  box:\n    docker: {{image: '{}', pull: never, network: none, user: '0'}}\n    max: 1\n    reuse: {{builds: 9, idle: 1s}}\n    park: {park}\n\
             builders:\n  writes: {{pool: box, steps: [{{run: 'echo kept > /by-build-1; echo written'}}]}}\n  \
             reads: {{pool: box, steps: [{{run: 'cat /by-build-1; tr \"\\0\" \" \" < /proc/1/cmdline | grep -c join.json'}}]}}\n",
            image.name()
        )
    };
    let options = Options { docker: Some(docker.clone()), ..Options::default() };
    let mut master = Master::start(scratch.path(), &config(1), options);
    let api = master.api();
    let first = run(&api, "writes", json!({}));
    assert_eq!(first["result"], "success", "{first:#}");
    let worker = format!("/workers/{}", first["worker"]["name"].as_str().expect("it has a worker"));
    let parked = |word: &'static str| {
        api.until(word, &worker, wait::A_BUILD, |w| (w["phase"] == "parked").then(|| w.clone()))
    };
    let lies = parked("the idle worker to be parked");
    assert_eq!(
        (&lies["state"], &lies["wanted"], &lies["link"]),
        (&json!("parked"), &json!("park"), &json!("never"))
    );
    let reference = lies["provider_ref"].as_str().expect("it is there");
    let (_, container) = reference.split_once(':').expect("KEY:CONTAINER");
    let state = |of: &str| docker.run(&["container", "inspect", "--format", of, container]).trim().to_owned();
    assert_eq!(state("{{.State.Running}}"), "false");
    let list = String::from_utf8_lossy(&master.cli(&["worker", "list"]).stdout).into_owned();
    assert!(list.contains("parked"), "{list}");
    assert_eq!(run_green(&api, "reads", json!({})), "kept\n1\n", "outside of the work folder, too");
    let came = api.get(&worker);
    assert_eq!(came["builds_done"], 2, "{came:#}");
    let story = came["timeline"].to_string();
    for word in ["parking", "parked", "resuming"] {
        assert!(story.contains(&format!("\"{word}\"")), "{word}: {story}");
    }
    // Another master finds it where it lies.
    parked("it to be parked again");
    master.kill9();
    master.run();
    let api = master.api();
    assert_eq!(run_green(&api, "reads", json!({})), "kept\n1\n");
    assert_eq!(api.list("/workers").len(), 1, "nothing was launched");
    assert_eq!(state("{{.State.Running}}"), "true");
    // A pool that parks none any more ends what lies.
    api.until("it to be parked", &worker, wait::A_BUILD, |w| (w["phase"] == "parked").then_some(()));
    master.write_config(&config(0));
    master.reload();
    let gone = api.until("it to end", &worker, wait::A_BUILD, |w| (w["phase"] == "gone").then(|| w.clone()));
    assert_eq!(gone["cause"]["code"], "idle", "{gone:#}");
    master.leftovers().assert_no_workers(wait::SOON, master.pid());
}
