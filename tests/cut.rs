//! The wire between agents and their master is cut, dead, or slow for a while, and then let go: nothing is lost, nothing runs twice, no heartbeat
//! is missed for want of speed, and neither side's memory grows.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Bench, Build, Options, Scratch, Way, Wire, processes, wait, wire};

/// A worker is lost after a minute of silence.
const GRACE: Duration = Duration::from_secs(60);
/// Lines of a build that runs on, ten each second.
const LINES: usize = 450;
const LARGE: u64 = 1 << 30;
/// Bytes a second of a slow wire.
const SLOW: usize = 50_000;

const POOLS: [&str; 4] = ["short", "long", "dead", "slow"];

fn config(workers: &Path, out: &Path) -> String {
    let (workers, out) = (workers.display(), out.display());
    let mut text = format!("providers: {{host: {{local: {{folder: {workers}}}}}}}\npools:\n");
    for pool in POOLS {
        let slots = if pool == "slow" { 2 } else { 1 };
        text.push_str(&format!(
            "  {pool}: {{local: {{}}, max: 2, slots: {slots}, reuse: {{builds: 100, idle: 10m}}}}\n"
        ));
    }
    text.push_str("builders:\n");
    for pool in POOLS {
        // Where the worker of this pool is.
        text.push_str(&format!(
            "  warm-{pool}: {{pool: {pool}, steps: [{{run: 'pwd > {out}/warm-{pool}'}}]}}\n"
        ));
    }
    let counts = |name: &str, pool: &str, lines: usize| {
        format!(
            "  {name}:\n    pool: {pool}\n    steps:\n      - name: count\n        run: |\n          echo ran >> {out}/{name}\n          \
             n=0; while [ $n -lt {lines} ]; do n=$((n + 1)); echo \"line $n\"; sleep 0.1; done\n      \
             - {{name: after, run: 'echo ran >> {out}/{name}'}}\n"
        )
    };
    text.push_str(&counts("cut-for-a-while", "short", LINES));
    text.push_str(&counts("beside", "slow", 2 * LINES));
    text.push_str(&format!(
        "  cut-for-long:\n    pool: long\n    steps:\n      - name: work\n        run: |\n          echo ran >> {out}/cut-for-long\n          \
         if [ \"$(wc -l < {out}/cut-for-long)\" -gt 1 ]; then exit 0; fi\n          sleep 600\n"
    ));
    text.push_str(&format!(
        "  ends-unheard:\n    pool: dead\n    steps:\n      - name: print\n        run: |\n          echo ran >> {out}/ends-unheard\n          \
         until [ -e {out}/go ]; do sleep 0.1; done\n          head -c 2400000 /dev/urandom | base64 > {out}/text; cat {out}/text; echo printed > {out}/printed\n"
    ));
    text.push_str(&format!(
        "  sends:\n    pool: slow\n    steps:\n      - {{name: make, run: 'echo ran >> {out}/sends; truncate -s {LARGE} file; echo end >> file'}}\n      \
         - {{name: send, upload: {{paths: file, as: file}}}}\n"
    ));
    text
}

/// A worker with a wire of its own.
struct Wired {
    wire: Wire,
    agent: i32,
}

/// Makes the wire of the next worker that comes.
fn next_wire(workers: &Path, known: &mut BTreeSet<PathBuf>) -> (Wire, PathBuf) {
    let place = wait::until("a worker's socket", wait::A_BUILD, || {
        // The account has a folder of its own there.
        let accounts = folders(workers);
        let mut places = accounts.iter().flat_map(|account| folders(account));
        places.find(|place| place.join("link/sock").exists() && !known.contains(place))
    });
    known.insert(place.clone());
    (Wire::at(&place.join("link")), place)
}

fn folders(within: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(within).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// A worker for each pool, warm and by a wire.
fn wired(bench: &Bench, workers: &Path, known: &mut BTreeSet<PathBuf>) -> Vec<Wired> {
    let warm = |pool: &&str| {
        let request = bench.start(&format!("warm-{pool}"));
        let (wire, place) = next_wire(workers, known);
        bench.ended(request).must_be("success");
        let work = format!("--work {}", place.display());
        let seen = processes::all().find(|seen| seen.command.contains(&work));
        Wired { wire, agent: seen.unwrap_or_else(|| panic!("no agent of {}", place.display())).pid }
    };
    POOLS.iter().map(warm).collect()
}

fn runs(out: &Path, name: &str) -> usize {
    std::fs::read_to_string(out.join(name)).unwrap_or_default().lines().count()
}

fn counted(build: &Build, lines: usize) {
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1, "{:#}", build.detail);
    let whole: String = (1..=lines).map(|n| format!("line {n}\n")).collect();
    assert_eq!(build.text("count"), whole, "the log is whole");
}

#[test]
fn a_wire_that_is_cut_dead_or_slow_costs_time_and_nothing_else() {
    let scratch = Scratch::new();
    let (out, workers) = (scratch.folder("outside"), scratch.folder("workers"));
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o777)).expect("the folder is ours");
    let names = ["cut-for-a-while", "cut-for-long", "ends-unheard", "beside", "sends"];
    // Each worker has a user of its own.
    for name in names {
        std::fs::write(out.join(name), "").expect("the folder is ours");
        std::fs::set_permissions(out.join(name), std::fs::Permissions::from_mode(0o666))
            .expect("the file is ours");
    }
    let config = config(&workers, &out);
    let binary = Some(wire::binary(&scratch));
    let bench = Bench::within(scratch, &config, Options { binary, ..Options::default() });
    let mut known = BTreeSet::new();
    let all = wired(&bench, &workers, &mut known);
    let [short, long, dead, slow] = &all[..] else { panic!("there is one for each pool") };

    let [while_cut, long_cut, unheard, beside, sends] = names.map(|name| bench.start(name));
    for name in names {
        wait::until_true("all to run", wait::A_BUILD, || runs(&out, name) == 1);
    }
    let attached = |bench: &Bench| bench.master.log().matches("agent attached").count();

    let before = slow.wire.passed();
    wait::until_true("a part of the file to be sent", wait::A_BUILD, || {
        slow.wire.passed() > before + LARGE / 20
    });
    slow.wire.set(Way::Slow(SLOW));
    let (slowed, sent) = (Instant::now(), slow.wire.passed());
    let cut = Instant::now();
    short.wire.set(Way::Cut);
    long.wire.set(Way::Cut);
    dead.wire.set(Way::HalfOpen);
    std::fs::write(out.join("go"), "").expect("the folder is ours");
    let connections = slow.wire.connections();
    let resident = || (processes::resident(bench.master.pid()), processes::resident(slow.agent));
    let (mut most_master, mut most_agent) = resident();
    let (mut let_go, mut let_pass, mut sped_up) = (false, false, false);
    let text = wait::until("what was printed unheard", wait::A_BUILD, || {
        out.join("printed").exists().then(|| std::fs::read(out.join("text")).expect("it is there"))
    });
    while !(let_go && let_pass && sped_up) {
        if !let_go && cut.elapsed() >= Duration::from_secs(30) {
            short.wire.set(Way::Open);
            let_go = true;
        }
        // By now both sides have given the connection up. What comes next takes longer than a seal waits for bytes that do not come.
        if !let_pass && cut.elapsed() >= Duration::from_secs(35) {
            dead.wire.set(Way::Slow(150_000));
            let_pass = true;
        }
        if !sped_up && slowed.elapsed() >= Duration::from_secs(60) {
            let (passed, most) = (slow.wire.passed() - sent, (slowed.elapsed().as_secs() + 5) * SLOW as u64);
            assert!(passed < most, "it was slow: {passed} bytes");
            assert_eq!(slow.wire.connections(), connections, "no side has given up a slow connection");
            slow.wire.set(Way::Open);
            sped_up = true;
        }
        let (master, agent) = resident();
        (most_master, most_agent) = (most_master.max(master), most_agent.max(agent));
        std::thread::sleep(Duration::from_millis(200));
    }

    let build = bench.ended(while_cut);
    counted(&build, LINES);
    assert_eq!(runs(&out, "cut-for-a-while"), 2);

    let build = bench.ended(unheard);
    build.must_be("success");
    assert_eq!(build.detail["attempt"], 1);
    assert!(build.bytes("print") == text, "all {} bytes are there", text.len());
    assert_eq!(runs(&out, "ends-unheard"), 1);

    // The worker is given up, and comes back too late; another one has come for its build.
    let _wire = next_wire(&workers, &mut known);
    let first = bench.api.until(
        "the lost attempt",
        &format!("/builds?request={long_cut}"),
        wait::A_BUILD,
        |builds| builds["items"].as_array()?.iter().find(|build| build["result"] == "retry").cloned(),
    );
    assert!(cut.elapsed() >= GRACE, "not before its time: {:?}", cut.elapsed());
    assert_eq!(first["class"], "agent_lost", "{first:#}");
    long.wire.set(Way::Open);
    let build = bench.ended(long_cut);
    build.must_be("success");
    assert_eq!((build.detail["attempt"].as_i64(), runs(&out, "cut-for-long")), (Some(2), 2));
    assert_eq!(bench.api.list(&format!("/builds?request={long_cut}")).len(), 2);
    assert_ne!(build.detail["worker"]["name"], first["worker"]["name"]);
    wait::until_true("the lost worker's agent to be gone", wait::A_BUILD, || {
        !processes::is_alive(long.agent)
    });

    let build = bench.ended(beside);
    counted(&build, 2 * LINES);
    let build = wait::until("the file to arrive", 2 * wait::A_BUILD, || {
        let (master, agent) = resident();
        (most_master, most_agent) = (most_master.max(master), most_agent.max(agent));
        let builds = bench.api.get(&format!("/builds?request={sends}"));
        let build = bench.build(builds["items"][0]["id"].as_i64()?);
        (!build.detail["result"].is_null()).then_some(build)
    });
    build.must_be("success");
    assert_eq!((build.detail["attempt"].as_i64(), runs(&out, "sends")), (Some(1), 1));
    let artifacts = build.detail["artifacts"].as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(artifacts.len(), 1, "{artifacts:#?}");
    assert_eq!(artifacts[0]["bytes"].as_u64(), Some(LARGE + 4));
    let sha256 = "37e2ebc94e8c945160c0089321e17acead3e13ef2a89752832f7f39b52ca836e";
    assert_eq!(artifacts[0]["sha256"], sha256);
    let megabytes = |bytes: u64| bytes >> 20;
    eprintln!("resident at most: master {} MiB, agent {} MiB", megabytes(most_master), megabytes(most_agent));
    assert!(most_master < 256 << 20, "the master took {} MiB", megabytes(most_master));
    assert!(most_agent < 48 << 20, "the agent took {} MiB", megabytes(most_agent));
    // Each of them once, those that were cut again, and the new worker.
    assert!(attached(&bench) <= POOLS.len() + 6, "{}", attached(&bench));
}
