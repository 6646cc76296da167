//! The master's binary is replaced under running builds: none is retried, whichever version of the protocol its agent speaks.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::master::ROUSE;
use crate::harness::{Bench, Options, Scratch, wait};

const BUILDS: usize = 20;

/// A copy of the master with agents beside it, where everybody may read them.
fn installed(scratch: &Scratch, agent: impl FnOnce(&Path)) -> PathBuf {
    let folder = scratch.folder("bin");
    let agents = folder.join("agents").join(format!("linux-{}", std::env::consts::ARCH));
    std::fs::create_dir_all(&agents).expect("made");
    for path in [scratch.path(), &folder, &folder.join("agents"), &agents] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }
    agent(&agents);
    let binary = folder.join("rouse");
    replace(&binary);
    binary
}

/// As an upgrade does it: a new file in the place of one that runs.
fn replace(binary: &Path) {
    let next = binary.with_extension("next");
    std::fs::copy(ROUSE, &next).expect("copied");
    std::fs::rename(&next, binary).expect("renamed");
}

/// The agent that is shipped.
fn ours(folder: &Path) {
    let shipped = Path::new(ROUSE).with_file_name("agents").join(folder.file_name().expect("named"));
    std::fs::copy(shipped.join("rouse-agent"), folder.join("rouse-agent")).expect("copied");
}

/// The second agent, which stays at version 1 of the protocol.
fn python(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("worker-agent/python");
    for file in ["rouse_agent.py", "rouse_work.py", "ed25519.py"] {
        std::fs::copy(source.join(file), folder.join(file)).expect("copied");
        std::fs::set_permissions(folder.join(file), std::fs::Permissions::from_mode(0o644)).expect("ours");
    }
    let script = format!("#!/bin/sh\nexec python3 -S -E {}/rouse_agent.py \"$@\"\n", folder.display());
    let program = folder.join("rouse-agent");
    std::fs::write(&program, script).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
}

fn builds_go_on_under_the_next_binary(agent: fn(&Path)) {
    let scratch = Scratch::new();
    let gate = scratch.folder("open");
    std::fs::set_permissions(&gate, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let binary = installed(&scratch, agent);
    let config = format!(
        "pools:\n  here: {{local: {{}}, max: {BUILDS}}}\nbuilders:\n  long:\n    retries: 3\n    steps:\n      \
         - name: work\n        run: 'echo begun; n=0; until [ -e {}/gate ]; do n=$((n + 1)); echo \"line $n\"; sleep 0.3; done; echo $n > count; echo over'\n      \
         - {{name: after, run: 'echo after $(cat count)'}}\n",
        gate.display()
    );
    let options = Options { binary: Some(binary.clone()), ..Options::default() };
    let mut bench = Bench::within(scratch, &config, options);
    let requests: Vec<i64> = (0..BUILDS).map(|_| bench.start("long")).collect();
    bench.api.until("all to run", "/builds?open=true&limit=100", wait::A_BUILD * 3, |builds| {
        let begun = |build: &&Value| {
            let detail = bench.api.get(&format!("/builds/{}", build["id"]));
            detail["steps"][0]["logs"][0]["bytes"].as_i64().unwrap_or(0) > 0
        };
        (builds["items"].as_array()?.iter().filter(begun).count() == BUILDS).then_some(())
    });
    let said = bench.cli(&["stop", "--handover"]);
    assert!(said.contains("20 builds go on on their workers; start a master within 600 s"), "{said}");
    assert!(bench.master.wait_for_end(wait::SOON).success());
    replace(&binary);
    bench.master.run();
    bench.api = bench.master.api();
    // What they printed meanwhile comes by itself, and they end when they are let.
    std::fs::write(gate.join("gate"), "").expect("written");
    for request in requests {
        let build = bench.ended(request);
        build.must_be("success");
        assert_eq!(build.detail["attempt"], 1, "{:#}", build.detail);
        let text = build.text("work");
        let lines: Vec<&str> = text.lines().collect();
        let count = lines.len() - 2;
        let expected = std::iter::once("begun".to_owned())
            .chain((1..=count).map(|n| format!("line {n}")))
            .chain(std::iter::once("over".to_owned()));
        assert!(lines.iter().copied().eq(expected), "{text}");
        assert_eq!(build.text("after"), format!("after {count}\n"));
    }
    assert_eq!(bench.api.list("/builds").len(), BUILDS, "none was built again");
    assert_eq!(bench.api.list("/workers").len(), BUILDS, "no worker was made in place of another");
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
}

#[test]
fn twenty_builds_of_our_agent_go_on_under_the_next_binary() {
    builds_go_on_under_the_next_binary(ours);
}

#[test]
fn twenty_builds_of_the_agent_in_python_go_on_under_the_next_binary() {
    builds_go_on_under_the_next_binary(python);
}
