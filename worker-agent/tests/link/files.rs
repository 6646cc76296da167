//! Files by HTTP beside the link, and paths. What comes from the other side is not trusted.

use std::fs;
use std::os::unix::fs::symlink;

use rouse_agent_protocol::{
    ARCHIVES, Action, Command, CommandId, Download, EntryKind, FailureClass, OutcomeKind, Pack, PathOp,
    Paths, ToAgent, Unpack, Upload,
};
use sha2::{Digest, Sha256};

use crate::agents::Agent;
use crate::file_server::TOKEN;
use crate::rig::{Rig, command, sh, until};

fn upload(id: i64, base_dir: &str, paths: &[&str]) -> Command {
    command(
        id,
        Action::Upload(Upload {
            paths: paths.iter().map(|p| (*p).to_owned()).collect(),
            base_dir: base_dir.to_owned(),
            url_path: "/files/up".into(),
            token: TOKEN.into(),
            max_bytes: 1 << 30,
            optional: false,
            direct: false,
            pack: None,
        }),
    )
}

fn download(id: i64, from: &str, to: &str, adjust: impl FnOnce(&mut Download)) -> Command {
    let mut download = Download {
        url_path: format!("/files/{from}"),
        token: TOKEN.into(),
        to: to.to_owned(),
        unpack: Unpack::None,
        sha256: None,
        clean: false,
        direct: false,
    };
    adjust(&mut download);
    command(id, Action::Download(download))
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn noise(length: usize) -> Vec<u8> {
    let mut x: u32 = 12345;
    std::iter::repeat_with(|| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    })
    .take(length)
    .collect()
}

#[track_caller]
fn failed(kind: &OutcomeKind, class: FailureClass) -> &str {
    match kind {
        OutcomeKind::Failed { message, class: got } if *got == class => message,
        other => panic!("expected a failure of class {class:?}, got {other:?}"),
    }
}

pub async fn files_arrive_with_their_names_and_sums(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    fs::create_dir_all(rig.work("dist/sub")).unwrap();
    fs::write(rig.work("dist/a b#?.txt"), "one").unwrap();
    fs::write(rig.work("dist/sub/empty"), "").unwrap();
    fs::write(rig.work("dist/skip.log"), "no").unwrap();
    let outcome = link.outcome(upload(1, "dist", &["*.txt", "sub"])).await;
    let OutcomeKind::Transferred { files } = &outcome.kind else { panic!("{:?}", outcome.kind) };
    let shown: Vec<_> = files.iter().map(|f| (f.path.as_str(), f.size, f.sha256.clone())).collect();
    assert_eq!(shown, [("a b#?.txt", 3, digest(b"one")), ("sub/empty", 0, digest(b""))]);
    let got = &rig.files.lock().unwrap().got;
    assert_eq!(got.keys().collect::<Vec<_>>(), ["/files/up/a%20b%23%3F.txt", "/files/up/sub/empty"]);
    assert_eq!(got["/files/up/a%20b%23%3F.txt"], b"one");
}

pub async fn an_upload_that_breaks_goes_on_where_it_was(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let bytes = noise(3_000_000);
    fs::write(rig.work("big"), &bytes).unwrap();
    {
        let mut files = rig.files.lock().unwrap();
        files.breaks = 2;
        files.refusals = vec![(503, "starting")];
    }
    let outcome = link.outcome(upload(1, "", &["big"])).await;
    assert!(matches!(outcome.kind, OutcomeKind::Transferred { .. }), "{:?}", outcome.kind);
    let files = rig.files.lock().unwrap();
    assert!(files.got["/files/up/big"] == bytes);
    assert!(files.log.iter().any(|line| line.contains("bytes 100000-2999999/3000000")), "{:?}", files.log);
}

pub async fn uploads_that_must_not_be_are_refused(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    fs::write(rig.work("x"), vec![0; 1000]).unwrap();
    symlink("/etc/passwd", rig.work("link")).unwrap();
    symlink("/etc", rig.work("dir")).unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["../x"], ".."),
        (&["/etc/passwd"], "absolute"),
        (&["link"], "out"),
        (&["dir/passwd"], "link"),
        (&["none*"], "matches no file"),
    ];
    for (id, (paths, says)) in (1..).zip(cases) {
        let outcome = link.outcome(upload(id, "", paths)).await;
        assert!(failed(&outcome.kind, FailureClass::User).contains(says), "{:?}", outcome.kind);
    }
    let mut small = upload(10, "", &["x"]);
    if let Action::Upload(upload) = &mut small.action {
        upload.max_bytes = 999;
    }
    assert!(failed(&link.outcome(small).await.kind, FailureClass::User).contains("999"));
    let mut optional = upload(11, "", &["none*"]);
    if let Action::Upload(upload) = &mut optional.action {
        upload.optional = true;
    }
    assert_eq!(link.outcome(optional).await.kind, OutcomeKind::Transferred { files: vec![] });
    rig.files.lock().unwrap().refusals = vec![(413, "the build has used its share"), (403, "not yours")];
    assert!(
        failed(&link.outcome(upload(12, "", &["x"])).await.kind, FailureClass::Infrastructure)
            .contains("not yours")
    );
    assert_eq!(
        failed(&link.outcome(upload(13, "", &["x"])).await.kind, FailureClass::User),
        "the build has used its share"
    );
    assert!(rig.files.lock().unwrap().got.is_empty());
}

pub async fn a_download_that_breaks_goes_on_where_it_was(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let bytes = noise(2_000_000);
    for (id, no_ranges) in [(1, false), (2, true)] {
        {
            let mut files = rig.files.lock().unwrap();
            files.offered.insert("/files/x".into(), bytes.clone());
            (files.breaks, files.no_ranges) = (2, no_ranges);
        }
        let command = download(id, "x", &format!("in/x{id}"), |d| d.sha256 = Some(digest(&bytes)));
        let outcome = link.outcome(command).await;
        let OutcomeKind::Transferred { files } = &outcome.kind else { panic!("{:?}", outcome.kind) };
        assert_eq!((files[0].size, files[0].sha256.clone()), (2_000_000, digest(&bytes)));
        assert!(fs::read(rig.work(&format!("in/x{id}"))).unwrap() == bytes);
    }
    assert!(rig.files.lock().unwrap().log.iter().any(|line| line.ends_with("bytes=100000-")));
    assert_eq!(fs::read_dir(rig.work("in")).unwrap().count(), 2, "nothing unfinished is left");
}

pub async fn downloads_that_must_not_be_are_refused(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    rig.files.lock().unwrap().offered.insert("/files/x".into(), b"12345".to_vec());
    symlink(rig.dir.path(), rig.work("out")).unwrap();
    for (id, to) in [(1, "../x"), (2, "/tmp/x"), (3, "out/x")] {
        let outcome = link.outcome(download(id, "x", to, |_| {})).await;
        failed(&outcome.kind, FailureClass::User);
    }
    assert!(!rig.dir.path().join("x").exists());
    let outcome = link.outcome(download(4, "x", "x", |d| d.sha256 = Some(digest(b"other")))).await;
    assert!(failed(&outcome.kind, FailureClass::Infrastructure).contains("SHA-256"));
    let outcome = link.outcome(download(5, "none", "x", |_| {})).await;
    assert!(failed(&outcome.kind, FailureClass::Infrastructure).contains("no such file"));
    assert!(!rig.work("x").exists());
}

fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        // Past the writer's own checks.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        let link = kind.is_symlink() || kind.is_hard_link();
        if link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let body = if link { "" } else { content };
        header.set_size(body.len() as u64);
        if let (true, Some(gnu)) = (kind.is_gnu_sparse(), header.as_gnu_mut()) {
            gnu.realsize = *b"00000000000\0";
        }
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub async fn archives_are_unpacked_and_clean_leaves_nothing_old(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let filler = "x".repeat(400_000);
    let archive = tar_of(&[
        ("bin/run", tar::EntryType::Regular, "#!/bin/sh\necho ran"),
        ("bin/again", tar::EntryType::Symlink, "run"),
        ("filler", tar::EntryType::Regular, &filler),
    ]);
    {
        let mut files = rig.files.lock().unwrap();
        files.offered.insert("/files/tree".into(), archive.clone());
        files.breaks = 2;
    }
    fs::create_dir_all(rig.work("src/old")).unwrap();
    let command = download(1, "tree", "src", |d| {
        (d.unpack, d.clean, d.sha256) = (Unpack::Tar, true, Some(digest(&archive)))
    });
    let outcome = link.outcome(command).await;
    assert!(matches!(outcome.kind, OutcomeKind::Transferred { .. }), "{:?}", outcome.kind);
    assert!(!rig.work("src/old").exists());
    assert_eq!(fs::read_to_string(rig.work("src/filler")).unwrap(), filler);
    link.succeed(sh(2, "src/bin/again")).await;
    assert_eq!(rig.text(2), "ran\n");
}

pub async fn archives_that_lead_out_are_refused(agent: Agent) {
    use tar::EntryType::{Char, GNUSparse, Link, Regular, Symlink};
    let (rig, mut link) = Rig::attached(agent).await;
    fs::create_dir_all(rig.work("src")).unwrap();
    let cases: [&[(&str, tar::EntryType, &str)]; 9] = [
        &[("../x", Regular, "bad")],
        &[("/tmp/rouse-x", Regular, "bad")],
        &[("l", Symlink, "/etc/passwd")],
        &[("l", Symlink, "../../x")],
        &[("l", Symlink, "."), ("m", Symlink, "l/../x")],
        &[("d", Symlink, "e"), ("d/x", Regular, "bad")],
        &[("h", Link, "../x")],
        &[("c", Char, "")],
        &[("holes", GNUSparse, "")],
    ];
    for (id, entries) in (1..).zip(cases) {
        rig.files.lock().unwrap().offered.insert("/files/t".into(), tar_of(entries));
        let outcome =
            link.outcome(download(id, "t", "src", |d| (d.unpack, d.clean) = (Unpack::Tar, true))).await;
        let message = failed(&outcome.kind, FailureClass::User);
        let named = entries.last().unwrap().0;
        assert!(message.contains(named), "{message}");
    }
    assert!(!rig.work("x").exists() && !rig.dir.path().join("x").exists());
}

pub async fn a_folder_travels_as_one_archive(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    // Those that do not know archives do not say so, and are asked for none.
    assert_eq!(link.hello.features.iter().any(|feature| feature == ARCHIVES), agent.is_ours());
    if !agent.is_ours() {
        return;
    }
    fs::create_dir_all(rig.work("cache/deep/empty")).unwrap();
    fs::write(rig.work("cache/deep/file"), noise(300_000)).unwrap();
    symlink("/usr/bin/true", rig.work("cache/tool")).unwrap();
    let packed = |id, dir: &str, known: Option<&str>| {
        let mut command = upload(id, dir, &["archive"]);
        if let Action::Upload(upload) = &mut command.action {
            upload.pack = Some(Pack { known: known.map(str::to_owned) });
        }
        command
    };
    let OutcomeKind::Transferred { files } = link.outcome(packed(1, "cache", None)).await.kind else {
        panic!()
    };
    let bytes = rig.files.lock().unwrap().got.remove("/files/up/archive").unwrap();
    assert_eq!((files.len(), files[0].size, &files[0].sha256), (1, bytes.len() as u64, &digest(&bytes)));
    // What the master has is not sent again, and what is not there is no failure.
    let again = link.outcome(packed(2, "cache", Some(&files[0].sha256))).await.kind;
    assert_eq!(again, OutcomeKind::Transferred { files: files.clone() });
    let none = link.outcome(packed(3, "cache/none", None)).await.kind;
    assert_eq!(none, OutcomeKind::Transferred { files: vec![] });
    assert!(rig.files.lock().unwrap().got.is_empty());
    let mut small = packed(4, "cache", None);
    if let Action::Upload(upload) = &mut small.action {
        upload.max_bytes = 1000;
    }
    assert!(failed(&link.outcome(small).await.kind, FailureClass::User).contains("more than may be kept"));

    rig.files.lock().unwrap().offered.insert("/files/x".into(), bytes.clone());
    fs::create_dir(rig.work("back")).unwrap();
    fs::write(rig.work("back/old"), "").unwrap();
    let fetched = download(5, "x", "back", |d| {
        (d.unpack, d.clean, d.sha256) = (Unpack::Archive, true, Some(digest(&bytes)));
    });
    let outcome = link.outcome(fetched).await;
    assert!(matches!(outcome.kind, OutcomeKind::Transferred { .. }), "{:?}", outcome.kind);
    assert!(fs::read(rig.work("back/deep/file")).unwrap() == noise(300_000));
    assert!(rig.work("back/deep/empty").is_dir() && !rig.work("back/old").exists());
    assert_eq!(fs::read_link(rig.work("back/tool")).unwrap().to_str(), Some("/usr/bin/true"));
    rig.files.lock().unwrap().offered.insert("/files/x".into(), bytes[..bytes.len() / 2].to_vec());
    let half = link.outcome(download(6, "x", "half", |d| d.unpack = Unpack::Archive)).await;
    failed(&half.kind, FailureClass::Infrastructure);
}

pub async fn a_transfer_can_be_stopped(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    rig.files.lock().unwrap().hang = true;
    link.run(download(1, "x", "x", |_| {})).await;
    until("it asks", || !rig.files.lock().unwrap().log.is_empty()).await;
    link.send(ToAgent::Stop { command: CommandId(1), reason: "enough".into() }).await;
    assert_eq!(link.finished(1).await.kind, OutcomeKind::Stopped { reason: "enough".into() });
}

pub async fn a_transfer_outlives_a_restart_of_the_master(agent: Agent) {
    let (mut rig, mut link) = Rig::attached(agent).await;
    let bytes = noise(500_000);
    {
        let mut files = rig.files.lock().unwrap();
        files.offered.insert("/files/x".into(), bytes.clone());
        files.breaks = 1;
    }
    rig.vanish();
    link.run(download(1, "x", "x", |_| {})).await;
    link.until("it runs", |link| !link.started.is_empty()).await;
    drop(link);
    rig.listen();
    let mut link = rig.attach().await;
    if !matches!(&link.hello.commands[0].state, rouse_agent_protocol::CommandState::Finished(_)) {
        link.finished(1).await;
    }
    assert!(fs::read(rig.work("x")).unwrap() == bytes);
}

pub async fn paths_are_listed_made_and_removed_within(agent: Agent) {
    let (rig, mut link) = Rig::attached(agent).await;
    let outside = rig.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "").unwrap();
    let paths = |id, ops: Vec<PathOp>| command(id, Action::Paths(Paths { ops }));
    let made = vec![
        PathOp::Make { path: "a/b".into() },
        PathOp::Make { path: "a/b".into() },
        PathOp::Remove { path: "none".into() },
        PathOp::List { path: "a".into(), glob: "**".into() },
        PathOp::List { path: "none".into(), glob: String::new() },
    ];
    let kind = link.outcome(paths(1, made)).await.kind;
    let OutcomeKind::PathsDone { listings } = &kind else { panic!("{kind:?}") };
    let entry = &listings[0].entries[0];
    assert_eq!((entry.path.as_str(), entry.kind, listings[1].entries.len()), ("b", EntryKind::Directory, 0));
    symlink(&outside, rig.work("a/out")).unwrap();
    for (id, path) in [(2, "a/out/kept"), (3, "../outside"), (4, "/etc/hostname")] {
        let outcome = link.outcome(paths(id, vec![PathOp::Remove { path: path.into() }])).await;
        assert!(failed(&outcome.kind, FailureClass::User).contains(path));
    }
    link.outcome(paths(5, vec![PathOp::Remove { path: ".".into() }])).await;
    assert_eq!(fs::read_dir(&rig.join.work_dir).unwrap().count(), 0);
    assert!(outside.join("kept").exists());
}
