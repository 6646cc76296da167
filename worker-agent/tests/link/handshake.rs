//! The first words: who is who, and whom an agent refuses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;

use rouse_agent_protocol::{Endpoint, RefusalCode, Refused, ToAgent, VERSION, close, exit};

use crate::agents::Agent;
use crate::rig::{Rig, argv, sh, until};

pub async fn hello_is_signed_and_says_what_the_worker_is(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    let hello = link.hello.clone();
    assert_eq!(hello.version, agent.newest_version());
    assert!(
        hello.facts.cpus > 0 && hello.facts.memory_bytes > 0 && hello.facts.tools.contains(&"sh".to_owned())
    );
    assert!(hello.monotonic_us > 0 && hello.wall_us > 0 && !hello.agent.is_empty());
    assert!(hello.commands.is_empty() && hello.streams.is_empty());
    link.succeed(argv(1, &["true"])).await;
    drop(link);
    let link = rig.attach().await;
    // The same process, so the same key: a token stays bound to it.
    assert_eq!((&link.hello.incarnation, &link.hello.public_key), (&hello.incarnation, &hello.public_key));
    assert_ne!(link.hello.signature, hello.signature);
}

pub async fn another_process_is_another_incarnation(agent: Agent) {
    let (mut rig, link) = Rig::attached(agent).await;
    let first = link.hello.clone();
    let mut agent = rig.agent.take().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    rig.start();
    let link = rig.attach().await;
    assert_ne!(link.hello.incarnation, first.incarnation);
    assert_ne!(link.hello.public_key, first.public_key);
}

pub async fn an_older_master_is_refused_from_the_join_document_on(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.join.store_epoch = 3;
    rig.start();
    for (epoch, term) in [(2, 9), (3, 4)] {
        (rig.store_epoch, rig.term) = (epoch, term);
        let mut socket = rig.next_socket().await;
        let challenge = rig.challenge();
        socket.send(&ToAgent::Challenge(challenge)).await;
        if epoch == 2 {
            assert_eq!(socket.closed().await, Some(close::OLDER_MASTER));
        } else {
            let hello = socket.hello().await;
            let welcome = rig.welcome();
            socket.send(&ToAgent::Welcome(Box::new(welcome))).await;
            assert_eq!(hello.epoch, 3);
        }
    }
    // Now it has seen (3, 4): a lower term, a lower epoch with any term.
    for (epoch, term) in [(3, 3), (2, 100)] {
        (rig.store_epoch, rig.term) = (epoch, term);
        let mut socket = rig.next_socket().await;
        let challenge = rig.challenge();
        socket.send(&ToAgent::Challenge(challenge)).await;
        assert_eq!(socket.closed().await, Some(close::OLDER_MASTER));
    }
    (rig.store_epoch, rig.term) = (4, 1);
    let link = rig.attach().await;
    assert_eq!((link.hello.epoch, link.hello.term), (3, 4));
}

pub async fn a_master_of_another_installation_or_version_is_refused(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.start();
    let mut socket = rig.next_socket().await;
    let mut challenge = rig.challenge();
    challenge.installation = "inst-2".into();
    socket.send(&ToAgent::Challenge(challenge)).await;
    assert_eq!(socket.closed().await, Some(close::WRONG_INSTALLATION));
    let mut socket = rig.next_socket().await;
    let mut challenge = rig.challenge();
    challenge.versions = vec![VERSION + 1];
    socket.send(&ToAgent::Challenge(challenge)).await;
    assert_eq!(socket.closed().await, Some(close::NO_COMMON_VERSION));
    rig.attach().await;
}

pub async fn the_newest_version_that_both_speak_is_spoken(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.start();
    for (id, offered, spoken) in [(1, vec![1], 1), (2, vec![1, 2, 99], agent.newest_version())] {
        rig.versions = offered;
        let mut link = rig.attach().await;
        assert_eq!(link.hello.version, spoken);
        link.succeed(argv(id, &["true"])).await;
    }
}

/// Since version 2: a master that is about to be replaced. Its agent outlives its expiry, and is back as soon as the next one is there.
pub async fn an_agent_whose_master_is_replaced_waits_for_the_next_one(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.start();
    let mut link = rig.attach_with(|_, welcome| welcome.expiry_s = 2.0).await;
    link.socket.send(&ToAgent::Away { for_s: 60.0 }).await;
    link.run(sh(1, "touch begun; until test -e gate; do sleep 0.01; done; echo over")).await;
    until("it runs", || rig.work("begun").exists()).await;
    rig.vanish();
    drop(link);
    let away = std::time::Instant::now();
    until("the expiry is long over", || away.elapsed().as_secs_f64() > 3.5).await;
    assert_eq!(rig.stderr(), "", "what was announced is no trouble to speak of");
    rig.listen();
    let mut link = rig.attach().await;
    fs::write(rig.work("gate"), "").unwrap();
    link.finished(1).await;
    assert_eq!(rig.text(1), "over\n");
}

pub async fn a_refusal_for_good_ends_the_agent_and_another_does_not(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.start();
    for retry in [true, false] {
        let (mut socket, _) = rig.greet().await;
        let message = "the token was used by another agent".to_owned();
        socket.send(&ToAgent::Refused(Refused { code: RefusalCode::TokenBound, message, retry })).await;
    }
    assert_eq!(rig.exit_code().await, exit::REFUSED);
    assert!(rig.stderr().contains("the token was used by another agent"));
}

pub async fn what_is_unknown_is_ignored_and_what_is_malformed_is_not(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    link.socket.send_text(r#"{"sing":{"song":"x"}}"#.into()).await;
    link.socket.send_text(r#"{"heartbeat":{"mood":"good"}}"#.into()).await;
    link.socket.send_binary(vec![77, 1, 2, 3]).await;
    link.succeed(argv(1, &["true"])).await;
    link.socket.send_text("{not json".into()).await;
    assert_eq!(link.socket.closed().await, Some(close::PROTOCOL));
    // The connection is given up, not the work.
    let mut link = rig.attach().await;
    link.succeed(argv(2, &["true"])).await;
}

pub async fn endpoints_are_tried_in_order(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    let second = rig.dir.path().join("second.sock");
    let first = rig.join.endpoints[0].clone();
    let tls = Endpoint::Tls { address: "127.0.0.1:1".into(), ca: String::new() };
    rig.join.endpoints = vec![tls, first, Endpoint::Unix { path: second.to_string_lossy().into_owned() }];
    rig.vanish();
    rig.listen_also(&second);
    rig.start();
    let mut link = rig.attach().await;
    link.succeed(argv(1, &["true"])).await;
}

pub async fn a_socket_may_lie_beside_the_document_and_the_work_folder_may_be_a_flag(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.join.endpoints = vec![Endpoint::Unix { path: "agent.sock".into() }];
    let elsewhere = rig.dir.path().join("elsewhere");
    rig.start_with(|process| {
        process.arg("--work").arg(&elsewhere);
    });
    let mut link = rig.attach().await;
    link.succeed(sh(1, "pwd")).await;
    assert_eq!(rig.text(1).trim(), std::fs::canonicalize(&elsewhere).unwrap().to_str().unwrap());
    assert!(!rig.work("").exists());
}

pub async fn a_master_that_comes_late_is_found(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    rig.vanish();
    rig.start();
    let stderr = rig.dir.path().join("stderr");
    until("the agent says that nobody is there", || fs::metadata(&stderr).is_ok_and(|m| m.len() > 0)).await;
    rig.listen();
    rig.attach().await;
}

pub async fn the_token_is_nowhere_to_be_seen(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    assert!(!rig.join_file().exists(), "the join document is unlinked");
    let token = rig.join.join_token.reveal();
    let cmdline = fs::read(format!("/proc/{}/cmdline", rig.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&cmdline).contains(token));
    link.succeed(sh(
        1,
        "env; tr '\\0' '\\n' < /proc/self/environ; cat /proc/self/cmdline; ls -la \"$HOME\" ..",
    ))
    .await;
    let text = rig.text(1);
    assert!(text.contains("ROUSE_COMMAND=1") && !text.contains(token));
}

pub async fn the_agent_cannot_be_looked_into_by_its_own_user(agent: Agent) {
    let mut rig = Rig::new(agent).await;
    let root = rustix::process::geteuid().is_root();
    if root {
        // The agent as nobody, with everything it needs where nobody can reach it.
        let place = rig.dir.path().join("place");
        std::os::unix::fs::chown(&place, Some(65_534), Some(65_534)).unwrap();
        fs::set_permissions(rig.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        fs::set_permissions(rig.socket_path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let join = rig.join_file();
    rig.start_copy_with(|process| {
        if root {
            process.uid(65_534).gid(65_534);
            std::os::unix::fs::chown(&join, Some(65_534), Some(65_534)).unwrap();
        }
    });
    let mut link = rig.attach().await;
    // The kernel gives the files of a process that must not be dumped to root, whoever runs it.
    let owner = |name: &str| fs::metadata(format!("/proc/{}/{name}", rig.pid())).unwrap().uid();
    assert_eq!((owner("environ"), owner("mem"), owner("maps")), (0, 0, 0));
    // Its commands are ordinary processes.
    let outcome = link.succeed(sh(1, "stat -c %u /proc/$$/environ; id -u")).await;
    assert_eq!(outcome.leftovers, 0);
    let lines = rig.text(1);
    let ids: Vec<&str> = lines.lines().collect();
    assert_eq!(ids[0], ids[1]);
}
