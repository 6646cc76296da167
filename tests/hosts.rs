//! One pool on several Docker hosts, none of which has a file of the master's: each a daemon in a network of its own, spoken to by TLS.

use std::fmt::Write;
use std::time::Instant;

use serde_json::json;

use crate::harness::builds::explained;
use crate::harness::{
    Bench, Build, Docker, Dockerd, GitRepo, Lan, Options, Registry, Scratch, Sshd, processes, wait,
};

const NAMES: [&str; 3] = ["b1", "b2", "b3"];

/// In each container: where it is, what the master sent, and then until somebody lets it go on.
const STEPS: &str = r#"
    steps:
      - checkout: app
      - name: where
        run: |
          if cat /.rouse/link/join.json 2>/dev/null; then echo "the token is there to be read"; fi
          cat file
          echo ip $(hostname -i)
          hostname > made
      - {name: keep, upload: {paths: made, as: things}}
      - {name: wait, run: 'until [ -e /tmp/go ]; do sleep 0.1; done'}
"#;

/// The configuration in which these hosts are drained.
type Config = Box<dyn Fn(&[&str]) -> String>;

struct Scene {
    // In this order: the master ends before its hosts, and these before their network.
    bench: Bench,
    hosts: Vec<Dockerd>,
    config: Config,
    _registry: Registry,
    _lan: Lan,
}

impl Scene {
    /// Three hosts that take two workers each.
    fn new() -> Option<Self> {
        let mut lan = Lan::new()?;
        let registry = Registry::start(lan.here());
        let scratch = Scratch::new();
        let hosts: Vec<Dockerd> =
            (0..3).map(|_| Dockerd::on(&mut lan, registry.address(), scratch.path())).collect();
        let image = format!("{}/app:main", registry.address());
        publish(hosts[2].docker(), &image, "first");
        let repo = GitRepo::with(scratch.path(), "app", &[("file", "from the repository\n")]);
        let agents = lan.free_address();
        let tls = lan.tls();
        let addresses: Vec<String> = hosts.iter().map(Dockerd::address).collect();
        let (advertised, repository) = (agents.clone(), repo.url());
        let config = move |drained: &[&str]| {
            let mut providers = String::new();
            for (n, address) in addresses.iter().enumerate() {
                let account = json!({"docker": {"host": address, "tls": tls, "workers": 2}, "drain": drained.contains(&NAMES[n])});
                writeln!(providers, "  {}: {account}", NAMES[n]).expect("written");
            }
            format!(
                "version: 1\nserver: {{agents: {{advertise: {{boxes: '{advertised}'}}}}}}\ncodebases:\n  app: {{git: '{repository}', poll: never}}\nproviders:\n{providers}\
                 pools:\n  boxes: {{docker: {{on: [b1, b2, b3], image: '{image}', pull: newer}}, max: 20}}\nbuilders:\n  build:{STEPS}"
            )
        };
        let text = config(&[]);
        let options = Options { flags: vec!["--agents-listen".into(), agents], ..Options::default() };
        let bench = Bench::within(scratch, text.strip_prefix("version: 1\n").expect("it begins so"), options);
        Some(Self { bench, hosts, config: Box::new(config), _registry: registry, _lan: lan })
    }

    fn start(&self, count: usize) -> Vec<i64> {
        (0..count).map(|_| self.bench.start("build")).collect()
    }

    /// The builds that wait in their containers, once so many do.
    fn waiting(&self, count: usize) -> Vec<Build> {
        self.bench.api.until("builds to wait", "/builds?open=true", wait::A_BUILD, |builds| {
            let ids = builds["items"].as_array()?.iter().filter_map(|build| build["id"].as_i64());
            let waiting: Vec<Build> =
                ids.map(|id| self.bench.build(id)).filter(|build| build.has_step("wait")).collect();
            (waiting.len() == count).then_some(waiting)
        })
    }

    /// Lets all that wait in containers of a host go on.
    fn let_go(&self, host: usize) {
        let docker = self.hosts[host].docker();
        for id in docker.run(&["ps", "--quiet"]).split_whitespace() {
            // One that has ended meanwhile needs nothing.
            let _ = docker.try_run(&["exec", id, "touch", "/tmp/go"]);
        }
    }

    /// How many workers each host has.
    fn spread(&self) -> Vec<usize> {
        let workers = self.bench.api.list("/workers");
        let on =
            |name: &str| workers.iter().filter(|w| w["provider"] == name && w["phase"] != "gone").count();
        NAMES.map(on).to_vec()
    }

    /// The host of a build's worker.
    fn host_of(&self, build: &Build) -> usize {
        let worker = self.bench.api.get(&format!("/workers/{}", build.detail["worker"]["id"]));
        NAMES.iter().position(|name| worker["provider"] == *name).expect("it is on one of ours")
    }

    fn drain(&self, hosts: &[&str]) {
        let before = self.bench.api.get("/master")["config"].clone();
        self.bench.master.write_config(&(self.config)(hosts));
        self.bench.master.reload();
        self.bench.api.until("the new configuration", "/master", wait::SOON, |now| {
            (now["config"] != before).then_some(())
        });
    }

    fn succeed(&self, requests: &[i64]) -> Vec<Build> {
        let ended = requests.iter().map(|request| {
            let build = self.bench.ended(*request);
            build.must_be("success");
            build
        });
        ended.collect()
    }

    fn assert_nothing_left(&self) {
        for host in &self.hosts {
            wait::until_true("all containers to go", wait::A_BUILD, || {
                host.docker().run(&["ps", "--all", "--quiet"]).trim().is_empty()
            });
        }
    }
}

/// Puts a new image under a name in a registry.
fn publish(docker: &Docker, name: &str, says: &str) {
    let image = docker.busybox(&[&format!("ENV SAYS={says}")]);
    docker.run(&["tag", image.name(), name]);
    docker.run(&["push", "--quiet", name]);
    docker.run(&["image", "rm", name]);
}

#[test]
fn a_pool_on_three_hosts_fills_each_of_them_and_says_when_all_are_full() {
    let Some(scene) = Scene::new() else { return };
    let requests = scene.start(7);
    let waiting = scene.waiting(6);
    assert_eq!(scene.spread(), [2, 2, 2]);
    let mut networks: Vec<String> = waiting
        .iter()
        .map(|build| {
            let said = build.text("where");
            assert!(said.starts_with("from the repository\n"), "{said}");
            let ip = said.lines().find_map(|line| line.strip_prefix("ip ")).expect("it says where it is");
            ip.rsplit_once('.').expect("an address").0.to_owned()
        })
        .collect();
    networks.sort_unstable();
    networks.dedup();
    assert_eq!(networks.len(), 3, "each host has a network of its own: {networks:?}");
    let seventh = requests
        .iter()
        .copied()
        .find(|request| waiting.iter().all(|build| build.detail["request"] != *request));
    let seventh = seventh.expect("one of them waits");
    let sentence = explained(&scene.bench.api, seventh, "the providers to be full", |explained| {
        let primary = &explained["primary"];
        (primary["code"] == "providers_full")
            .then(|| primary["sentence"].as_str().unwrap_or_default().to_owned())
    });
    for host in NAMES {
        assert!(sentence.contains(&format!("`{host}`: 2 of 2 workers are there")), "{sentence}");
    }
    // Room on one of them is enough.
    scene.let_go(1);
    let last = scene.bench.running(seventh, "the seventh to wait", |build| build.has_step("wait"));
    assert_eq!(scene.host_of(&last), 1);
    (0..3).for_each(|host| scene.let_go(host));
    scene.succeed(&requests);
    scene.assert_nothing_left();
}

#[test]
fn hosts_that_hang_are_drained_or_die_hold_up_none_of_the_others() {
    let Some(mut scene) = Scene::new() else { return };
    // Drained: the build that runs there ends by itself, and the next ones go elsewhere.
    let first = scene.start(1);
    let at = scene.waiting(1).remove(0);
    let drained = scene.host_of(&at);
    scene.drain(&[NAMES[drained]]);
    let others = scene.start(4);
    scene.waiting(5);
    let mut expected = [2, 2, 2];
    expected[drained] = 1;
    assert_eq!(scene.spread(), expected);
    (0..3).for_each(|host| scene.let_go(host));
    scene.succeed(&first);
    scene.succeed(&others);
    scene.drain(&[]);
    // It hangs: what would have gone there goes elsewhere, within what its silence takes to be noticed.
    let frozen = scene.hosts[0].freeze();
    let began = Instant::now();
    let requests = scene.start(4);
    let ended = {
        let api = &scene.bench.api;
        let over = |request: &i64| api.get(&format!("/requests/{request}"))["state"] == "done";
        wait::until_true("builds to end on the other hosts", wait::A_BUILD * 2, || {
            [1, 2].into_iter().for_each(|host| scene.let_go(host));
            requests.iter().all(over)
        });
        scene.succeed(&requests)
    };
    eprintln!("four builds beside a host that hangs: {:?}", began.elapsed());
    assert!(ended.iter().all(|build| scene.host_of(build) != 0));
    drop(frozen);
    // It dies with a build on it: another host has the next attempt.
    let doomed = scene.start(1);
    let at = scene.waiting(1).remove(0);
    let dead = scene.host_of(&at);
    // The daemon first, so that it cannot be given the next attempt.
    let docker = scene.hosts[dead].docker();
    let ids = docker.run(&["ps", "--quiet"]);
    let containers: Vec<i32> = ids.split_whitespace().filter_map(|id| docker.first_process(id)).collect();
    scene.hosts[dead].kill9();
    containers.into_iter().for_each(processes::kill9);
    let next = scene
        .bench
        .running(doomed[0], "the next attempt", |build| build.id() != at.id() && build.has_step("wait"));
    assert_ne!(scene.host_of(&next), dead);
    (0..3).filter(|host| *host != dead).for_each(|host| scene.let_go(host));
    scene.succeed(&doomed);
    scene.hosts[dead].spawn();
    scene.hosts[dead].wait_until_it_answers();
    scene.assert_nothing_left();
}

#[test]
fn a_host_by_ssh_needs_a_key_and_is_never_taken_for_another() {
    let Some(mut lan) = Lan::new() else { return };
    let registry = Registry::start(lan.here());
    let scratch = Scratch::new();
    let daemon = Dockerd::on(&mut lan, registry.address(), scratch.path());
    let sshd = Sshd::on(daemon.host(), daemon.docker().host());
    let image = format!("{}/app:main", registry.address());
    publish(daemon.docker(), &image, "ssh");
    let agents = lan.free_address();
    let config = format!(
        "server: {{agents: {{advertise: {{boxes: '{agents}'}}}}}}\nproviders:\n  far: {{docker: {{host: 'ssh://root@{}'}}}}\n\
         pools:\n  boxes: {{docker: {{image: '{image}'}}}}\nbuilders:\n  build: {{steps: [{{run: 'echo $SAYS'}}]}}\n",
        daemon.host().address
    );
    let path = format!("{}:{}", sshd.client().display(), std::env::var("PATH").expect("there is one"));
    let options = Options {
        flags: vec!["--agents-listen".into(), agents],
        environment: vec![("PATH".into(), path)],
        ..Options::default()
    };
    let mut bench = Bench::within(scratch, &config, options);
    // Nobody has said yet that this is the host; and nobody is asked.
    let request = bench.start("build");
    let said = explained(&bench.api, request, "the host not to be known", |explained| {
        let failures = explained["failures"].as_array()?;
        failures.last()?["message"].as_str().map(str::to_owned)
    });
    assert!(said.contains("ssh: ") && said.contains("Host key verification failed"), "{said}");
    sshd.introduce();
    let build = bench.ended(request);
    build.must_be("success");
    assert!(build.text(build.steps()[0]["name"].as_str().expect("a name")).contains("ssh"));
    wait::until_true("its container to go", wait::A_BUILD, || {
        daemon.docker().run(&["ps", "--all", "--quiet"]).trim().is_empty()
    });
    // Its connections end with the master, also where it is killed.
    bench.master.kill9();
    let far = daemon.host().address.to_string();
    wait::until_true("the master's ssh to end", wait::SOON, || {
        !processes::all().any(|seen| seen.command.contains("dial-stdio") && seen.command.contains(&far))
    });
}
