//! Hosts whose workers cannot reach their master in any way: it opens streams to their agents by its own connection to the daemon, by TLS and by ssh,
//! and by the same way git mirrors come to these hosts. Services stand beside workers there as anywhere.

use serde_json::json;

use crate::harness::{
    Bench, Build, Dockerd, GitRepo, Lan, Options, Registry, Scratch, Sshd, processes, wait,
};

const MEGABYTES: usize = 8;

/// Serves a page, and says who asks for it.
const DB: &str =
    "[sh, -c, 'mkdir /www; echo rows > /www/index.html; touch /ready; exec httpd -f -vv -p 80 -h /www']";

struct Scene {
    // In this order: the master ends before its hosts, and these before their network.
    bench: Bench,
    hosts: Vec<Dockerd>,
    out: std::path::PathBuf,
    _sshd: Sshd,
    _registry: Registry,
    _lan: Lan,
}

impl Scene {
    /// The master listens for nobody but on the loopback.
    fn new() -> Option<Self> {
        let mut lan = Lan::new()?;
        let registry = Registry::start(lan.here());
        let scratch = Scratch::new();
        let hosts: Vec<Dockerd> =
            (0..2).map(|_| Dockerd::on(&mut lan, registry.address(), scratch.path())).collect();
        let image = format!("{}/app:main", registry.address());
        hosts[0].docker().busybox(&[]).push_as(&image);
        let sshd = Sshd::on(hosts[1].host(), hosts[1].docker().host());
        sshd.introduce();
        let repo = GitRepo::with(scratch.path(), "app", &[("file", "from the repository\n")]);
        repo.branch("stranger");
        repo.land("stranger", "a small fix", &[("file", "of a stranger\n")]);
        let tls = lan.tls();
        // All hosts are this machine, and its git is theirs.
        let mounts =
            ["/usr", "/lib", "/lib64"].map(|path| json!({"source": path, "target": path, "readonly": true}));
        let mounts = json!(mounts);
        let served = [("tls", ""), ("ssh", ", network: none")].map(|(host, network)| {
            format!(
                "  served-by-{host}: {{docker: {{on: {host}, image: '{image}'{network}, \
                 services: {{db: {{image: '{image}', ready: [test, -e, /ready], command: {DB}}}}}}}, accepts: any}}\n"
            )
        });
        let served = served.concat();
        // The registry is what can be reached where there is a way out.
        let ask = format!(
            "wget -qO- http://db/; if said=$(echo | nc -w 5 {} 2>&1); then echo a way out; else echo $said; fi",
            registry.address().replace(':', " ")
        );
        // No mirror is filled for these: what a master that is killed leaves of that stays for an hour.
        let asking = ["tls", "ssh"].map(|host| {
            format!(
                "  served-by-{host}: {{pool: served-by-{host}, steps: [{{checkout: {{app: {{by: master}}}}}}, {{name: ask, run: '{ask}'}}]}}\n"
            )
        });
        let asking = asking.concat();
        let config = format!(
            "codebases: {{app: {{git: '{}', branches: main, mirror: always}}}}\nproviders:\n  tls: {{docker: {{host: '{}', tls: {tls}}}}}\n  \
             ssh: {{docker: {{host: 'ssh://root@{}'}}}}\npools:\n  \
             tls: {{docker: {{on: tls, image: '{image}', mounts: {mounts}}}, accepts: any}}\n  ssh: {{docker: {{on: ssh, image: '{image}', mounts: {mounts}, network: none}}, accepts: any}}\n{served}\
             builders:\n  base:\n    template: true\n    caches: {{made: {{path: made}}}}\n    steps:\n      - checkout: app\n      \
             - name: look\n        run: |\n          cat file; ls /sys/class/net\n          mkdir -p made; head -c {MEGABYTES}000000 /dev/urandom > made/file\n          \
             base64 made/file | head -n 20000\n          sha256sum made/file\n      - {{name: keep, upload: {{paths: made/file, as: made}}}}\n      \
             - {{name: wait, run: 'test -z \"$WAITS\" || until [ -e /tmp/go ]; do sleep 0.1; done; echo over'}}\n    \
             env: {{WAITS: '{{{{ props.waits }}}}'}}\n    properties: {{waits: ''}}\n  \
             by-tls: {{like: base, pool: tls}}\n  by-ssh: {{like: base, pool: ssh}}\n{asking}",
            repo.url(),
            hosts[0].address(),
            hosts[1].host().address,
        );
        let path = format!("{}:{}", sshd.client().display(), std::env::var("PATH").expect("there is one"));
        let options = Options { environment: vec![("PATH".into(), path)], ..Options::default() };
        let out = scratch.path().to_owned();
        let bench = Bench::within(scratch, &config, options);
        Some(Self { bench, hosts, out, _sshd: sshd, _registry: registry, _lan: lan })
    }

    fn run(&self, builder: &str, branch: &str) -> Build {
        self.bench.ended(self.bench.start_with(builder, &json!({"sources": [{"branch": branch}]})))
    }

    /// Until both hosts have what the builds before have fetched.
    fn wait_for_mirrors(&self) {
        let file = self.bench.master.state().join("host-mirrors.json");
        wait::until_true("mirrors on both hosts", wait::A_BUILD, || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let all: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            ["tls", "ssh"].iter().all(|host| all[host]["app"]["layers"].as_u64() >= Some(1))
        });
    }

    /// What stands beside workers is reached by its name also where nothing else is, and what it prints is kept.
    fn services_are_there(&self) {
        let wanted = [
            ("served-by-tls", "main", "a way out"),
            ("served-by-ssh", "main", "No route to host"),
            ("served-by-tls", "stranger", "No route to host"),
            ("served-by-ssh", "stranger", "No route to host"),
        ];
        // All at once: a worker that is made for one trust is never made as for the other.
        let requests = wanted.map(|(builder, branch, _)| {
            self.bench.start_with(builder, &json!({"sources": [{"branch": branch}]}))
        });
        for (request, (builder, branch, way)) in requests.into_iter().zip(wanted) {
            let build = self.bench.ended(request);
            build.must_be("success");
            let said = build.text("ask");
            assert!(said.starts_with("rows\n"), "{builder} {branch}: {said}");
            assert!(said.contains(way), "{builder} {branch}: {said}");
            let logs = build.steps()[0]["logs"].as_array().cloned().unwrap_or_default();
            let log = logs.iter().find(|log| log["name"] == "service db");
            let log = log.unwrap_or_else(|| panic!("no log of the service: {:#}", build.detail));
            let printed = self.bench.api.bytes(&format!("/logs/{}/raw", log["id"]));
            assert!(String::from_utf8_lossy(&printed).contains("url:/"), "{builder} {branch}");
        }
    }

    /// All that has travelled is what it was.
    fn is_whole(&self, build: &Build) {
        build.must_be("success");
        let said = build.text("look");
        assert_eq!(said.lines().filter(|line| line.len() == 76).count(), 20_000);
        let to = self.out.join(build.id().to_string());
        self.bench.cli(&["build", "artifacts", &build.id().to_string(), "--to", &to.display().to_string()]);
        let kept = std::fs::read(to.join("made/made/file")).expect("it was kept");
        assert_eq!(kept.len(), MEGABYTES * 1_000_000);
        let sum = hex(&kept);
        assert!(said.contains(&sum), "the file is another than {sum}");
    }
}

fn hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn agents_that_cannot_come_are_gone_to() {
    let Some(mut scene) = Scene::new() else { return };
    for builder in ["by-tls", "by-ssh"] {
        let build = scene.run(builder, "main");
        scene.is_whole(&build);
        assert!(build.text("look").starts_with("from the repository\n"));
        // What follows is random, and may have any word in it.
        let said = build.text("look");
        let links = said.lines().take(10).any(|line| line.contains("eth0"));
        assert_eq!(links, builder == "by-tls", "{said:.200}");
    }
    // Nothing of a stranger's needs a network, so it has none.
    let stranger = scene.run("by-tls", "stranger");
    scene.is_whole(&stranger);
    assert!(stranger.text("look").starts_with("of a stranger\nlo\n"), "{:.200}", stranger.text("look"));

    scene.services_are_there();
    scene.wait_for_mirrors();

    // The master dies under builds, and what passes their streams on after it.
    let wish = json!({"properties": {"waits": "yes"}});
    let requests = ["by-tls", "by-ssh"].map(|builder| scene.bench.start_with(builder, &wish));
    for request in requests {
        scene.bench.running(request, "the last step", |build| build.has_step("wait"));
    }
    scene.bench.master.kill9();
    scene.bench.master.run();
    let relays =
        || processes::all().filter(|seen| seen.command.contains("rouse-agent relay ")).map(|seen| seen.pid);
    let attached = || {
        let workers = scene.bench.api.list("/workers");
        workers.iter().filter(|worker| worker["link"] == "attached").count()
    };
    wait::until_true("the agents to be there again", wait::A_BUILD, || attached() == 2);
    relays().for_each(processes::kill9);
    wait::until_true("the links to break", wait::A_BUILD, || attached() < 2);
    wait::until_true("the agents to be there again", wait::A_BUILD, || attached() == 2);
    for host in &scene.hosts {
        for id in host.docker().run(&["ps", "--quiet"]).split_whitespace() {
            host.docker().run(&["exec", id, "touch", "/tmp/go"]);
        }
    }
    for request in requests {
        let build = scene.bench.ended(request);
        scene.is_whole(&build);
        assert_eq!(build.detail["attempt"], 1);
        assert_eq!(build.text("wait"), "over\n");
        assert!(build.text("checkout").contains("from this host's mirror"), "{}", build.text("checkout"));
    }
    for host in &scene.hosts {
        wait::until_true("all containers to go", wait::A_BUILD, || {
            host.docker().run(&["ps", "--all", "--quiet"]).trim().is_empty()
        });
        wait::until_true("the services' networks to go", wait::A_BUILD, || {
            let networks = host.docker().run(&["network", "ls", "--format", "{{.Name}}"]);
            !networks.lines().any(|name| name.starts_with("rouse-"))
        });
    }
}
