//! Builds whose steps turn on their own worker: as the agent's own user, as another one, and as root in a container. They look for what
//! would let them speak for the agent, meddle with what is between it and the master, and come with an identity of their own making.

use serde_json::{Value, json};

use super::must_say;
use crate::harness::{Bench, Build, Docker, Options, Scratch, wait};

/// Prints a line with LEAK for everything that should not have been possible. `agent` is the step's parent.
const ATTACK: &str = r#"
set +e
bad() { echo "LEAK: $*"; }
words() { tr '\0' '\n' < "/proc/$1/cmdline"; }
agent=$PPID
join=$(words $agent | grep 'join.json$')
binary=$(words $agent | grep 'rouse-agent$\|/bin/[0-9a-f]*$' | head -n 1)
link=$(dirname "$join")
test -n "$join" && test -n "$binary" && test -S "$link/sock" || bad "the attack does not know its way: $join $binary"
test -e "$join" && bad "the join document is there"
env | grep -i join_token && bad "the token is in the environment"
for file in environ mem maps auxv; do
  (: < /proc/$agent/$file && cat /proc/$agent/$file > /dev/null) 2> /dev/null && bad "the agent's $file can be read"
done
for number in 0 1 2 3 4 5 6 7 8 9; do
  readlink "/proc/$agent/fd/$number" > /dev/null 2>&1 && bad "the agent's descriptors can be followed"
  (: > "/proc/$agent/fd/$number") 2> /dev/null && bad "the agent's descriptors can be written to"
done
(echo x > "$link/other") 2> /dev/null && bad "the link folder can be written to"
rm -f "$link/sock" 2> /dev/null; test -S "$link/sock" || bad "the socket can be removed"
mv "$link" "$link.away" 2> /dev/null && bad "the link folder can be moved"
cat "$link/../record.json" > /dev/null 2>&1 && bad "the master's record can be read"
(echo x >> "$binary") 2> /dev/null && bad "the agent's file can be written to"
forge() {
  printf '{"version":1,"installation":"%s","worker":"%s","worker_id":%s,"join_token":"%064d","store_epoch":1,"endpoints":[{"unix":{"path":"%s/sock"}}],"work_dir":"%s/own","expiry_s":2}' \
    "$INSTALLATION" "$ROUSE_WORKER" "${ROUSE_WORKER_ID:-1}" 0 "$1" "$PWD" > forged.json
  "$binary" run --join forged.json --state own-state; echo "the forged agent ended with $?"
}
forge "$link"
"#;

/// The same against another worker of the host, whose user is another one.
const NEIGHBOUR: &str = r#"
base=$(dirname "$(dirname "$link")")
found=0
for place in /proc/[0-9]*; do
  pid=${place#/proc/}
  test "$pid" != "$agent" || continue
  other=$(words "$pid" 2> /dev/null | grep "^$base/.*/join.json$") || continue
  found=$((found + 1))
  there=$(dirname "$other")
  kill -9 "$pid" 2> /dev/null && bad "another worker's agent can be killed"
  kill -STOP "$pid" 2> /dev/null && bad "another worker's agent can be stopped"
  ls "$there" > /dev/null 2>&1 && bad "another worker's link folder can be listed"
  ls "$there/../work" > /dev/null 2>&1 && bad "another worker's files can be listed"
  (: < "$place/environ") 2> /dev/null && bad "another worker's environment can be read"
  forge "$there"
done
echo "neighbours: $found"
"#;

/// What only root would dare, and root as somebody else.
const ROOT: &str = r#"
test "$(id -u)" = 0 || bad "it is not root"
mount -o remount,rw,bind "$link" 2> /dev/null && bad "the link folder can be mounted anew"
mount -t tmpfs none /tmp 2> /dev/null && bad "something can be mounted"
mknod disk b 8 0 2> /dev/null && bad "a device can be made"
(echo x > /proc/sys/kernel/core_pattern) 2> /dev/null && bad "the kernel can be told things"
su user -c "kill -9 $agent" 2> /dev/null && bad "another user can kill the agent"
su user -c "cat /proc/$agent/environ" > /dev/null 2>&1 && bad "another user can read the agent's environment"
kill -9 $agent
echo "still here"
"#;

fn script(parts: &[&str]) -> String {
    // In a script of the configuration this is how a property comes in.
    format!("INSTALLATION={{{{ props.installation }}}}\n{}", parts.concat())
}

/// As a block of YAML, so deep.
fn block(script: &str) -> String {
    let indent = "\n            ";
    format!("|{indent}{}", script.trim().replace('\n', indent))
}

fn installation(bench: &Bench) -> Value {
    json!({"properties": {"installation": bench.api.get("/master")["installation"]}})
}

fn must_hold(build: &Build) -> String {
    let said = build.text("attack");
    build.must_be("success");
    assert!(!said.contains("LEAK"), "{said}");
    assert!(said.contains("the forged agent ended with 3"), "{said}");
    said
}

#[test]
fn a_step_cannot_speak_for_its_agent_nor_reach_another_worker() {
    if !nix::unistd::geteuid().is_root() {
        return rouse_testkit::back_ends::skip("needs root, for users of the workers' own");
    }
    let scratch = Scratch::new();
    let gate = scratch.path().join("gate");
    let config = format!(
        "pools: {{here: {{local: {{}}, max: 2}}}}\nbuilders:\n  quiet: {{steps: [{{name: wait, run: 'until [ -e {gate} ]; do sleep 0.1; done; echo undisturbed'}}]}}\n  \
         hostile:\n    steps:\n      - name: attack\n        run: {script}\n",
        gate = gate.display(),
        script = block(&script(&[ATTACK, NEIGHBOUR])),
    );
    let bench = Bench::within(scratch, &config, Options::default());
    let quiet = bench.start("quiet");
    bench.running(quiet, "the quiet step to run", |build| {
        build.has_step("wait") && build.step("wait")["logs"][0].is_object()
    });
    let hostile = bench.ended(bench.start_with("hostile", &installation(&bench)));
    let said = must_hold(&hostile);
    assert!(said.contains("not this worker's token"), "{said}");
    assert!(said.contains("neighbours: 1"), "{said}");
    // It never got as far as the other worker's socket, and gave up.
    assert!(said.contains("the forged agent ended with 4"), "{said}");
    must_say(&bench.api, hostile.detail["worker"]["id"].as_i64().expect("a worker"), &["bad_token"]);
    std::fs::write(&gate, "").expect("the folder is ours");
    let quiet = bench.ended(quiet);
    quiet.must_be("success");
    assert_eq!(quiet.text("wait"), "undisturbed\n");
    assert_eq!(quiet.detail["attempt"], 1);
}

#[test]
fn a_step_in_a_container_cannot_either_not_even_as_root() {
    let Some(docker) = Docker::of_this_run() else { return };
    let image = docker.busybox(&[]);
    let pool = |name: &str, user: &str| {
        format!(
            "  {name}: {{docker: {{image: '{}', pull: never, network: none, user: '{user}'}}}}\n",
            image.name()
        )
    };
    let builder = |name: &str, pool: &str, script: &str| {
        format!(
            "  {name}:\n    pool: {pool}\n    retries: 1\n    steps:\n      - name: attack\n        run: {}\n",
            block(script)
        )
    };
    let config = format!(
        "pools:\n{}{}builders:\n{}{}{}",
        pool("root", "0"),
        pool("user", "1000"),
        builder("root", "root", &script(&[ATTACK, ROOT])),
        builder("user", "user", &script(&[ATTACK])),
        builder("ends", "root", "kill -TERM $PPID; sleep 600"),
    );
    let bench =
        Bench::within(Scratch::new(), &config, Options { docker: Some(docker), ..Options::default() });
    let wish = installation(&bench);
    let requests = ["root", "user"].map(|builder| bench.start_with(builder, &wish));
    let ends = bench.start("ends");
    for request in requests {
        let build = bench.ended(request);
        let said = must_hold(&build);
        assert!(said.contains("not this worker's token") || said.contains("no such worker here"), "{said}");
        let worker = build.detail["worker"]["id"].as_i64().expect("a worker");
        bench.api.until("the refusal", &format!("/workers/{worker}"), wait::SOON, |_| {
            (!super::refusals(&bench.api, worker).is_empty()).then_some(())
        });
    }
    // Who ends its agent has lost its worker: tried again as often as may be, and never red.
    let build = bench.ended(ends);
    build.must_be("exception");
    assert!(build.summary().contains("given up after 2 attempts"), "{}", build.summary());
}
