//! What a command is given and what comes out of it.

use std::fs;

use rouse_agent_protocol::{Channel, CommandId, FailureClass, OutcomeKind, Program};
use sha2::{Digest, Sha256};

use crate::agents::Agent;
use crate::rig::{Rig, argv, run, sh, sh_with};

fn message(kind: &OutcomeKind) -> &str {
    match kind {
        OutcomeKind::CouldNotStart { message } | OutcomeKind::Failed { message, .. } => message,
        other => panic!("expected a message, got {other:?}"),
    }
}

pub async fn arguments_arrive_as_they_are(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let words = ["printf", "[%s]", "a b", "$(reboot)", "';id", "", "*", "ü\n"];
    let outcome = link.succeed(argv(1, &words)).await;
    assert_eq!(rig.text(1), "[a b][$(reboot)][';id][][*][ü\n]");
    assert!(link.started.contains(&CommandId(1)) || outcome.started_us > 0);
    assert!(outcome.started_us <= outcome.finished_us && outcome.started_wall_us <= outcome.finished_wall_us);
    assert!(outcome.max_rss_bytes.is_some_and(|bytes| bytes > 10_000) && outcome.cpu_us.is_some());
    assert!(!outcome.oom_killed);
}

pub async fn scripts_run_by_their_interpreter_and_leave_no_file(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let text =
        format!("#{}\necho \"$0\" | sed 's,.*/,,' > name\necho one\nfalse\necho two\n", "x".repeat(300_000));
    assert_eq!(link.outcome(sh(1, &text)).await.kind, OutcomeKind::Exited { code: 1 });
    assert_eq!(rig.text(1), "one\n");
    let found: Vec<_> = walk(rig.dir.path()).into_iter().filter(|f| f.contains("script")).collect();
    assert!(found.is_empty(), "{found:?}");
    let perl = Program::Script {
        interpreter: vec!["awk".into(), "-f".into()],
        text: "BEGIN { print 6 * 7 }".into(),
    };
    link.succeed(run(2, perl, |_| {})).await;
    assert_eq!(rig.text(2), "42\n");
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let below = if entry.file_type().unwrap().is_dir() { walk(&entry.path()) } else { Vec::new() };
            below.into_iter().chain([entry.path().to_string_lossy().into_owned()])
        })
        .collect()
}

pub async fn the_environment_is_the_images_less_the_persons_plus_the_masters(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let command = sh_with(5, "env | sort", |run| {
        run.env.insert("ADDED".into(), Some("it's \"here\"".into()));
        run.env.insert("LANG".into(), None);
        run.env.insert("PATH".into(), Some("/usr/bin:/bin:/opt".into()));
    });
    link.succeed(command).await;
    let text = rig.text(5);
    let lines: Vec<&str> = text.lines().collect();
    let has = |line: &str| lines.contains(&line);
    assert!(
        has("ADDED=it's \"here\"")
            && has("OF_THE_IMAGE=kept")
            && has("CI=true")
            && has("PATH=/usr/bin:/bin:/opt")
    );
    assert!(has(&format!("HOME={}", rig.join.work_dir)), "there is no other home: {text}");
    assert!(has("ROUSE_COMMAND=5") && has(&format!("ROUSE_WORKER={}", rig.join.worker)));
    assert!(!text.contains("USER=") && !text.contains("LANG="));
}

pub async fn the_directory_is_made_and_does_not_leave(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    link.succeed(sh_with(1, "pwd; ln -s / out", |run| run.cwd = "a/b".into())).await;
    assert_eq!(rig.text(1).trim(), rig.work("a/b").to_str().unwrap());
    for (id, cwd) in [(2, "../x"), (3, "/tmp"), (4, "a/b/out/tmp")] {
        let outcome = link.outcome(sh_with(id, "pwd", |run| run.cwd = cwd.into())).await;
        assert!(message(&outcome.kind).contains(cwd), "{:?}", outcome.kind);
    }
}

pub async fn exit_codes_and_signals(agent: Agent) {
    let (_rig, mut link) = Rig::attached(agent).await;
    for (id, code) in [(1, 0), (2, 1), (3, 77), (4, 255)] {
        assert_eq!(link.outcome(sh(id, &format!("exit {code}"))).await.kind, OutcomeKind::Exited { code });
    }
    for (id, signal) in [(5, 9), (6, 15), (7, 6)] {
        let outcome = link.outcome(sh(id, &format!("kill -{signal} $$"))).await;
        assert_eq!(outcome.kind, OutcomeKind::Signalled { signal });
    }
    // Signals are as the system has them, not as the agent does: a writer to a closed pipe dies.
    let outcome = link.outcome(sh(8, "(yes; echo $? >&2) | head -n 1")).await;
    assert_eq!(outcome.kind, OutcomeKind::Exited { code: 0 });
}

pub async fn channels_stand_apart_and_input_is_empty(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    link.succeed(sh(1, "echo out; echo err >&2; wc -c; tty || true")).await;
    assert_eq!(rig.channel(1, Channel::Out), "out\n0\nnot a tty\n");
    assert_eq!(rig.channel(1, Channel::Err), "err\n");
}

pub async fn a_terminal_is_one(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let script = "test -t 0 && test -t 1 && test -t 2 && echo is a terminal\nstty size\necho $TERM\necho to tty > /dev/tty";
    link.succeed(sh_with(1, script, |run| run.tty = true)).await;
    let text = rig.channel(1, Channel::Pty).replace("\r\n", "\n");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[2], lines[3]), ("is a terminal", "xterm-256color", "to tty"), "{text}");
    assert_ne!(lines[1], "0 0");
}

pub async fn bytes_pass_as_they_come(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let all: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    fs::create_dir_all(&rig.join.work_dir).unwrap();
    fs::write(rig.work("blob"), &all).unwrap();
    link.succeed(sh(1, "cat blob; printf '\\377\\376 half a sign: \\303'")).await;
    let mut expected = all;
    expected.extend_from_slice(b"\xff\xfe half a sign: \xc3");
    assert!(rig.bytes(1) == expected);
}

pub async fn a_line_of_100_megabytes(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    // Not a repetition, so that a piece out of place shows.
    let script = "awk 'BEGIN { for (i = 0; i < 12500000; i++) printf \"%07d,\", i % 10000000 }' | tee line";
    link.succeed(sh(1, script)).await;
    let bytes = rig.bytes(1);
    assert_eq!(bytes.len(), 100_000_000);
    let expected = Sha256::digest(fs::read(rig.work("line")).unwrap());
    assert!(Sha256::digest(&bytes) == expected);
}

pub async fn what_is_missing_is_named(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let missing = Program::Script { interpreter: vec!["no-such-shell".into()], text: "echo".into() };
    let kind = link.outcome(run(1, missing, |_| {})).await.kind;
    let OutcomeKind::CouldNotStart { message } = &kind else { panic!("{kind:?}") };
    assert!(message.contains("no-such-shell") && message.contains("image"), "{message}");
    fs::write(rig.work("plain"), "not a program").unwrap();
    fs::write(rig.work("odd"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(rig.work("odd"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["no-such-program", "x"], "no-such-program"),
        (&["./plain"], "plain"),
        (&["./odd"], "/no/such/interpreter"),
        (&["/no/such/file"], "/no/such/file"),
        (&[], "empty"),
    ];
    for (id, (words, named)) in (2..).zip(cases) {
        let kind = link.outcome(argv(id, words)).await.kind;
        let OutcomeKind::CouldNotStart { message } = &kind else { panic!("{kind:?}") };
        assert!(message.contains(named), "{message}");
    }
}

pub async fn commands_run_beside_each_other(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    // Each waits for the other.
    link.run(sh(1, "touch one; while test ! -e two; do sleep 0.01; done; echo 1")).await;
    link.run(sh(2, "touch two; while test ! -e one; do sleep 0.01; done; echo 2")).await;
    assert_eq!(link.finished(1).await.kind, OutcomeKind::Exited { code: 0 });
    assert_eq!(link.finished(2).await.kind, OutcomeKind::Exited { code: 0 });
    assert_eq!((rig.text(1), rig.text(2)), ("1\n".into(), "2\n".into()));
}

pub async fn nonsense_in_the_environment_is_the_users_failure(agent: Agent) {
    let (_rig, mut link) = Rig::attached(agent).await;
    let outcome =
        link.outcome(sh_with(1, "true", |run| drop(run.env.insert("A=B".into(), Some("x".into()))))).await;
    assert!(message(&outcome.kind).contains("A=B"));
    assert!(!matches!(outcome.kind, OutcomeKind::Failed { class: FailureClass::Infrastructure, .. }));
}
