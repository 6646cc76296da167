//! Agents that come by TLS: from a container's own network, through a restart of the master, under changed names; and whom they refuse.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::builds::{explained, run_green, start};
use crate::harness::master::ROUSE;
use crate::harness::{Bench, Docker, GitRepo, Master, Options, Scratch, wait};

/// A port that is free at an address of this host.
fn free_port(address: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("a port is free");
    listener.local_addr().expect("a port has an address").port()
}

/// How this host is seen from containers on the daemon's usual network.
fn gateway(docker: &Docker) -> Ipv4Addr {
    let format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
    let gateways = docker.run(&["network", "inspect", "bridge", "--format", format]);
    let gateway = gateways.split_whitespace().find_map(|address| address.parse().ok());
    gateway.expect("the usual network has a gateway of IPv4")
}

/// The tree comes from the master, a file goes back to it, and between the two the master is killed.
const STEPS: &str = r#"
    steps:
      - checkout: app
      - name: wait
        run: |
          cat file
          if cat /.rouse/link/join.json 2>/dev/null; then echo "the token is there to be read"; fi
          n=0
          until [ -e gate ]; do echo waiting; sleep 0.2; n=$((n + 1)); if [ $n -ge 40 ]; then touch gate; fi; done
          head -c 2000000 /dev/urandom > made
          sha256sum made
      - {name: keep, upload: {paths: made, as: things}}
      - {name: drop, run: rm made}
      - {name: fetch, download: {artifact: things}}
      - {name: look, run: sha256sum made}
"#;

#[test]
fn a_build_in_a_container_comes_by_tls_and_outlives_its_master() {
    let Some(docker) = Docker::of_this_run() else { return };
    let gateway = gateway(&docker);
    let agents = format!("{gateway}:{}", free_port(gateway));
    let image = docker.busybox(&[]);
    let scratch = Scratch::new();
    let repo = GitRepo::with(scratch.path(), "app", &[("file", "from the repository\n")]);
    let config = format!(
        "server: {{agents: {{advertise: {{away: '{agents}'}}}}}}\ncodebases:\n  app: {{git: '{}'}}\n\
         pools:\n  away: {{docker: {{image: '{}', pull: never, read_only: true}}}}\nbuilders:\n  build:{STEPS}",
        repo.url(),
        image.name(),
    );
    let options = Options {
        docker: Some(docker),
        flags: vec!["--agents-listen".into(), agents.clone()],
        ..Options::default()
    };
    let mut bench = Bench::within(scratch, &config, options);
    let request = bench.start("build");
    let running = bench.running(request, "the step to print", |build| {
        build.has_step("wait") && build.step("wait")["logs"][0]["bytes"].as_i64().unwrap_or(0) > 0
    });
    bench.master.kill9();
    bench.master.run();
    bench.api = bench.master.api();
    let build = bench.ended(request);
    build.must_be("success");
    assert_eq!(build.id(), running.id(), "the same attempt, by an agent that found its master again");
    let said = build.text("wait");
    assert!(said.starts_with("from the repository\n"), "{said}");
    assert!(!said.contains("there to be read"), "{said}");
    assert_eq!(said.lines().last().map(str::to_owned), build.text("look").lines().last().map(str::to_owned));
    assert_eq!(bench.master.log().matches("agent attached").count(), 2, "once for each life of the master");
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
}

/// Lines of a build that runs on, ten each second.
const LINES: usize = 400;

/// The host's end of a container's only cable, and the bridge that it is plugged into.
struct Cable {
    end: String,
    bridge: String,
}

impl Cable {
    fn of(docker: &Docker, container: &str) -> Self {
        let number = docker.run(&["exec", container, "cat", "/sys/class/net/eth0/iflink"]);
        let of_host =
            |name: &str, what: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{what}"));
        let mut names = std::fs::read_dir("/sys/class/net").expect("it is mounted").flatten();
        let is_end =
            |name: &String| of_host(name, "ifindex").is_ok_and(|index| index.trim() == number.trim());
        let end = names.find_map(|entry| entry.file_name().into_string().ok().filter(is_end));
        let end = end.expect("the other end is on this host");
        let bridge = std::fs::read_link(format!("/sys/class/net/{end}/master")).expect("it is plugged in");
        let bridge = bridge.file_name().expect("a name").to_string_lossy().into_owned();
        Self { end, bridge }
    }

    /// No packet passes, and nobody is told.
    fn unplug(&self) {
        self.set(&["nomaster"]);
    }

    fn plug_in(&self) {
        self.set(&["master", &self.bridge]);
    }

    fn set(&self, to: &[&str]) {
        let status = Command::new("ip").args(["link", "set", &self.end]).args(to).status();
        assert!(status.expect("ip is installed").success(), "{} {to:?}", self.end);
    }
}

#[test]
fn a_connection_that_is_half_open_is_given_up_by_both_sides_and_nothing_is_lost() {
    let Some(docker) = Docker::of_this_run() else { return };
    let gateway = gateway(&docker);
    let agents = format!("{gateway}:{}", free_port(gateway));
    let image = docker.busybox(&[]);
    let config = format!(
        "server: {{agents: {{advertise: {{away: '{agents}'}}}}}}\npools:\n  away: {{docker: {{image: '{}', pull: never}}}}\n\
         builders:\n  build:\n    steps:\n      - name: count\n        run: |\n          [ ! -e ran ] || echo again\n          touch ran\n          \
         n=0; while [ $n -lt {LINES} ]; do n=$((n + 1)); echo \"line $n\"; sleep 0.1; done\n      - {{name: after, run: echo after}}\n",
        image.name(),
    );
    let flags = vec!["--agents-listen".into(), agents];
    let options = Options { docker: Some(docker.clone()), flags, ..Options::default() };
    let bench = Bench::within(Scratch::new(), &config, options);
    let request = bench.start("build");
    bench.running(request, "the step to print", |build| {
        build.has_step("count") && build.step("count")["logs"][0]["bytes"].as_i64().unwrap_or(0) > 0
    });
    let filter = format!("ancestor={}", image.name());
    let container = docker.run(&["ps", "--quiet", "--filter", &filter]);
    let cable = Cable::of(&docker, container.trim());
    cable.unplug();
    let worker = |link: &'static str| {
        bench
            .api
            .until(link, "/workers", wait::A_BUILD, |all| (all["items"][0]["link"] == link).then_some(()));
    };
    worker("silent");
    // The agent hears nothing for as long as the master does not, and is not told that its connection was given up.
    cable.plug_in();
    worker("attached");
    let build = bench.ended(request);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1, "{:#}", build.detail);
    let whole: String = (1..=LINES).map(|n| format!("line {n}\n")).collect();
    assert_eq!(build.text("count"), whole, "once, and all of it");
    assert_eq!(build.text("after"), "after\n");
    assert_eq!(bench.master.log().matches("agent attached").count(), 2, "before and after");
    bench.master.leftovers().assert_no_workers(wait::SOON, bench.master.pid());
}

const HERE: &str = "pools:\n  here: {local: {}, reuse: {builds: 100, idle: 5m}}\n  other: {local: {}, reuse: {builds: 100, idle: 5m}}\n\
                    builders:\n  one: {pool: here, steps: [{run: echo one}]}\n  two: {pool: other, steps: [{run: echo two}]}\n";

#[test]
fn names_may_change_while_agents_are_there_and_a_forged_master_is_refused() {
    let port = free_port(Ipv4Addr::LOCALHOST);
    let agents = format!("127.0.0.1:{port}");
    let config =
        |advertise: &str| format!("version: 1\nserver: {{agents: {{advertise: {{{advertise}}}}}}}\n{HERE}");
    let scratch = Scratch::new();
    let options = Options { flags: vec!["--agents-listen".into(), agents.clone()], ..Options::default() };
    let mut master = Master::start(scratch.path(), &config(&format!("here: '{agents}'")), options);
    let api = master.api();
    assert_eq!(run_green(&api, "one", json!({})), "one\n");
    // Another name; the old one holds for the worker that was told it.
    master.write_config(&config(&format!("other: 'localhost:{port}'")));
    master.reload();
    wait::until_true("a certificate for both names", wait::SOON, || {
        master.log().lines().any(|line| {
            line.contains("has a new certificate") && line.contains("127.0.0.1") && line.contains("localhost")
        })
    });
    assert_eq!(run_green(&api, "two", json!({})), "two\n");
    master.restart();
    let api = master.api();
    for (builder, words) in [("one", "one\n"), ("two", "two\n")] {
        assert_eq!(run_green(&api, builder, json!({})), words);
    }
    let workers = api.list("/workers");
    assert_eq!(workers.len(), 2, "both went on with the master that was started again: {workers:#?}");
    // An agent whose join document tells it to trust somebody else.
    let said = refused(scratch.path(), &agents);
    assert!(said.contains("not of this installation's authority"), "{said}");
}

/// What an agent says that has another authority in its join document, until it gives up.
fn refused(folder: &Path, address: &str) -> String {
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let join = json!({
        "version": 1, "installation": "i", "worker": "w", "worker_id": 1, "join_token": "t", "store_epoch": 1,
        "endpoints": [{"tls": {"address": address, "ca": stranger.cert.pem()}}],
        "work_dir": folder.join("forged/work"), "expiry_s": 2.0,
    });
    std::fs::create_dir(folder.join("forged")).expect("made");
    let file = folder.join("forged/join.json");
    std::fs::write(&file, join.to_string()).expect("written");
    let agent = Path::new(ROUSE).with_file_name("agents").join("linux-x86_64/rouse-agent");
    let mut command = Command::new(agent);
    command.arg("run").arg("--join").arg(file).stdin(Stdio::null());
    let output = command.output().expect("the agent starts");
    assert_eq!(output.status.code(), Some(4), "no master was heard");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_stands_in_the_way_of_agents_is_said_at_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("an address").port();
    let scratch = Scratch::new();
    let config =
        format!("version: 1\nserver: {{agents: {{advertise: {{here: '127.0.0.1:{port}'}}}}}}\n{HERE}");
    let said = |flags: &[&str]| {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut master = Master::prepare(scratch.path(), &config, Options { flags, ..Options::default() });
        let before = master.log().len();
        master.spawn();
        assert!(!master.wait_for_end(wait::SOON).success());
        master.log()[before..].to_owned()
    };
    let without = said(&[]);
    assert!(without.contains("pool `here`") && without.contains("--agents-listen"), "{without}");
    let occupied = said(&["--agents-listen", &format!("127.0.0.1:{port}")]);
    assert!(occupied.contains(&format!("listen for agents on 127.0.0.1:{port}")), "{occupied}");
    assert!(occupied.contains("in use"), "{occupied}");
    // Advertised later than the start: whoever asks why a request waits is told what to do.
    let plain = format!("version: 1\n{HERE}");
    let mut master = Master::start(scratch.path(), &plain, Options::default());
    let api = master.api();
    let before = api.get("/master")["config"].clone();
    master.write_config(&config);
    master.reload();
    api.until("the new configuration", "/master", wait::SOON, |now| (now["config"] != before).then_some(()));
    let request = start(&api, "one", json!({}));
    let message = explained(&api, request, "the launch to be refused", |explained| {
        explained["failures"][0]["message"].as_str().map(str::to_owned)
    });
    assert!(message.contains("--agents-listen"), "{message}");
    master.stop();
}
