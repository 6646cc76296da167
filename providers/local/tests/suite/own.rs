//! What the local provider promises beyond the contract.

use crate::bench::{Host, kill, processes};
use rouse_contract::conformance::{Bench, Hand, Joins, Of};
use rouse_contract::{LaunchOutcome, ObservedState, Tag};
use rustix::process::geteuid;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A step of a build, as the agent would start one: with the worker's user and environment tag, in a session of its own if it says so.
fn step(host: &Host, tag: &Tag, script: &str) -> Command {
    let agent = host.agents_of(tag)[0];
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", script]).env_clear().current_dir("/");
    if geteuid().is_root() {
        let status = std::fs::read_to_string(format!("/proc/{agent}/status")).expect("the agent");
        let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")).expect("its user");
        let uid = uid.split_whitespace().next().expect("a user").parse().expect("a number");
        command.uid(uid).gid(uid);
    }
    command.env("PATH", "/usr/bin:/bin").env("ROUSE_INSTALLATION", &tag.installation);
    command.env("ROUSE_TOKEN", &tag.token.0);
    command
}

/// Whether an agent has read all that it needs of its folder: its event loop comes last.
fn attends(agent: i32) -> bool {
    let open = std::fs::read_dir(format!("/proc/{agent}/fd")).expect("the agent").flatten();
    open.filter_map(|file| std::fs::read_link(file.path()).ok())
        .any(|file| file == Path::new("anon_inode:[eventpoll]"))
}

fn ran(mut command: Command) -> Output {
    command.output().expect("it runs")
}

#[tokio::test]
async fn a_step_cannot_read_the_masters_state_nor_change_what_is_the_masters() {
    if !geteuid().is_root() {
        return rouse_testkit::back_ends::skip("needs root: only then do workers have users of their own");
    }
    let Some(host) = Host::new(json!({})) else { return };
    let secret = host.state.join("key");
    std::fs::write(&secret, "secret").expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("readable by itself");
    let hand = Hand::new(&host, Of::Ours).await;
    let (one, other) = (hand.tag("one"), hand.tag("other"));
    hand.launched(&one).await;
    hand.launched(&other).await;
    hand.wait_running(&one, 1).await;
    let folder = |tag: &Tag| {
        let link = futures::executor::block_on(hand.provider.link_dir(tag)).expect("made").expect("a folder");
        link.parent().expect("the worker's folder").to_owned()
    };
    let (mine, theirs) = (folder(&one), folder(&other));
    let refused = |script: String| {
        let output = ran(step(&host, &one, &script));
        assert!(!output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stdout));
    };
    refused(format!("cat {}", secret.display()));
    refused(format!("ls {}", host.state.display()));
    refused(format!("cat {}", mine.join("record.json").display()));
    refused(format!("mv {0} {0}.away", mine.join("link").display()));
    refused(format!("rm -f {}", mine.join("link/sock").display()));
    refused(format!("touch {}", mine.join("link/x").display()));
    refused(format!("ls {}", mine.display()));
    refused(format!("ls {}", theirs.join("work").display()));
    refused(format!("cat {}", theirs.join("link/sock").display()));
    refused(format!("ls {}", mine.parent().expect("the base").display()));
    for script in
        ["id -G | grep -qw 0", "test -r /proc/self/status && grep -q '^Groups:.*[0-9]' /proc/self/status"]
    {
        refused(script.into());
    }
    let fine =
        ran(step(&host, &one, &format!("cd {} && touch made && ls ../link", mine.join("work").display())));
    assert!(fine.status.success(), "{}", String::from_utf8_lossy(&fine.stderr));
    hand.clear().await;
}

#[tokio::test]
async fn nothing_of_a_build_outlives_its_worker() {
    let Some(host) = Host::new(json!({})) else { return };
    let hand = Hand::new(&host, Of::Ours).await;
    let tag = hand.tag("daemons");
    let at = hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    let mark = format!("mark-{}", tag.token.0);
    // One in a session of its own with the tag; one without any tag, told by its user alone where it has one.
    let mut marks = vec![step(&host, &tag, "MARK=$0 exec sleep 1000")];
    if geteuid().is_root() {
        marks.push(step(&host, &tag, "exec env -i MARK=$0 sleep 1000"));
    }
    let count = marks.len();
    let mut left: Vec<_> = marks.iter_mut().map(|c| c.arg(&mark).spawn().expect("it runs")).collect();
    let marked = || processes().iter().filter(|p| p.environment.contains(&format!("MARK={mark}"))).count();
    while marked() != count {
        tokio::task::yield_now().await;
    }
    // Where everybody may write, whatever `TMPDIR` says to this test.
    let shared = Path::new("/tmp").join(&mark);
    let made = ran(step(&host, &tag, &format!("mkdir -p {0}/a && chmod 500 {0}/a {0}", shared.display())));
    assert!(made.status.success());
    // The agent itself is dead already: what it left is found without it.
    host.kill(&tag).await;
    hand.provider.terminate(&at).await.expect("terminated");
    for process in &mut left {
        process.wait().expect("ours to wait for");
    }
    assert_eq!(marked(), 0);
    assert_eq!(shared.exists(), !geteuid().is_root(), "files of the worker's own user go too");
    let _ = std::fs::remove_dir_all(&shared);
    hand.clear().await;
}

#[tokio::test]
async fn a_crash_while_the_agent_was_started_is_taken_up_where_it_was() {
    let Some(host) = Host::new(json!({})) else { return };
    let mut hand = Hand::new(&host, Of::Ours).await;
    let tag = hand.tag("spawning");
    let at = hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    let record = record_of(&hand, &tag).await;
    // As if the master had died between the agent's start and the record of it.
    rewind(&record);
    hand.restart();
    let item = hand.prepare(&tag, Joins::InVain).await;
    assert_eq!(hand.launch(&item).await, LaunchOutcome::Accepted { at: at.clone() });
    assert_eq!(host.running(&tag).await, 1);
    // The same, and the agent has died meanwhile: it is not started again.
    rewind(&record);
    host.kill(&tag).await;
    while host.running(&tag).await != 0 {
        tokio::task::yield_now().await;
    }
    hand.restart();
    let outcome = hand.launch(&item).await;
    assert!(matches!(outcome, LaunchOutcome::Died { .. }), "{outcome:?}");
    // The same, and the master died before the agent began: it is started, once.
    rewind(&record);
    std::fs::write(record.with_file_name("pid"), b"").expect("written");
    let left: Vec<_> = hand.listed(&tag).await.into_iter().map(|o| o.state).collect();
    assert_eq!(left, [ObservedState::Resource { kind: "worker folder".into(), keep: false }]);
    let outcome = hand.launch(&hand.prepare(&tag, Joins::InVain).await).await;
    assert!(matches!(&outcome, LaunchOutcome::Accepted { at: new } if *new != at), "{outcome:?}");
    hand.wait_running(&tag, 1).await;
    hand.clear().await;
}

/// Not a test by itself: the master that the next test kills. It launches the worker that it is told of, and says so before.
#[tokio::test]
async fn a_master_that_is_killed() {
    let Ok(told) = std::env::var("ROUSE_SUITE_MASTER") else { return };
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let text = |key: &str| told[key].as_str().expect(key);
    let host = Host::at(Path::new(text("state")), text("id"), json!({})).expect("the agent");
    let hand = Hand::new(&host, Of::Ours).await;
    let tag: Tag = serde_json::from_value(told["tag"].clone()).expect("a tag");
    let item = hand.prepare(&tag, Joins::InVain).await;
    println!("launching");
    hand.launch(&item).await;
    println!("launched");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_master_killed_at_any_moment_of_a_launch_leaves_one_worker_or_none() {
    let Some(host) = Host::new(json!({})) else { return };
    let mut hand = Hand::new(&host, Of::Ours).await;
    let mut late = 0;
    for moment in 0_u64..60 {
        let tag = hand.tag("crash");
        let told = json!({"state": host.state, "id": host.id(), "tag": tag});
        let mut master = Command::new(std::env::current_exe().expect("this test"));
        master.args(["--exact", "own::a_master_that_is_killed", "--nocapture"]);
        master.env("ROUSE_SUITE_MASTER", told.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut master = master.spawn().expect("it runs");
        let mut said = BufReader::new(master.stdout.take().expect("piped")).lines();
        said.find(|line| line.as_ref().is_ok_and(|line| line.ends_with("launching")))
            .expect("it begins")
            .expect("read");
        // A moment that differs each time; whatever it hits must do.
        std::thread::sleep(std::time::Duration::from_micros(moment * 250));
        master.kill().expect("killed");
        master.wait().expect("waited for");
        late += usize::from(said.any(|line| line.is_ok_and(|line| line.ends_with("launched"))));
        hand.restart();
        assert!(host.running(&tag).await <= 1);
        let item = hand.prepare(&tag, Joins::InVain).await;
        let outcome = hand.launch(&item).await;
        let LaunchOutcome::Accepted { at } = outcome else { panic!("{moment}: {outcome:?}") };
        hand.wait_running(&tag, 1).await;
        assert_eq!(hand.listed(&tag).await.len(), 1);
        hand.provider.terminate(&at).await.expect("terminated");
        assert_eq!(host.running(&tag).await, 0);
    }
    eprintln!("{late} of 60 masters came to the end of their launch");
    hand.clear().await;
}

#[tokio::test]
async fn without_its_record_a_worker_is_found_by_its_environment() {
    let Some(host) = Host::new(json!({})) else { return };
    let hand = Hand::new(&host, Of::Ours).await;
    let tag = hand.tag("lost");
    let at = hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    let agent = host.agents_of(&tag)[0];
    while !attends(agent) {
        tokio::task::yield_now().await;
    }
    let record = record_of(&hand, &tag).await;
    let folder = record.parent().expect("the worker's folder");
    std::fs::remove_dir_all(folder).expect("removed");
    let listed = hand.listed(&tag).await;
    assert_eq!(
        listed.iter().map(|o| (&o.at, &o.state)).collect::<Vec<_>>(),
        [(&at, &ObservedState::Running)]
    );
    hand.provider.terminate(&at).await.expect("terminated");
    assert_eq!(host.running(&tag).await, 0);
    hand.clear().await;
}

#[tokio::test]
async fn a_process_id_used_again_is_left_alone() {
    let Some(host) = Host::new(json!({})) else { return };
    let hand = Hand::new(&host, Of::Ours).await;
    let tag = hand.tag("reused");
    let at = hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    let record = record_of(&hand, &tag).await;
    let pid = host.agents_of(&tag)[0];
    kill(pid);
    while host.running(&tag).await != 0 {
        tokio::task::yield_now().await;
    }
    // A stranger has the number now, as far as record and reference say.
    let mut stranger = Command::new("sleep").arg("1000").spawn().expect("it runs");
    let text = std::fs::read_to_string(&record).expect("the record");
    let other = format!("\"pid\":{}", stranger.id());
    std::fs::write(&record, text.replace(&format!("\"pid\":{pid}"), &other)).expect("written");
    let seen = hand.provider.inspect(&at).await.expect("inspected").expect("there");
    assert!(matches!(seen.state, ObservedState::Ended { .. }), "{seen:?}");
    hand.provider.terminate(&at).await.expect("terminated");
    assert!(stranger.try_wait().expect("ours").is_none(), "a stranger was killed");
    stranger.kill().expect("killed");
    stranger.wait().expect("waited for");
    hand.clear().await;
}

#[tokio::test]
async fn the_environment_is_clean_and_the_folders_are_its_own() {
    let Some(host) = Host::new(json!({})) else { return };
    let mut hand = Hand::new(&host, Of::Ours).await;
    hand.spec.options = json!({"env": {"CC": "gcc", "PATH": "/opt/bin:/usr/bin:/bin"}});
    let tag = hand.tag("env");
    hand.launched(&tag).await;
    hand.wait_running(&tag, 1).await;
    let agent = host.agents_of(&tag)[0];
    let found = processes().into_iter().find(|p| p.pid == agent).expect("the agent");
    let get = |name: &str| {
        found
            .environment
            .iter()
            .rev()
            .find_map(|e| e.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    assert_eq!(get("CC").as_deref(), Some("gcc"));
    assert_eq!(get("FROM_SPEC").as_deref(), Some("yes"));
    assert_eq!(get("PATH").as_deref(), Some("/opt/bin:/usr/bin:/bin"));
    assert_eq!(get("CARGO_PKG_NAME"), None, "the master's own is not passed on");
    assert_eq!(get("ROUSE_WORKER").as_deref(), Some(tag.name.as_str()));
    let own = |name: &str| std::fs::metadata(get(name).expect(name)).expect("a folder");
    for name in ["HOME", "TMPDIR"] {
        assert_eq!(own(name).mode() & 0o7777, 0o700, "{name}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{agent}/limits")).expect("its limits");
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).expect("a line");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    hand.clear().await;
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_the_masters_fault() {
    let Some(host) = Host::new(json!({})) else { return };
    let installation = rouse_contract::Installation {
        id: host.installation(Of::Ours),
        store_epoch: 1,
        agents: "/nowhere/agents".into(),
        state: host.state.join("state"),
        many_masters: false,
    };
    std::fs::create_dir(&installation.state).expect("made");
    let mut hand = Hand::new(&host, Of::Ours).await;
    hand.provider = rouse_contract::ProviderKind::connect(
        &rouse_provider_local::LocalKind,
        "local",
        &json!({}),
        &installation,
    )
    .expect("connected");
    let outcome = hand.launch(&hand.prepare(&hand.tag("none"), Joins::InVain).await).await;
    let LaunchOutcome::Invalid { class: rouse_model::failure::FailureClass::Master, reason } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(reason.contains("/nowhere/agents/linux-"), "{reason}");
    hand.clear().await;
}

#[tokio::test]
async fn when_all_users_are_taken_it_is_a_quota() {
    if !geteuid().is_root() {
        return rouse_testkit::back_ends::skip("needs root: only then do workers have users of their own");
    }
    let Some(host) = Host::new(json!({"uids": {"first": 60_770, "count": 1}})) else { return };
    let hand = Hand::new(&host, Of::Ours).await;
    let first = hand.launched(&hand.tag("first")).await;
    let tag = hand.tag("second");
    let refused = hand.provider.link_dir(&tag).await.expect_err("no user is left");
    assert_eq!(refused.class, rouse_model::failure::FailureClass::Quota, "{refused}");
    hand.provider.terminate(&first).await.expect("terminated");
    hand.launched(&tag).await;
    hand.clear().await;
}

async fn record_of(hand: &Hand<'_>, tag: &Tag) -> std::path::PathBuf {
    let link = hand.provider.link_dir(tag).await.expect("a link folder").expect("on this host");
    link.with_file_name("record.json")
}

/// Takes the record back to the moment before the process was written into it.
fn rewind(record: &Path) {
    let text = std::fs::read_to_string(record).expect("the record");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot's id");
    json["stage"] = json!({"spawning": {"boot": boot[..8]}});
    std::fs::write(record, json.to_string()).expect("written");
}

#[tokio::test]
async fn its_shelves_hold_what_was_put_there() {
    let Some(host) = Host::new(json!({})) else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let provider = host.provider(Of::Ours);
    rouse_contract::conformance::shelves(&*provider, scratch.path()).await;
}
