//! Many projects' images on shared hosts: all builds end green in whatever order they come, no host takes more than it has, and little time is lost;
//! also while one host is killed and another one frozen. A run usually takes a part; `--soak` takes 70 images and 300 builds.

use std::time::{Duration, Instant};

use rouse_testkit::chance::{Dice, soak};
use serde_json::{Value, json};

use crate::harness::{Bench, Dockerd, Lan, Options, Registry, Scratch, wait};

const NAMES: [&str; 3] = ["b1", "b2", "b3"];
/// Each worker is promised a GiB.
const ROOM: usize = 4;

struct Size {
    images: u64,
    builds: usize,
    sleep: Duration,
}

impl Size {
    fn of_this_run() -> Self {
        let (images, builds, sleep) = if soak() { (70, 300, 15) } else { (6, 18, 2) };
        Self { images, builds, sleep: Duration::from_secs(sleep) }
    }

    /// No order of the builds takes less.
    fn best(&self) -> Duration {
        let rounds = self.builds.div_ceil(NAMES.len() * ROOM);
        self.sleep * u32::try_from(rounds).expect("few")
    }
}

struct Scene {
    // In this order: the master ends before its hosts, and these before their network.
    bench: Bench,
    hosts: Vec<Dockerd>,
    size: Size,
    dice: Dice,
    _registry: Registry,
    _lan: Lan,
}

impl Scene {
    fn new() -> Option<Self> {
        let mut lan = Lan::new()?;
        let registry = Registry::start(lan.here());
        let scratch = Scratch::new();
        let hosts: Vec<Dockerd> =
            NAMES.iter().map(|_| Dockerd::on(&mut lan, registry.address(), scratch.path())).collect();
        let size = Size::of_this_run();
        for n in 0..size.images {
            let image = hosts[0].docker().busybox(&[&format!("ENV IMAGE={n}")]);
            image.push_as(&format!("{}/project-{n}:main", registry.address()));
        }
        let tls = lan.tls();
        let account = |host: &Dockerd| json!({"docker": {"host": host.address(), "tls": tls, "memory": format!("{ROOM} GiB")}});
        let providers: String =
            NAMES.iter().zip(&hosts).map(|(name, host)| format!("  {name}: {}\n", account(host))).collect();
        let agents = lan.free_address();
        let config = format!(
            "server: {{agents: {{advertise: {{boxes: '{agents}'}}}}}}\nproviders:\n{providers}\
             pools:\n  boxes:\n    docker: {{on: [b1, b2, b3], image: '{}/project-{{{{ props.n }}}}:main', memory: 1 GiB}}\n    max: 100\n\
             builders:\n  build:\n    steps:\n      - {{name: image, run: 'test \"$IMAGE\" = {{{{ props.n }}}}'}}\n      \
             - {{name: work, run: sleep {}}}\n",
            registry.address(),
            size.sleep.as_secs()
        );
        let options = Options { flags: vec!["--agents-listen".into(), agents], ..Options::default() };
        let bench = Bench::within(scratch, &config, options);
        Some(Self { bench, hosts, size, dice: Dice::of(7), _registry: registry, _lan: lan })
    }

    /// Starts them all, each of an image that chance names.
    fn start(&mut self, builds: usize) -> Vec<i64> {
        let mut start = |_| {
            let n = self.dice.below(self.size.images).to_string();
            self.bench.start_with("build", &json!({"properties": {"n": n}}))
        };
        (0..builds).map(&mut start).collect()
    }

    /// Waits for the end of all, and looks meanwhile that no host has more than it can bear.
    fn until_over(&self, requests: &[i64]) {
        let api = &self.bench.api;
        wait::until_true("all builds to end", self.size.best() * 3 + wait::A_BUILD * 2, || {
            let workers = api.list("/workers");
            for name in NAMES {
                let there = workers.iter().filter(|w| w["provider"] == name && w["phase"] != "gone").count();
                assert!(there <= ROOM, "{name} has {there} workers");
            }
            let open = api.get("/requests?state=queued&limit=1")["items"].as_array().map_or(0, Vec::len)
                + api.get("/requests?state=claimed&limit=1")["items"].as_array().map_or(0, Vec::len);
            std::thread::sleep(Duration::from_millis(200));
            open == 0
        });
        for request in requests {
            let ended: Value = api.get(&format!("/requests/{request}"));
            assert_eq!(ended["result"], "success", "{ended:#}");
        }
    }
}

#[test]
fn many_images_on_shared_hosts() {
    let Some(mut scene) = Scene::new() else { return };
    let began = Instant::now();
    let requests = scene.start(scene.size.builds);
    scene.until_over(&requests);
    let (took, best) = (began.elapsed(), scene.size.best());
    let ratio = took.as_secs_f64() / best.as_secs_f64();
    eprintln!("{} builds took {took:?}, {ratio:.2} of the {best:?} that no order goes below", requests.len());
    // Where sleeps are short the launches count for more, and other tests run beside this one.
    assert!(!soak() || ratio <= 1.25, "{ratio:.2}");

    // One host is killed under its builds, and another one stands still for a while.
    let requests = scene.start(scene.size.builds / 2);
    scene.bench.api.until("builds to run", "/builds?open=true&limit=500", wait::A_BUILD, |builds| {
        (builds["items"].as_array()?.len() >= 2 * ROOM).then_some(())
    });
    let frozen = scene.hosts[1].freeze();
    let containers = scene.hosts[0].docker().run(&["ps", "--quiet"]);
    scene.hosts[0].kill9();
    // Its machine takes its processes with it.
    scene.hosts[0].end_what_is_left();
    // So long.
    std::thread::sleep(scene.size.sleep);
    drop(frozen);
    scene.hosts[0].spawn();
    scene.hosts[0].wait_until_it_answers();
    assert!(!containers.trim().is_empty());
    scene.until_over(&requests);
}
